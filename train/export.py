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


# Muon grows the layers' updates to norms of hundreds. Word embeddings of the usual size (norm 1) are lost among them
# after the first layer, and a word can then not be matched with a picture in any layer that knows the picture's number.
# So words enter as large as projected pictures do, and a fixed gain before the tied output embedding takes it back.
EMBEDDING_DEVIATION = 8.0
FINAL_GAIN = 1 / 64


def build_model(config: Config, tokenizer: Tokenizer) -> LlavaForConditionalGeneration:
    torch.manual_seed(config.seed)
    model = LlavaForConditionalGeneration(llava_config(config, special_ids(tokenizer), padded_vocab_size(tokenizer)))
    with torch.no_grad():
        model.get_input_embeddings().weight.normal_(0, EMBEDDING_DEVIATION)
        model.model.language_model.norm.weight.fill_(FINAL_GAIN).requires_grad_(False)
    return model


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
