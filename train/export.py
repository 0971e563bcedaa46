"""Assembles the stages' averaged weights into one model and writes it as a checkpoint folder."""

import sys

import torch
from tokenizers import Tokenizer
from transformers import LlavaForConditionalGeneration

from .checkpoint import save_checkpoint
from .compose import Composer
from .config import Config, load_config, scratch
from .model import llava_config
from .tokenizer import padded_vocab_size, special_ids, train_tokenizer
from .tower import load_tower


def build_model(config: Config, tokenizer: Tokenizer) -> LlavaForConditionalGeneration:
    torch.manual_seed(config.seed)
    return LlavaForConditionalGeneration(llava_config(config, special_ids(tokenizer), padded_vocab_size(tokenizer)))


def assemble(
    config: Config, tokenizer: Tokenizer, names: list[str], stages: tuple[str, ...] = ("decoder", "joint")
) -> LlavaForConditionalGeneration:
    """The tower, then the averaged weights of each stage that has been saved, later ones over earlier ones."""
    model = build_model(config, tokenizer)
    model.model.vision_tower.load_state_dict(load_tower(config, len(names)).tower.state_dict())
    for stage in stages:
        saved = scratch() / f"{stage}.pt"
        if saved.exists():
            state = torch.load(saved)
            model.load_state_dict(dict(zip(state["optimiser"]["masters"], state["average"])), strict=False)
    return model


if __name__ == "__main__":
    config = load_config()
    names = Composer(scratch()).names
    tokenizer = train_tokenizer(names)
    if sys.argv[1:] == ["random"]:
        # The final layout with untrained weights, to build converters and servers against.
        save_checkpoint(build_model(config, tokenizer), tokenizer, scratch() / "checkpoint-random")
    else:
        save_checkpoint(assemble(config, tokenizer, names), tokenizer, scratch() / "checkpoint")
