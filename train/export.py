"""Assembles a model from the stages' weights, and writes it as a checkpoint folder: python -m train.export --model pack-mha."""

import torch
from tokenizers import Tokenizer

from .checkpoint import save_checkpoint
from .config import Config, load_config
from .layouts import build, tower_of
from .tokenizer import padded_vocab_size, special_ids, model_tokenizer
from .tower import load_tower

# Muon grows the layers' updates to norms of hundreds. Word embeddings of the usual size (norm 1) are lost among them
# after the first layer, and a word can then not be matched with a picture in any layer that knows the picture's number.
# So words enter as large as projected pictures do, and a fixed gain before the tied output embedding takes it back.
EMBEDDING_DEVIATION = 8.0
FINAL_GAIN = 1 / 64


def fresh_model(config: Config, tokenizer: Tokenizer):
    """Random weights, as training begins with them."""
    torch.manual_seed(config.seed)
    model = build(config, special_ids(config.model, tokenizer), padded_vocab_size(tokenizer))
    with torch.no_grad():
        model.get_input_embeddings().weight.normal_(0, EMBEDDING_DEVIATION)
        model.model.language_model.norm.weight.fill_(FINAL_GAIN).requires_grad_(False)
    return model


def with_tower(config: Config, model):
    """The trained tower put into it, except for Qwen2-VL's merger, which is the decoder stage's to train."""
    weights = {name: value for name, value in load_tower(config).tower.state_dict().items() if not name.startswith("merger")}
    tower_of(model).load_state_dict(weights, strict=False)
    return model


def assemble(config: Config, tokenizer: Tokenizer):
    """The tower and the decoder stage's averaged weights."""
    model = with_tower(config, fresh_model(config, tokenizer))
    state = torch.load(config.folder / "decoder.pt")
    model.load_state_dict(dict(zip(state["optimiser"]["masters"], state["average"])), strict=False)
    return model


if __name__ == "__main__":
    config = load_config()
    tokenizer = model_tokenizer(config.model, config.folder)
    save_checkpoint(config.model, assemble(config, tokenizer), tokenizer, config.folder / "checkpoint")
