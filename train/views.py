"""Reads labelled pictures from the drawer, `views.ts`, through a pipe: it draws while Python trains."""

import json
import shutil
import struct
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

DRAWER = Path(__file__).with_name("views.ts")
NONE = -1


@dataclass
class ViewBatch:
    pixels: torch.Tensor
    """[B, 3, H, W], uint8"""
    things: torch.Tensor
    """Thing of each patch or -1 — [B, H/8, W/8], int64"""
    kind: torch.Tensor
    colour: torch.Tensor
    """Background colour or -1 — [B]"""
    count: torch.Tensor
    """How many things are to be counted, 0 where there is nothing to count — [B]"""
    concept: torch.Tensor
    """What a picture of one thing shows, or -1 — [B]"""

    def __len__(self) -> int:
        return len(self.pixels)


def command(*options) -> list[str]:
    return [shutil.which("npx") or "npx", "tsx", str(DRAWER), *map(str, options)]


@lru_cache
def vocabulary() -> dict:
    """Names of things, colours and kinds as `views.ts --vocabulary` prints them, and `ranges` of things by what they are."""
    names = json.loads(subprocess.run(command("--vocabulary"), check=True, capture_output=True, cwd=DRAWER.parent.parent).stdout)
    names["ranges"] = {"concept": (0, names["concepts"]), "shape": tuple(names["shapes"]), "word": tuple(names["words"])}
    return names


class ViewStream:
    """Batches of fresh pictures for as long as they are read, or until there were `limit` of them."""

    def __init__(self, seed: int, batch: int, sizes: str, mix: str, limit: int | None = None, scenes: Path | None = None, styles: str = "train"):
        options = ["--seed", seed, "--batch", batch, "--sizes", sizes, "--mix", mix, "--styles", styles]
        if limit is not None:
            options += ["--limit", limit]
        if scenes is not None:
            options += ["--scenes", scenes.resolve()]
        self.process = subprocess.Popen(command(*options), stdout=subprocess.PIPE, bufsize=1 << 20, cwd=DRAWER.parent.parent)

    def __iter__(self):
        return self

    def __next__(self) -> ViewBatch:
        prefix = self.process.stdout.read(4)
        if len(prefix) < 4:
            if self.process.wait() != 0:
                raise RuntimeError(f"views.ts ended with status {self.process.returncode}; its message is above")
            raise StopIteration
        header = json.loads(self._read(struct.unpack("<I", prefix)[0]))
        count, height, width = header["count"], header["height"], header["width"]
        pixels = np.frombuffer(self._read(count * height * width * 3), np.uint8).reshape(count, height, width, 3)
        things = np.frombuffer(self._read(count * height * width // 64 * 2), "<i2").reshape(count, height // 8, width // 8)
        kind, colour, number, concept = torch.from_numpy(np.frombuffer(self._read(count * 8), "<i2").reshape(count, 4).astype(np.int64)).unbind(1)
        return ViewBatch(torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2), torch.from_numpy(things.astype(np.int64)), kind, colour, number, concept)

    def _read(self, size: int) -> bytes:
        data = self.process.stdout.read(size)
        if len(data) < size:
            raise RuntimeError(f"views.ts stopped inside a batch: {len(data)} of {size} bytes; its message is above")
        return data

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def normalise(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 to -1…1 in bf16, as the image processors' mean and deviation of 0.5 do."""
    return (pixels.float() / 127.5 - 1).bfloat16()
