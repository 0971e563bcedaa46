"""Composes drawings onto random backgrounds, many at once: placed, turned, jittered, resized in different ways."""

import json
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from .config import IMAGE_SIZE, STYLES, TRAINING_STYLES

COLOURS = {
    "red": (210, 40, 40),
    "orange": (245, 140, 30),
    "yellow": (245, 220, 60),
    "green": (50, 160, 70),
    "blue": (50, 100, 215),
    "purple": (135, 60, 175),
    "white": (245, 245, 245),
    "black": (25, 25, 25),
}
COLOUR_NAMES = tuple(COLOURS)

# Most views are composed at the model's own size; the others are made larger and shrunk by one of several
# filters, so that the tower does not lean on one library's resize.
CANVAS_SIZES = (64, 64, 64, 96, 128, 160)
RESIZES = (("bilinear", True), ("bicubic", True), ("bilinear", False), ("area", None))


class Composer:
    """Sprites in memory, and `compose`, which turns (concept, style, colour) triples into pictures."""

    def __init__(self, scratch: Path):
        index = json.loads((scratch / "sprites.json").read_text())
        assert tuple(index["styles"]) == STYLES
        self.icons: list[str] = index["icons"]
        self.names: list[str] = index["names"]
        size = index["size"]
        sprites = np.fromfile(scratch / "sprites.bin", dtype=np.uint8).reshape(-1, size, size, 4)
        full = premultiplied(sprites)
        half = F.avg_pool2d(full.float(), 2).round().to(torch.uint8)
        self.full, self.half = (s.view(len(self.names), len(STYLES), *s.shape[1:]) for s in (full, half))

    def sample_labels(self, count: int, generator: torch.Generator, styles: tuple[str, ...] = TRAINING_STYLES):
        """Random concepts, styles and background colours, each [count]."""
        concepts = torch.randint(len(self.names), (count,), generator=generator)
        choice = torch.tensor([STYLES.index(style) for style in styles])
        style = choice[torch.randint(len(choice), (count,), generator=generator)]
        colours = torch.randint(len(COLOURS), (count,), generator=generator)
        return concepts, style, colours

    def compose(self, concepts, styles, colours, generator: torch.Generator) -> torch.Tensor:
        """Pictures at the model's size — [B, 3, 64, 64] in 0…1."""
        canvas = CANVAS_SIZES[torch.randint(len(CANVAS_SIZES), (1,), generator=generator).item()]
        pictures = self.compose_at(canvas, concepts, styles, colours, generator)
        if canvas == IMAGE_SIZE:
            return pictures
        mode, antialias = RESIZES[torch.randint(len(RESIZES), (1,), generator=generator).item()]
        options = {} if antialias is None else {"antialias": antialias, "align_corners": False}
        return F.interpolate(pictures, (IMAGE_SIZE, IMAGE_SIZE), mode=mode, **options).clamp(0, 1)

    def compose_at(self, canvas: int, concepts, styles, colours, generator: torch.Generator) -> torch.Tensor:
        """Pictures at any canvas size — [B, 3, canvas, canvas] in 0…1."""
        return place((self.half if canvas < 96 else self.full)[concepts, styles], canvas, colours, generator)


def premultiplied(sprites: np.ndarray) -> torch.Tensor:
    """[N, S, S, 4] as rendered to [N, 4, S, S] with alpha multiplied in: edges stay right when interpolated."""
    pixels = torch.from_numpy(sprites).permute(0, 3, 1, 2)
    alpha = pixels[:, 3:].float() / 255
    return torch.cat([(pixels[:, :3].float() * alpha).round().to(torch.uint8), pixels[:, 3:]], 1).contiguous()


def place(sprites: torch.Tensor, canvas: int, colours: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Premultiplied sprites [B, 4, S, S] on backgrounds of the named colours [B] — [B, 3, canvas, canvas] in 0…1."""
    batch = len(sprites)
    uniform = lambda low, high, *shape: torch.rand(batch, *shape, generator=generator) * (high - low) + low

    # 1. The sprite, turned by up to 25°, covering 55–95 % of the side, wholly inside or nearly so.
    angle = uniform(-25, 25) * math.pi / 180
    scale = uniform(0.55, 0.95)
    room = 1 - scale + 0.05
    shift_x, shift_y = uniform(-1, 1) * room, uniform(-1, 1) * room
    cos, sin = angle.cos() / scale, angle.sin() / scale
    affine = torch.stack([
        torch.stack([cos, sin, -(cos * shift_x + sin * shift_y)], -1),
        torch.stack([-sin, cos, -(-sin * shift_x + cos * shift_y)], -1),
    ], 1)
    grid = F.affine_grid(affine, (batch, 4, canvas, canvas), align_corners=False)
    layer = F.grid_sample(sprites.float() / 255, grid, align_corners=False)

    # 2. The background: a named colour, jittered, plain or with a gradient, soft noise or stripes.
    base = torch.tensor([COLOURS[name] for name in COLOUR_NAMES], dtype=torch.float32)[colours] / 255
    base = base + uniform(-0.05, 0.05, 3)
    ramp = torch.linspace(-1, 1, canvas)
    turn = uniform(0, 2 * math.pi)[:, None, None]
    along = turn.cos() * ramp[None, None, :] + turn.sin() * ramp[None, :, None]
    gradient = along * 0.16
    noise = F.interpolate(uniform(-0.16, 0.16, 1, 8, 8), (canvas, canvas), mode="bilinear", align_corners=False)[:, 0]
    stripes = (torch.sin(along * uniform(6, 20)[:, None, None]) > 0.6).float() * (uniform(-0.22, 0.22)[:, None, None])
    kind = torch.randint(4, (batch,), generator=generator)[:, None, None]
    pattern = torch.where(kind == 1, gradient, torch.where(kind == 2, noise, torch.where(kind == 3, stripes, torch.zeros(()))))
    background = base[:, :, None, None] + pattern[:, None]

    # 3. Blend, then jitter contrast, brightness and saturation of the whole picture.
    picture = layer[:, :3] + background.clamp(0, 1) * (1 - layer[:, 3:])
    grey = picture.mean(1, keepdim=True)
    picture = grey + (picture - grey) * uniform(0.8, 1.2, 1, 1, 1)
    picture = (picture - 0.5) * uniform(0.85, 1.1, 1, 1, 1) + 0.5 + uniform(-0.06, 0.06, 1, 1, 1)
    return picture.clamp(0, 1)


def normalise(pictures: torch.Tensor) -> torch.Tensor:
    """0…1 to −1…1, as the image processor's mean and deviation of 0.5 do."""
    return pictures * 2 - 1
