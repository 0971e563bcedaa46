"""The exported checkpoint as a user meets it: picture files through the HF processor, greedy generation, exact match."""

import json
import sys
from pathlib import Path

import torch
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration

from .config import load_config, scratch
from .evaluate import interval
from .questions import TYPES


@torch.no_grad()
def answer(model, processor, pictures: list[Image.Image], questions: list[str]) -> list[str]:
    """Answers to questions about the same pictures, each asked first in its own conversation."""
    prompts = []
    for question in questions:
        content = [{"type": "image"}] * len(pictures) + [{"type": "text", "text": question}]
        prompts.append(processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True))
    inputs = processor(text=prompts, images=pictures * len(prompts), padding=True, padding_side="left", return_tensors="pt")
    made = model.generate(**inputs, max_new_tokens=48, do_sample=False)
    texts = processor.batch_decode(made[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return [text.strip() for text in texts]


def main(checkpoint: Path) -> None:
    torch.set_num_threads(load_config().threads)
    model = LlavaForConditionalGeneration.from_pretrained(checkpoint).eval()
    processor = AutoProcessor.from_pretrained(checkpoint)
    figures = {}

    folder = scratch() / "eval"
    right, asked = dict.fromkeys(TYPES, 0), dict.fromkeys(TYPES, 0)
    for context in json.loads((folder / "eval.json").read_text())["contexts"]:
        pictures = [Image.open(folder / file).convert("RGB") for file in context["images"]]
        answers = answer(model, processor, pictures, [q["question"] for q in context["questions"]])
        for question, text in zip(context["questions"], answers):
            asked[question["type"]] += 1
            right[question["type"]] += text == question["answer"]
    for type in TYPES:
        figures[type] = {"accuracy": round(right[type] / asked[type], 3), "n": asked[type], "interval95": interval(right[type], asked[type])}
    total, count = sum(right.values()), sum(asked.values())
    figures["all"] = {"accuracy": round(total / count, 3), "n": count, "interval95": interval(total, count)}
    print("eval files", {t: f["accuracy"] for t, f in figures.items()})

    folder = scratch() / "demo"
    demo = json.loads((folder / "questions.json").read_text())
    pictures = [Image.open(folder / image["file"]).convert("RGB") for image in demo["images"]]
    answers = answer(model, processor, pictures[: demo["context"]], [q["question"] for q in demo["questions"]])
    shown = [{**q, "answered": text} for q, text in zip(demo["questions"], answers)]
    named = [answer(model, processor, [picture], ["what is this?"])[0] for picture in pictures]
    singles = [{"file": i["file"], "expected": i["concept"], "answered": text} for i, text in zip(demo["images"], named)]
    for row in shown + singles:
        print(row)
    (scratch() / "evaluation-files.json").write_text(json.dumps({"eval": figures, "demo": shown, "demo one image": singles}, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else scratch() / "checkpoint")
