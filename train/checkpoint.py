"""Writes a whole Hugging Face checkpoint folder, in one rename, so that a reader never sees half of it."""

import os
import shutil
from pathlib import Path

from tokenizers import Tokenizer

from .config import IMAGE_SIZE, LARGEST, PATCH_SIZE, SMALLEST
from .layouts import MAX_POSITIONS
from .tokenizer import SPECIAL_TOKENS, save_tokenizer, write

PIXELS = {
    "do_convert_rgb": True,
    "do_resize": True,
    "resample": 3,  # bicubic
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}
QWEN_SIZES = {
    "min_pixels": SMALLEST**2,
    "max_pixels": LARGEST**2,
    "size": {"shortest_edge": SMALLEST**2, "longest_edge": LARGEST**2},
    "patch_size": PATCH_SIZE,
    "temporal_patch_size": 2,
    "merge_size": 2,
}

IMAGE_PROCESSORS = {
    "pack-mha": {
        "image_processor_type": "SiglipImageProcessor",
        "processor_class": "LlavaProcessor",
        **PIXELS,
        "size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE},
    },
    "pack-gqa": {
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2VLProcessor",
        **PIXELS,
        **QWEN_SIZES,
    },
}

PROCESSORS = {
    "pack-mha": {
        "processor_class": "LlavaProcessor",
        "image_token": SPECIAL_TOKENS["pack-mha"]["image"],
        "patch_size": PATCH_SIZE,
        "num_additional_image_tokens": 0,
        "vision_feature_select_strategy": "full",
    },
    "pack-gqa": {"processor_class": "Qwen2VLProcessor"},
}


def save_checkpoint(name: str, model, tokenizer: Tokenizer, folder: Path) -> None:
    """`name` is the layout's: pack-mha or pack-gqa."""
    fresh = folder.with_name(folder.name + ".writing")
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    fresh.mkdir(parents=True)
    model.float().save_pretrained(fresh)
    save_tokenizer(name, tokenizer, fresh, MAX_POSITIONS)
    write(fresh / "preprocessor_config.json", IMAGE_PROCESSORS[name])
    write(fresh / "processor_config.json", PROCESSORS[name])
    if name == "pack-gqa":
        write(fresh / "video_preprocessor_config.json", {**IMAGE_PROCESSORS[name], "video_processor_type": "Qwen2VLVideoProcessor", "do_sample_frames": False})
    if folder.exists():
        os.rename(folder, old)
    os.rename(fresh, folder)
    shutil.rmtree(old, ignore_errors=True)
