"""Every dial of the recipe in one place: sizes, minutes, seed and the scratch folder."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

IMAGE_SIZE = 64
PATCH_SIZE = 8
TOKENS_PER_IMAGE = (IMAGE_SIZE // PATCH_SIZE) ** 2

TRAINING_STYLES = ("twemoji", "noto", "fluent-emoji-flat", "openmoji")
HELD_OUT_STYLE = "emojione"
STYLES = TRAINING_STYLES + (HELD_OUT_STYLE,)

LICENCES = {
    "twemoji": "CC-BY-4.0",
    "noto": "Apache-2.0",
    "fluent-emoji-flat": "MIT",
    "openmoji": "CC-BY-SA-4.0",
    "emojione": "CC-BY-4.0",
}


@dataclass(frozen=True)
class Config:
    seed: int = 20
    threads: int = 2

    # Tower (SigLIP vision model)
    tower_hidden: int = 192
    tower_layers: int = 6
    tower_heads: int = 6
    tower_minutes: float = 24.0
    tower_batch: int = 128
    tower_lr: float = 1e-3
    tower_muon_lr: float = 0.015

    # Cached features
    num_views: int = 60_000

    # Decoder (Llama); heads × 64 = 512 is the key width W
    hidden: int = 256
    intermediate: int = 768
    layers: int = 4
    heads: int = 8
    head_dim: int = 64
    decoder_lr: float = 2.5e-3
    decoder_muon_lr: float = 0.015
    decoder_minutes: float = 48.0

    # Joint fine-tuning
    joint_minutes: float = 0.0
    joint_lr: float = 3e-4
    joint_muon_lr: float = 0.002


SIZES = {
    "v0": Config(),
    # A few minutes in all, to see that every stage runs; the model it makes knows little. Match heads need three layers.
    "tiny": replace(Config(), tower_hidden=96, tower_layers=3, tower_heads=3, tower_minutes=1.0, num_views=2000, layers=3, decoder_minutes=1.0),
}


def load_config() -> Config:
    """The size is chosen with ATTENTIONPACK_TRAIN_SIZE (default v0)."""
    return SIZES[os.environ.get("ATTENTIONPACK_TRAIN_SIZE", "v0")]


def scratch() -> Path:
    """Folder for sprites, features, checkpoints and logs: ATTENTIONPACK_TRAIN_SCRATCH (default ./.train)."""
    folder = Path(os.environ.get("ATTENTIONPACK_TRAIN_SCRATCH", ".train"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
