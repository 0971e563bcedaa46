"""Writes a whole Hugging Face LLaVA checkpoint folder, in one rename, so that a reader never sees half of it."""

import os
import shutil
from pathlib import Path

from tokenizers import Tokenizer
from transformers import LlavaForConditionalGeneration

from .config import IMAGE_SIZE, PATCH_SIZE
from .tokenizer import IMAGE, save_tokenizer, write

IMAGE_PROCESSOR = {
    "image_processor_type": "SiglipImageProcessor",
    "processor_class": "LlavaProcessor",
    "do_convert_rgb": True,
    "do_resize": True,
    "size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE},
    "resample": 3,  # bicubic
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}

PROCESSOR = {
    "processor_class": "LlavaProcessor",
    "image_token": IMAGE,
    "patch_size": PATCH_SIZE,
    "num_additional_image_tokens": 0,
    "vision_feature_select_strategy": "full",
}


def save_checkpoint(model: LlavaForConditionalGeneration, tokenizer: Tokenizer, folder: Path) -> None:
    fresh = folder.with_name(folder.name + ".writing")
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    fresh.mkdir(parents=True)
    model.float().save_pretrained(fresh)
    save_tokenizer(tokenizer, fresh)
    write(fresh / "preprocessor_config.json", IMAGE_PROCESSOR)
    write(fresh / "processor_config.json", PROCESSOR)
    if folder.exists():
        os.rename(folder, old)
    os.rename(fresh, folder)
    shutil.rmtree(old, ignore_errors=True)

