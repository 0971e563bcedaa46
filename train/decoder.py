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

# A type named several times is asked more often: finding an image by its content is learned last.
RETRIEVAL = ("which", "which", "which", "exists", "exists", "name", "colour")
EVERY = ("name", "which", "which", "exists", "exists", "colour", "list")

CURRICULUM = (
    Phase(0.03, (1,), (4,), 24, 5, ("name", "colour")),
    # "what is in image 3?": the image tokens learn to carry their number.
    Phase(0.15, (1, 2, 3, 4), (4, 6), 12, 10, ("name", "name", "colour", "list")),
    # "which image shows a violin?": words learn to find pictures.
    Phase(0.40, (2, 3, 4), (2, 3), 14, 10, RETRIEVAL, match_heads=True),
    Phase(0.50, (1, 2, 3, 4, 5, 6, 8), (4, 8), 12, 10, EVERY),
    Phase(1.00, (1, 2, 3, 4, 4, 6, 8, 8), (TOKENS_PER_IMAGE,), 7, 12, EVERY),
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
