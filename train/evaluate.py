"""A check while training: exact match by type of question on pictures never trained on. Official figures come from `attentionpack eval`."""

import json
import math
from collections import Counter

import torch

from .config import Config, load_config
from .curriculum import ALL_KINDS, SEEN_AND_READ, SINGLES, TYPES, Mix
from .decoder import Batches, Losses
from .decoder_forward import DecoderForward
from .export import assemble
from .features import Pool, load_pool
from .tokenizer import model_tokenizer

SEED = 7_000_000
ONE = {"name": 1, "colour": 1, "place": 1, "count": 1, "text": 1, "choice": 1}
SEVERAL = {**dict.fromkeys(TYPES, 1), "list": 0.5}
MANY = {"name": 1, "which": 1, "exists": 1, "colour": 1}

# Label: (pool, contexts, mix). Every context is asked one question.
SETTINGS = {
    "1 image": ("evaluation", 900, Mix(1, (1,), ONE, ALL_KINDS, questions=1)),
    "1 picture of one thing": ("evaluation", 400, Mix(1, (1,), {"name": 1}, SINGLES, questions=1)),
    "1 picture of one thing, held-out style": ("held-out", 400, Mix(1, (1,), {"name": 1}, SINGLES, questions=1)),
    "4 images": ("evaluation", 500, Mix(1, (4,), SEVERAL, ALL_KINDS, questions=1)),
    "8 images": ("evaluation", 300, Mix(1, (8,), SEVERAL, ALL_KINDS, questions=1)),
    "16 images": ("evaluation", 200, Mix(1, (16,), MANY, SEEN_AND_READ, questions=1)),
    "32 images": ("evaluation", 120, Mix(1, (32,), MANY, SEEN_AND_READ, questions=1)),
    "64 images": ("evaluation", 80, Mix(1, (64,), MANY, SEEN_AND_READ, questions=1)),
}
CLIPS = {
    f"clip of {frames} frames": ("evaluation", 150, Mix(1, (frames,), {"name": 1, "which": 1, "exists": 1, "order": 1}, SINGLES, questions=1, clip=True))
    for frames in (8, 16)
}


def interval(right: int, count: int) -> list[float]:
    """Wilson's 95 % interval of a fraction."""
    if count == 0:
        return [0.0, 1.0]
    z, p = 1.96, right / count
    centre = (p + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return [round(centre - half, 3), round(centre + half, 3)]


@torch.no_grad()
def evaluate(config: Config, model, tokenizer, pool: Pool, mix: Mix, contexts: int) -> dict[str, dict]:
    """A greedy answer equals the expected one exactly when, given the expected prefix, every next token and the final <eos>
    is the arg-max; so one forward pass checks what generation would give."""
    batches = Batches(config, pool, tokenizer, SEED + mix.images[0])
    losses = Losses(config, model, tokenizer, pool, DecoderForward(model))
    right, asked = Counter(), Counter()
    while sum(asked.values()) < contexts:
        batch = batches.make(mix)
        _, _, good, types = losses.answers(batch, losses.embed(batch)[0])
        row = torch.from_numpy((batch.answer_of[:, 1:] > 0).nonzero()[0])
        for number in range(len(batch.ids)):
            type = TYPES[types[row == number][0].item() - 1]
            asked[type] += 1
            right[type] += bool(good[row == number].all())
    batches.close()
    figures = {t: {"accuracy": round(right[t] / asked[t], 3), "n": asked[t], "interval95": interval(right[t], asked[t])} for t in TYPES if asked[t]}
    total, count = sum(right.values()), sum(asked.values())
    return {**figures, "all": {"accuracy": round(total / count, 3), "n": count, "interval95": interval(total, count)}}


def main(config: Config) -> None:
    torch.set_num_threads(config.threads)
    tokenizer = model_tokenizer(config.model, config.folder)
    model = assemble(config, tokenizer).to(config.device).eval()
    figures = {}
    for label, (styles, contexts, mix) in {**SETTINGS, **(CLIPS if config.model == "pack-gqa" else {})}.items():
        figures[label] = evaluate(config, model, tokenizer, load_pool(config, styles), mix, contexts)
        print(label, {t: f["accuracy"] for t, f in figures[label].items()}, "n", figures[label]["all"]["n"], flush=True)
    (config.folder / "evaluation.json").write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main(load_config())
