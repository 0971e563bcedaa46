"""Writes a whole Hugging Face LLaVA checkpoint folder, in one rename, so that a reader never sees half of it."""

import os
import shutil
from pathlib import Path

import torch
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


def save_random(folder: Path) -> None:
    """The final layout with untrained weights, to build converters and servers against."""
    from .compose import Composer
    from .config import load_config, scratch
    from .model import llava_config
    from .tokenizer import padded_vocab_size, special_ids, train_tokenizer

    config = load_config()
    torch.manual_seed(config.seed)
    tokenizer = train_tokenizer(Composer(scratch()).names)
    model = LlavaForConditionalGeneration(llava_config(config, special_ids(tokenizer), padded_vocab_size(tokenizer)))
    save_checkpoint(model, tokenizer, folder)


if __name__ == "__main__":
    from .config import scratch

    save_random(scratch() / "checkpoint-random")
