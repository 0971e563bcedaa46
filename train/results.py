"""Gathers size and cost of the trained models, and figures of `train.evaluate` where it ran, into train/results.json."""

import json
import sys
from pathlib import Path

from safetensors import safe_open

from .config import MODELS, Config, make_config
from .layouts import is_projector
from .tokenizer import write


def gather(config: Config) -> dict:
    read = lambda name: json.loads((config.folder / name).read_text()) if (config.folder / name).exists() else None
    stages = {stage: read(f"{stage}.json") for stage in ("tower", "decoder")}
    return {
        "size": config.size,
        "seed": config.seed,
        "parameters": count_parameters(config.folder / "checkpoint"),
        "cost": {
            "machine": "2 shared CPU cores with AMX, no GPU" if config.device == "cpu" else config.device,
            "stages": stages,
            "cached pictures": config.num_views,
            "minutes": round(sum(s["minutes"] for s in stages.values() if s), 1),
        },
        # A check; official figures come from `attentionpack eval`.
        **({"accuracy": accuracy} if (accuracy := read("evaluation.json")) else {}),
    }


def count_parameters(checkpoint: Path) -> dict[str, int]:
    """Parameters by part; the tied output embedding is stored once."""
    counts = {"tower": 0, "projector": 0, "decoder": 0}
    with safe_open(checkpoint / "model.safetensors", "pt") as weights:
        for name in weights.keys():
            size = 1
            for extent in weights.get_slice(name).get_shape():
                size *= extent
            counts["projector" if is_projector(name) else "tower" if "vision_tower" in name or "visual" in name else "decoder"] += size
    return {**counts, "all": sum(counts.values())}


if __name__ == "__main__":
    size = sys.argv[1] if len(sys.argv) > 1 else "v1"
    configs = [make_config(model, size) for model in MODELS]
    write(Path(__file__).with_name("results.json"), {c.model: gather(c) for c in configs if (c.folder / "checkpoint").exists()})
