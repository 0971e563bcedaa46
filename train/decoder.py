"""Stage 3: projector and decoder learn to answer on cached features, by a curriculum in images and in tokens per image."""

import torch

from .compose import Composer
from .config import TOKENS_PER_IMAGE, Config, load_config, scratch
from .export import build_model
from .fast import compile_decoder
from .features import FeatureViews
from .stage import Batches, Phase, run_stage
from .tokenizer import train_tokenizer
from .tower import load_tower

CURRICULUM = (
    Phase(0.04, (1,), (4,), 24, 5, ("name", "colour")),
    Phase(0.27, (1, 2, 3, 4), (4, 6), 24, 10),
    Phase(0.43, (1, 2, 3, 4, 5, 6, 8), (8, 12), 16, 10),
    Phase(0.52, (1, 2, 3, 4, 6, 8, 10), (16, 24), 12, 12),
    Phase(1.00, (1, 2, 3, 4, 4, 6, 8, 8), (TOKENS_PER_IMAGE,), 8, 12),
)


def train(config: Config) -> None:
    torch.set_num_threads(config.threads)
    names = Composer(scratch()).names
    tokenizer = train_tokenizer(names)
    model = build_model(config, tokenizer)
    model.model.vision_tower.load_state_dict(load_tower(config, len(names)).tower.state_dict())
    model.bfloat16().model.vision_tower.requires_grad_(False)
    compile_decoder(model)
    views = FeatureViews(config)
    run_stage(
        "decoder",
        model,
        lambda step: Batches(views, tokenizer, names, config.seed * 1000 + step),
        torch.Tensor.bfloat16,
        CURRICULUM,
        config.decoder_minutes,
        config.decoder_lr,
        config.decoder_muon_lr,
    )


if __name__ == "__main__":
    train(load_config())
