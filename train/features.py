"""Stage 2: the frozen tower's features of many pictures, computed once and kept in float16 with what each token shows."""

import json
import time
from pathlib import Path

import numpy as np
import torch

from .config import Config, load_config
from .layouts import merge_order, merged_grid
from .tower import load_tower
from .views import NONE, ViewStream, normalise, vocabulary

# Pictures by kind, as the questions need them.
MIX = "single=6,places=1.5,count=1,text=2"
# A size named several times is drawn more often.
SIZES = {"pack-mha": "64x64", "pack-gqa": ",".join(["64x64"] * 9 + ["96x64", "64x96", "96x96", "128x128"])}
BATCH = 64
# Other pictures than the tower was trained on: the decoder must meet features as uncertain as in use.
SEED, EVALUATION_SEED = 500_000, 7_000_000


def pool_folder(config: Config, styles: str) -> Path:
    return config.folder / ("pool" if styles == "train" else f"pool-{styles}")


@torch.no_grad()
def cache_features(config: Config, folder: Path, seed: int, count: int, styles: str) -> None:
    """Writes features.f16 [tokens, width], arrays.npz (see `Pool`) and scenes.jsonl, in one rename."""
    torch.set_num_threads(config.threads)
    tower = load_tower(config).to(config.device).bfloat16()
    fresh = folder.with_name(folder.name + ".writing")
    fresh.mkdir(parents=True, exist_ok=True)
    stream = ViewStream(seed, BATCH, SIZES[config.model], MIX, -(-count // BATCH), fresh / "scenes.jsonl", styles)
    grids, things, started = [], [], time.time()
    with (fresh / "features.f16").open("wb") as file:
        for number, batch in enumerate(stream):
            rows, columns = batch.things.shape[1:]
            features = tower.features(normalise(batch.pixels.to(config.device)))
            shown = batch.things
            if config.model == "pack-gqa":
                features = merge_order(features, rows, columns)
                # Where a token's four patches differ, one that shows something speaks for it.
                shown = merge_order(shown.flatten(1)[..., None], rows, columns).amax(-1)
            file.write(features.cpu().half().numpy().tobytes())
            things.append(shown.flatten().numpy().astype(np.int16))
            grids += [merged_grid(config, *batch.pixels.shape[2:])] * len(batch)
            if number % 100 == 0:
                print(f"features {len(grids)} of {count}, {len(grids) / (time.time() - started):.0f} pictures/s", flush=True)
    np.savez(fresh / "arrays.npz", grids=np.array(grids, dtype=np.int32), things=np.concatenate(things))
    fresh.rename(folder)


class Pool:
    """Cached pictures: grid of each; features, thing (-1 for none), colour behind and name (of thing or background) of each of its tokens."""

    def __init__(self, config: Config, folder: Path):
        arrays = np.load(folder / "arrays.npz")
        self.scenes = folder / "scenes.jsonl"
        self.grids, self.things = arrays["grids"], arrays["things"]
        self.starts = np.concatenate([[0], self.grids.prod(1).cumsum()])
        # What a token should be near: its thing, or the name of the colour behind (counted on after the things).
        names = vocabulary()
        colours = [names["colours"].index(json.loads(line)["colour"]) for line in self.scenes.read_text().splitlines()]
        self.behind = np.repeat(np.array(colours), self.grids.prod(1))
        self.named = np.where(self.things == NONE, len(names["things"]) + self.behind, self.things)
        # Read into memory: views are drawn at random, and page faults would cost more than the copy.
        data = torch.from_numpy(np.fromfile(folder / "features.f16", dtype=np.float16))
        self.features = data.view(len(self.things), *((-1,) if config.model == "pack-mha" else (4, config.tower_hidden)))

    def alike(self) -> tuple[Path, np.ndarray]:
        """Scenes of the smallest square size only, as a clip's frames need, and their indices in the pool."""
        views = np.flatnonzero((self.grids == self.grids[0].min()).all(1))
        path = self.scenes.with_name("alike.jsonl")
        lines = self.scenes.read_text().splitlines()
        path.write_text("\n".join(lines[view] for view in views) + "\n")
        return path, views

    def choose(self, view: int, keep: int, random: np.random.Generator) -> np.ndarray:
        """`keep` tokens of a picture in their order: one of each thing shown and an empty one, which knows the background, before others."""
        start, end = self.starts[view], self.starts[view + 1]
        if keep >= end - start:
            return np.arange(end - start)
        things = self.things[start:end]
        rank = random.random(end - start) + 0.3 * (things != NONE)
        for thing in np.unique(things):
            rank[random.choice(np.flatnonzero(things == thing))] += 2
        return np.sort(np.argpartition(-rank, keep)[:keep])

    def collect(self, tokens: np.ndarray) -> torch.Tensor:
        """Features at indices of tokens over the whole pool."""
        return self.features[torch.from_numpy(tokens)]


def load_pool(config: Config, styles: str = "train") -> Pool:
    return Pool(config, pool_folder(config, styles))


if __name__ == "__main__":
    config = load_config()
    for styles, seed, count in (("train", SEED + config.seed, config.num_views), ("evaluation", EVALUATION_SEED, 4096), ("held-out", EVALUATION_SEED, 2048)):
        folder = pool_folder(config, styles)
        if not folder.exists():
            cache_features(config, folder, seed, count, "held-out" if styles == "held-out" else "train")
