"""Stage 2: the frozen tower's features of many composed views, computed once and kept in float16."""

import random
import time

import numpy as np
import torch

from .compose import Composer, normalise
from .config import TOKENS_PER_IMAGE, Config, load_config, scratch
from .tower import load_tower

BATCH = 250


@torch.no_grad()
def cache_features(config: Config) -> None:
    folder = scratch()
    torch.set_num_threads(config.threads)
    composer = Composer(folder)
    tower = load_tower(config, len(composer.names)).bfloat16()
    # Other compositions than the tower was trained on: the decoder must meet features as uncertain as in use.
    generator = torch.Generator().manual_seed(config.seed + 500_000)
    path = folder / "features.f16"
    shape = (config.num_views, TOKENS_PER_IMAGE, config.tower_hidden)
    features = np.memmap(path.with_suffix(".writing"), dtype=np.float16, mode="w+", shape=shape)
    labels = np.zeros((config.num_views, 2), dtype=np.int16)
    started = time.time()
    for at in range(0, config.num_views, BATCH):
        concepts, styles, colours = composer.sample_labels(BATCH, generator)
        pixels = normalise(composer.compose(concepts, styles, colours, generator)).bfloat16()
        features[at : at + BATCH] = tower.features(pixels).half().numpy()
        labels[at : at + BATCH] = torch.stack([concepts, colours], 1).numpy()
        if at % (BATCH * 20) == 0:
            print(f"features {at + BATCH} of {config.num_views}, {(at + BATCH) / (time.time() - started):.0f} views/s", flush=True)
    features.flush()
    np.save(folder / "feature-labels.npy", labels)
    path.with_suffix(".writing").rename(path)


class FeatureViews:
    """The cached views, with an index from concept to views."""

    def __init__(self, config: Config):
        folder = scratch()
        shape = (config.num_views, TOKENS_PER_IMAGE, config.tower_hidden)
        # Read into memory: views are drawn at random, and page faults would cost more than the copy.
        self.features = torch.from_numpy(np.fromfile(folder / "features.f16", dtype=np.float16)).view(shape)
        labels = np.load(folder / "feature-labels.npy")
        self.colours = labels[:, 1]
        order = np.argsort(labels[:, 0], kind="stable")
        starts = np.searchsorted(labels[order, 0], np.arange(labels[:, 0].max() + 2))
        self.by_concept = [order[starts[c] : starts[c + 1]] for c in range(len(starts) - 1)]

    def draw(self, concept: int, rng: random.Random) -> tuple[int, int]:
        """A random view of a concept: (view, background colour)."""
        view = int(rng.choice(self.by_concept[concept]))
        return view, int(self.colours[view])

    def collect(self, drawn: list[int]) -> torch.Tensor:
        """[images, 64, hidden]"""
        return self.features[torch.tensor(drawn)]


if __name__ == "__main__":
    cache_features(load_config())
