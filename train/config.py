"""Every dial of the recipe in one place: model, size, minutes, seed, device and the scratch folder."""

import argparse
import os
from dataclasses import dataclass, replace
from pathlib import Path

MODELS = ("pack-mha", "pack-gqa")
PATCH_SIZE = 8
# Picture sides of pack-mha; pack-gqa takes any multiple of 16 in its range.
IMAGE_SIZE = 64
SMALLEST, LARGEST = 64, 160


@dataclass(frozen=True)
class Config:
    model: str = "pack-mha"
    size: str = "v1"
    device: str = "cpu"
    threads: int = 2
    seed: int = 20

    # Tower: one shape for both layouts, so that pack-gqa's may start from pack-mha's weights.
    tower_hidden: int = 192
    tower_layers: int = 6
    tower_heads: int = 6
    tower_minutes: float = 38.0
    # Patches of one step: 128 pictures of 64 x 64.
    tower_patches: int = 8192
    tower_lr: float = 1e-3
    tower_muon_lr: float = 0.015
    # pack-gqa only: start from pack-mha's tower where that is trained.
    warm_start: bool = True

    # Cached features of this many pictures.
    num_views: int = 60_000

    # Decoder; heads x 64 is the key width W of pack-mha, key_heads x 64 that of pack-gqa.
    hidden: int = 384
    intermediate: int = 768
    layers: int = 4
    heads: int = 8
    key_heads: int = 8
    head_dim: int = 64
    rope_theta: float = 1e6
    decoder_lr: float = 1.2e-3
    decoder_muon_lr: float = 0.01
    decoder_minutes: float = 204.0
    # Scales the curriculum's batches: more for a device that is idle at two cores' batches.
    batch_scale: float = 1.0

    @property
    def folder(self) -> Path:
        """Scratch of this model and size: .train/<model> for the main size, .train/<model>-<size> for others."""
        folder = scratch() / (self.model if self.size == "v1" else f"{self.model}-{self.size}")
        folder.mkdir(parents=True, exist_ok=True)
        return folder


SIZES: dict[str, dict] = {
    # What two CPU cores train in two and a half hours, each model on one of them.
    "v1": {},
    # A few minutes in all, to see that every stage runs; the model it makes knows little. Match heads need three layers.
    "tiny": dict(tower_hidden=96, tower_layers=3, tower_heads=3, tower_minutes=1.0, num_views=2000, layers=3, decoder_minutes=1.0),
    # About 25 million parameters, for a GPU: --device cuda. Not run yet.
    "gpu": dict(
        tower_hidden=256, tower_layers=8, tower_heads=8, tower_minutes=6.0, tower_patches=65536, num_views=200_000,
        hidden=512, intermediate=1408, layers=6, decoder_minutes=12.0, batch_scale=8.0,
    ),
}

# What a layout changes: grouped queries need hidden = heads x head_dim.
LAYOUTS: dict[str, dict] = {
    "pack-mha": {},
    # Its tower starts from pack-mha's, and a question has four times fewer tokens to look at.
    "pack-gqa": dict(key_heads=2, rope_theta=1e5, tower_minutes=13.0, tower_lr=7e-4, tower_muon_lr=0.01, decoder_minutes=160.0),
}


def load_config() -> Config:
    """Reads the command line: --model, --size, --device, --threads, and --minutes for a stage's own budget."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", choices=MODELS, default="pack-mha")
    parser.add_argument("--size", choices=tuple(SIZES), default="v1")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tower-minutes", type=float)
    parser.add_argument("--decoder-minutes", type=float)
    options = parser.parse_args()
    return make_config(**{name: value for name, value in vars(options).items() if value is not None})


def make_config(model: str = "pack-mha", size: str = "v1", **changes) -> Config:
    # A size's minutes are for any layout.
    config = replace(Config(model=model, size=size), **{**LAYOUTS[model], **SIZES[size]})
    if model == "pack-gqa":
        config = replace(config, heads=config.hidden // config.head_dim)
    return replace(config, **changes)


def scratch() -> Path:
    """Folder for views, features, checkpoints and logs: ATTENTIONPACK_TRAIN_SCRATCH (default ./.train)."""
    folder = Path(os.environ.get("ATTENTIONPACK_TRAIN_SCRATCH", ".train"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
