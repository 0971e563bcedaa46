"""Stage 4: tower, projector and decoder fine-tuned together on pictures composed as they are needed."""

import random

import torch

from .compose import COLOUR_NAMES, Composer, normalise
from .config import STYLES, TOKENS_PER_IMAGE, TRAINING_STYLES, Config, load_config, scratch
from .export import assemble
from .fast import compile_decoder
from .stage import Batches, Phase, run_stage
from .tokenizer import train_tokenizer
from .tower import tower_features

CURRICULUM = (Phase(1.00, (1, 2, 3, 4, 4, 6, 8), (TOKENS_PER_IMAGE,), 8, 12),)


class LiveViews:
    """Fresh compositions: drawing one only chooses its labels, collecting composes them all at once."""

    def __init__(self, composer: Composer, seed: int):
        self.composer = composer
        self.generator = torch.Generator().manual_seed(seed)

    def draw(self, concept: int, rng: random.Random) -> tuple[tuple[int, int, int], int]:
        colour = rng.randrange(len(COLOUR_NAMES))
        return (concept, STYLES.index(rng.choice(TRAINING_STYLES)), colour), colour

    def collect(self, drawn: list[tuple[int, int, int]]) -> torch.Tensor:
        """[images, 3, 64, 64] in −1…1."""
        concepts, styles, colours = torch.tensor(drawn).unbind(1)
        return normalise(self.composer.compose(concepts, styles, colours, self.generator))


def train(config: Config) -> None:
    torch.set_num_threads(config.threads)
    composer = Composer(scratch())
    tokenizer = train_tokenizer(composer.names)
    model = assemble(config, tokenizer, composer.names, stages=("decoder",)).bfloat16()
    model.model.vision_tower.set_attn_implementation("eager")
    model.model.vision_tower.post_layernorm.requires_grad_(False)
    compile_decoder(model)
    run_stage(
        "joint",
        model,
        lambda step: Batches(LiveViews(composer, config.seed + 900_000 + step), tokenizer, composer.names, config.seed * 2000 + step),
        lambda pixels: tower_features(model.model.vision_tower, pixels.bfloat16()),
        CURRICULUM,
        config.joint_minutes,
        config.joint_lr,
        config.joint_muon_lr,
    )


if __name__ == "__main__":
    train(load_config())
