"""Writes picture files with questions: `demo` (one context of large pictures) and `eval` (many small contexts)."""

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from .compose import COLOUR_NAMES, Composer, place, premultiplied
from .config import HELD_OUT_STYLE, LICENCES, TRAINING_STYLES, scratch
from .questions import Question, ask, with_article

DEMO_SEED = 2026
DEMO_SIZES = (512, 400, 320, 256, 192, 160, 480, 360, 300, 224)
DEMO_CONTEXT = 8
EVAL_CONTEXTS, EVAL_IMAGES, EVAL_SIZE = 40, 4, 96


def write_demo(folder: Path) -> None:
    """Ten pictures in the training styles and two in the held-out one; questions over the first eight."""
    composer = Composer(scratch())
    rng = random.Random(DEMO_SEED)
    generator = torch.Generator().manual_seed(DEMO_SEED)
    count = len(DEMO_SIZES) + 2
    concepts = rng.sample(range(len(composer.names)), count)
    styles = [TRAINING_STYLES[i % len(TRAINING_STYLES)] for i in range(len(DEMO_SIZES))] + [HELD_OUT_STYLE] * 2
    colours = [rng.randrange(len(COLOUR_NAMES)) for _ in range(count)]

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "heldout").mkdir(exist_ok=True)
    pairs = scratch() / "demo-icons.json"
    pairs.write_text(json.dumps([[composer.icons[c], s] for c, s in zip(concepts, styles)]))
    subprocess.run(["node", Path(__file__).with_name("render.mjs"), scratch(), pairs], check=True)
    sprites = premultiplied(np.fromfile(pairs.with_suffix(".bin"), dtype=np.uint8).reshape(-1, 512, 512, 4))

    images = []
    for i, (concept, style, colour) in enumerate(zip(concepts, styles, colours)):
        held_out = style == HELD_OUT_STYLE
        name = f"heldout/{i - len(DEMO_SIZES) + 1:02d}.png" if held_out else f"{i + 1:02d}.{'jpg' if i % 3 == 1 else 'png'}"
        size = 256 if held_out else DEMO_SIZES[i]
        save(place(sprites[i : i + 1], size, torch.tensor([colour]), generator)[0], folder / name)
        images.append({
            "file": name,
            "concept": composer.names[concept],
            "background": COLOUR_NAMES[colour],
            "attribution": {"set": style, "icon": composer.icons[concept], "licence": LICENCES[style]},
        })

    names = [image["concept"] for image in images[:DEMO_CONTEXT]]
    backgrounds = [image["background"] for image in images[:DEMO_CONTEXT]]
    absent = next(n for n in rng.sample(composer.names, len(composer.names)) if n not in names)
    questions = [
        *(Question("name", f"what is in image {k}?", names[k - 1]) for k in (1, 3, 6, 8)),
        *(Question("which", f"which image shows {with_article(names[k - 1])}?", f"image {k}") for k in (2, 5, 7)),
        Question("exists", f"is there {with_article(names[3])}?", "yes, image 4"),
        Question("exists", f"is there {with_article(absent)}?", "no"),
        *(Question("colour", f"what colour is the background of image {k}?", backgrounds[k - 1]) for k in (2, 7)),
        Question("list", "list all images", ", ".join(names)),
    ]
    listed = [{"type": q.type, "question": q.text, "answer": q.answer} for q in questions]
    (folder / "questions.json").write_text(json.dumps({"seed": DEMO_SEED, "images": images, "context": DEMO_CONTEXT, "questions": listed}, indent=1) + "\n")


def write_eval(folder: Path) -> None:
    """Small PNG files: 40 contexts of 4 images, 7 questions each, for checking other implementations."""
    composer = Composer(scratch())
    rng = random.Random(DEMO_SEED + 1)
    generator = torch.Generator().manual_seed(DEMO_SEED + 1)
    folder.mkdir(parents=True, exist_ok=True)
    contexts = []
    for number in range(EVAL_CONTEXTS):
        _, styles, colours = composer.sample_labels(EVAL_IMAGES, generator)
        concepts = torch.tensor(rng.sample(range(len(composer.names)), EVAL_IMAGES))
        pictures = composer.compose_at(EVAL_SIZE, concepts, styles, colours, generator)
        files = [f"{number:02d}-{k + 1}.png" for k in range(EVAL_IMAGES)]
        for picture, file in zip(pictures, files):
            save(picture, folder / file)
        names, backgrounds = [composer.names[c] for c in concepts], [COLOUR_NAMES[c] for c in colours]
        questions = [ask(t, names, backgrounds, composer.names, rng) for t in ("name", "name", "which", "exists", "exists", "colour", "list")]
        contexts.append({
            "images": files,
            "concepts": names,
            "backgrounds": backgrounds,
            "questions": [{"type": q.type, "question": q.text, "answer": q.answer} for q in questions],
        })
    (folder / "eval.json").write_text(json.dumps({"seed": DEMO_SEED + 1, "contexts": contexts}, indent=1) + "\n")


def save(picture: torch.Tensor, path: Path) -> None:
    pixels = (picture * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(path, **({"quality": 90} if path.suffix == ".jpg" else {"optimize": True}))


if __name__ == "__main__":
    {"demo": write_demo, "eval": write_eval}[sys.argv[1]](scratch() / sys.argv[1])
