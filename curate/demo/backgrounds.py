"""The places a scene can be in: textured fields of colour, drawn with numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Field = NDArray[np.float32]


def _smooth(rng: np.random.Generator, height: int, width: int, rows: int, columns: int) -> Field:
    """Return (height, width) float32 in about [0, 1]: noise with `rows` by `columns` bumps."""
    coarse = rng.random((max(rows, 2), max(columns, 2)), dtype=np.float32)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def _mixed(weight: Field, low: tuple[int, int, int], high: tuple[int, int, int]) -> Field:
    """Return (height, width, 3) float32 colours: `low` where the weight is 0, `high` where it is 1."""
    first = np.asarray(low, dtype=np.float32)
    return first + weight[..., None] * (np.asarray(high, dtype=np.float32) - first)


def _down(height: int) -> Field:
    """Return (height, 1) float32 from 0 at the top to 1 at the bottom."""
    return np.linspace(0, 1, height, dtype=np.float32)[:, None]


def _sky(rng: np.random.Generator, height: int, width: int) -> Field:
    blue = _mixed(np.broadcast_to(_down(height), (height, width)), (92, 160, 232), (186, 218, 246))
    puffs = 0.7 * _smooth(rng, height, width, 6, 5) + 0.3 * _smooth(rng, height, width, 15, 12)
    clouds = np.clip((puffs - 0.6) * 4, 0, 0.9)[..., None]
    return blue + clouds * (np.float32(250) - blue)


def _grass(rng: np.random.Generator, height: int, width: int) -> Field:
    blades = _smooth(rng, height, width, height // 8, width // 2)
    return _mixed(0.6 * blades + 0.4 * _smooth(rng, height, width, 4, 4), (44, 104, 34), (128, 190, 84))


def _water(rng: np.random.Generator, height: int, width: int) -> Field:
    bend = _smooth(rng, height, width, 4, 5) * 9
    waves = 0.5 + 0.5 * np.sin(_down(height) * np.float32(rng.uniform(45, 80)) + bend)
    return _mixed(0.75 * waves**2 + 0.25 * _smooth(rng, height, width, 12, 5), (18, 78, 136), (104, 176, 210))


def _night(rng: np.random.Generator, height: int, width: int) -> Field:
    dark = _mixed(_smooth(rng, height, width, 3, 3), (8, 9, 26), (34, 34, 74))
    stars = rng.random((height, width), dtype=np.float32) > 0.9955
    dark[stars] = rng.uniform(150, 255, (int(stars.sum()), 1))
    return dark


def _brick(rng: np.random.Generator, height: int, width: int) -> Field:
    tall = int(rng.integers(11, 16))
    long = tall * 2
    y, x = np.arange(height)[:, None], np.arange(width)[None, :]
    course = y // tall
    shifted = x + (course % 2) * (long // 2)
    tones = rng.random((height // tall + 1, width // long + 2), dtype=np.float32)
    wall = _mixed(tones[course, shifted // long], (138, 60, 44), (184, 92, 70))
    wall[(y % tall < 2) | (shifted % long < 2)] = (206, 196, 184)
    return wall


def _sand(rng: np.random.Generator, height: int, width: int) -> Field:
    grain = rng.random((height, width), dtype=np.float32)
    return _mixed(0.35 * grain + 0.65 * _smooth(rng, height, width, 9, 4), (198, 170, 112), (242, 222, 172))


def _snow(rng: np.random.Generator, height: int, width: int) -> Field:
    drifts = _smooth(rng, height, width, 4, 3)
    return _mixed(drifts, (208, 220, 236), (252, 253, 255))


def _wood(rng: np.random.Generator, height: int, width: int) -> Field:
    plank = int(rng.integers(20, 30))
    y = np.arange(height)
    tones = 0.35 * rng.random(height // plank + 1, dtype=np.float32)
    grain = 0.65 * _smooth(rng, height, width, height // 2, 5) + tones[y // plank][:, None]
    boards = _mixed(grain, (124, 78, 38), (204, 150, 92))
    boards[y % plank < 2] *= 0.5
    return boards


def _road(rng: np.random.Generator, height: int, width: int) -> Field:
    grain = 0.5 * rng.random((height, width), dtype=np.float32) + 0.5 * _smooth(rng, height, width, 5, 5)
    asphalt = _mixed(grain, (76, 76, 80), (132, 132, 134))
    middle, half = height // 2, max(2, height // 50)
    dashes = (np.arange(width) + int(rng.integers(40))) % 44 < 26
    asphalt[middle - half : middle + half, dashes] = (226, 224, 214)
    return asphalt


TEXTURES: dict[str, Callable[[np.random.Generator, int, int], Field]] = {
    "sky": _sky,
    "grass": _grass,
    "water": _water,
    "night": _night,
    "brick": _brick,
    "sand": _sand,
    "snow": _snow,
    "wood": _wood,
    "road": _road,
}


def draw_background(name: str, rng: np.random.Generator, height: int, width: int) -> Field:
    """Return (height, width, 3) float32 in about [0, 255]: the texture under a slightly uneven light."""
    light = 0.9 + 0.2 * _smooth(rng, height, width, 2, 2)
    return TEXTURES[name](rng, height, width) * light[..., None]
