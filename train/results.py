"""Gathers figures, cost and licences of the final checkpoint into train/results.json."""

import json
from pathlib import Path

from safetensors import safe_open

from .config import HELD_OUT_STYLE, LICENCES, TRAINING_STYLES, load_config, scratch
from .tokenizer import write


def main() -> None:
    folder = scratch()
    read = lambda name: json.loads((folder / name).read_text()) if (folder / name).exists() else None
    config = load_config()
    stages = {stage: read(f"{stage}.json") for stage in ("tower", "decoder", "joint")}
    write(Path(__file__).with_name("results.json"), {
        "seed": config.seed,
        "concepts": len(read("sprites.json")["names"]),
        "parameters": count_parameters(folder / "checkpoint"),
        "cost": {
            "machine": "2 shared CPU cores with AMX, no GPU",
            "stages": stages,
            "cached views": config.num_views,
            "minutes": round(sum(s["minutes"] for s in stages.values() if s), 1),
        },
        "judged by": "exact match of the whole greedy answer; unseen compositions; 95 % Wilson interval",
        "accuracy": read("evaluation.json"),
        "picture files": read("evaluation-files.json"),
        "data": {
            "training styles": {style: LICENCES[style] for style in TRAINING_STYLES},
            "held-out style": {HELD_OUT_STYLE: LICENCES[HELD_OUT_STYLE]},
        },
    })


def count_parameters(checkpoint: Path) -> dict[str, int]:
    """Parameters by part; the tied output embedding is stored once."""
    counts = {"tower": 0, "projector": 0, "decoder": 0}
    with safe_open(checkpoint / "model.safetensors", "pt") as weights:
        for name in weights.keys():
            size = 1
            for extent in weights.get_slice(name).get_shape():
                size *= extent
            part = "tower" if "vision_tower" in name else "projector" if "multi_modal_projector" in name else "decoder"
            counts[part] += size
    return {**counts, "all": sum(counts.values())}


if __name__ == "__main__":
    main()
