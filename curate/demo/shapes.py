"""The kinds of objects, drawn as flat polygons in a unit square.

Everything is a polygon (an ellipse is one with many corners), so a single affine map turns, mirrors and
stretches a whole object at no cost, and one reduction of an enlarged tile smooths all edges.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

Rgb = tuple[int, int, int]

PAINTS: dict[str, Rgb] = {
    "red": (212, 36, 40),
    "orange": (242, 130, 24),
    "yellow": (248, 214, 40),
    "green": (44, 150, 62),
    "blue": (36, 84, 210),
    "purple": (128, 52, 172),
    "pink": (248, 142, 192),
    "brown": (116, 72, 38),
    "white": (246, 246, 244),
    "black": (26, 26, 30),
    "gray": (134, 136, 140),
}
_ENLARGED = 3  # drawn this many times too large, then reduced: the anti-aliasing
_INK: Rgb = (40, 36, 40)
_PAPER: Rgb = (250, 248, 240)
_GLASS: Rgb = (196, 226, 240)
_BARK: Rgb = (110, 72, 40)
_LEAF: Rgb = (60, 140, 60)


def _shade(colour: Rgb, factor: float) -> Rgb:
    """Return the colour made darker (below 1) or mixed with white (above 1)."""
    if factor <= 1:
        r, g, b = (round(channel * factor) for channel in colour)
    else:
        r, g, b = (round(255 - (255 - channel) * (2 - factor)) for channel in colour)
    return r, g, b


@functools.cache
def _unit_circle(corners: int) -> NDArray[np.float64]:
    """Return (corners, 2) float64 points on the circle of radius 1."""
    angles = np.linspace(0.0, 2 * np.pi, corners, endpoint=False)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


@dataclass(frozen=True, slots=True)
class Pen:
    """Draws polygons given in the unit square (y grows downwards) through an affine map onto a tile.

    Attributes:
        matrix: (2, 2) float64, from unit-square offsets around the centre to tile pixels.
        centre: the tile's middle, in tile pixels.
        colour: the object's stated colour; `dark` and `light` are derived from it.
    """

    canvas: ImageDraw.ImageDraw
    matrix: NDArray[np.float64]
    centre: float
    colour: Rgb

    @property
    def dark(self) -> Rgb:
        """Return the outline colour: darker, but for black lighter, so that it shows."""
        return (92, 92, 98) if max(self.colour) < 60 else _shade(self.colour, 0.62)

    @property
    def light(self) -> Rgb:
        """Return the highlight colour."""
        return (110, 110, 118) if max(self.colour) < 60 else _shade(self.colour, 1.45)

    def polygon(self, points: Sequence[tuple[float, float]] | NDArray[np.float64], fill: Rgb) -> None:
        """Fill a polygon; points: (n, 2) in the unit square."""
        mapped = (np.asarray(points, dtype=np.float64) - 0.5) @ self.matrix.T + self.centre
        self.canvas.polygon(mapped.ravel().tolist(), fill=(*fill, 255))

    def outlined(self, points: Sequence[tuple[float, float]] | NDArray[np.float64], fill: Rgb) -> None:
        """Fill a polygon with a dark edge: the shape in dark, then a little smaller about its middle."""
        corners = np.asarray(points, dtype=np.float64)
        self.polygon(corners, self.dark)
        middle = (corners.min(axis=0) + corners.max(axis=0)) / 2
        self.polygon(middle + (corners - middle) * 0.91, fill)

    def ellipse(self, x: float, y: float, rx: float, ry: float, fill: Rgb) -> None:
        """Fill an ellipse by its middle and radii."""
        self.polygon(_unit_circle(28) * (rx, ry) + (x, y), fill)

    def outlined_ellipse(self, x: float, y: float, rx: float, ry: float) -> None:
        """Fill an ellipse in the object's colour, with a dark edge."""
        self.outlined(_unit_circle(28) * (rx, ry) + (x, y), self.colour)

    def box(self, left: float, top: float, right: float, bottom: float, fill: Rgb) -> None:
        """Fill an upright rectangle."""
        self.polygon(_corners(left, top, right, bottom), fill)

    def outlined_box(self, left: float, top: float, right: float, bottom: float) -> None:
        """Fill an upright rectangle in the object's colour, with a dark edge."""
        self.outlined(_corners(left, top, right, bottom), self.colour)


def _corners(left: float, top: float, right: float, bottom: float) -> list[tuple[float, float]]:
    """Return the corners of an upright rectangle."""
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def _arc(
    x: float, y: float, radius: float, span: tuple[float, float], *, flat: float = 1.0
) -> list[tuple[float, float]]:
    """Return 16 points on an arc; span in degrees, clockwise from the right; flat scales its height."""
    angles = np.radians(np.linspace(*span, 16))
    return [(x + radius * float(np.cos(a)), y + radius * flat * float(np.sin(a))) for a in angles]


def _ball(pen: Pen) -> None:
    pen.outlined_ellipse(0.5, 0.5, 0.46, 0.46)
    pen.polygon(_arc(0.5, 0.5, 0.42, (-20, 20)) + _arc(0.5, 0.5, 0.42, (160, 200)), pen.dark)
    pen.ellipse(0.36, 0.27, 0.1, 0.07, pen.light)


def _square(pen: Pen) -> None:
    pen.outlined_box(0.1, 0.1, 0.9, 0.9)


def _triangle(pen: Pen) -> None:
    pen.polygon([(0.5, 0.02), (0.98, 0.92), (0.02, 0.92)], pen.dark)
    pen.polygon([(0.5, 0.11), (0.91, 0.88), (0.09, 0.88)], pen.colour)


def _star(pen: Pen) -> None:
    corners = _unit_circle(10)[:, ::-1] * (1, -1)
    reach = np.where(np.arange(10) % 2 == 0, 0.5, 0.21)[:, None]
    pen.polygon(corners * reach + (0.5, 0.52), pen.dark)
    pen.polygon(corners * (reach - 0.05) + (0.5, 0.52), pen.colour)


def _heart(pen: Pen) -> None:
    t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    pen.outlined(np.stack([x / 34 + 0.5, y / 34 + 0.46], axis=1), pen.colour)
    pen.ellipse(0.29, 0.27, 0.07, 0.05, pen.light)


def _wheel(pen: Pen, x: float, y: float, radius: float) -> None:
    pen.ellipse(x, y, radius, radius, _INK)
    pen.ellipse(x, y, radius * 0.5, radius * 0.5, (170, 170, 176))


def _car(pen: Pen) -> None:
    pen.polygon([(0.2, 0.5), (0.32, 0.24), (0.66, 0.24), (0.8, 0.5)], pen.dark)
    pen.polygon([(0.27, 0.48), (0.36, 0.29), (0.48, 0.29), (0.48, 0.48)], _GLASS)
    pen.polygon([(0.53, 0.48), (0.53, 0.29), (0.63, 0.29), (0.73, 0.48)], _GLASS)
    pen.polygon(
        [(0.02, 0.5), (0.1, 0.45), (0.86, 0.45), (0.98, 0.55), (0.98, 0.74), (0.02, 0.74)], pen.colour
    )
    pen.box(0.02, 0.68, 0.98, 0.74, pen.dark)
    pen.ellipse(0.93, 0.57, 0.04, 0.04, (255, 240, 150))
    _wheel(pen, 0.24, 0.74, 0.13)
    _wheel(pen, 0.76, 0.74, 0.13)


def _bus(pen: Pen) -> None:
    pen.outlined_box(0.02, 0.16, 0.98, 0.78)
    for left in (0.08, 0.31, 0.54, 0.77):
        pen.box(left, 0.25, left + 0.16, 0.46, _GLASS)
    pen.box(0.04, 0.56, 0.96, 0.61, pen.dark)
    _wheel(pen, 0.22, 0.79, 0.11)
    _wheel(pen, 0.78, 0.79, 0.11)


def _boat(pen: Pen) -> None:
    pen.box(0.47, 0.04, 0.52, 0.7, _BARK)
    pen.polygon([(0.55, 0.06), (0.55, 0.58), (0.94, 0.58)], _PAPER)
    pen.polygon([(0.44, 0.16), (0.44, 0.58), (0.14, 0.58)], (225, 222, 212))
    pen.outlined([(0.02, 0.64), (0.98, 0.64), (0.8, 0.94), (0.2, 0.94)], pen.colour)


def _house(pen: Pen) -> None:
    pen.box(0.14, 0.42, 0.86, 0.96, pen.colour)
    pen.polygon([(0.5, 0.03), (0.99, 0.45), (0.01, 0.45)], pen.dark)
    pen.box(0.42, 0.64, 0.6, 0.96, _BARK)
    pen.box(0.2, 0.54, 0.36, 0.7, _GLASS)
    pen.box(0.66, 0.54, 0.81, 0.7, _GLASS)


def _tree(pen: Pen) -> None:
    pen.box(0.43, 0.58, 0.57, 0.99, _BARK)
    for x, y, radius in ((0.28, 0.44, 0.24), (0.72, 0.44, 0.24), (0.5, 0.26, 0.26)):
        pen.ellipse(x, y, radius, radius, pen.dark)
    for x, y, radius in ((0.3, 0.43, 0.21), (0.7, 0.43, 0.21), (0.5, 0.28, 0.24), (0.5, 0.5, 0.2)):
        pen.ellipse(x, y, radius, radius, pen.colour)


def _flower(pen: Pen) -> None:
    pen.box(0.47, 0.5, 0.53, 0.99, _LEAF)
    pen.polygon([(0.52, 0.84), (0.66, 0.68), (0.82, 0.72), (0.7, 0.84)], _LEAF)
    for dx, dy in _unit_circle(6).tolist():
        pen.ellipse(0.5 + 0.22 * dx, 0.34 + 0.22 * dy, 0.16, 0.16, pen.dark)
        pen.ellipse(0.5 + 0.22 * dx, 0.34 + 0.22 * dy, 0.13, 0.13, pen.colour)
    pen.ellipse(
        0.5, 0.34, 0.12, 0.12, (250, 196, 40) if pen.colour[2] > 90 or pen.colour[1] < 120 else (130, 70, 30)
    )


def _face(pen: Pen) -> None:
    pen.outlined_ellipse(0.5, 0.5, 0.47, 0.47)
    ink = _PAPER if sum(pen.colour) < 330 else _INK
    for x in (0.34, 0.66):
        pen.ellipse(x, 0.38, 0.065, 0.1, ink)
    pen.polygon(_arc(0.5, 0.54, 0.29, (10, 170)) + _arc(0.5, 0.54, 0.2, (170, 10)), ink)


def _fish(pen: Pen) -> None:
    pen.polygon([(0.26, 0.5), (0.01, 0.22), (0.07, 0.5), (0.01, 0.78)], pen.dark)
    pen.polygon([(0.45, 0.3), (0.58, 0.12), (0.72, 0.34)], pen.dark)
    pen.outlined_ellipse(0.6, 0.5, 0.38, 0.25)
    pen.ellipse(0.82, 0.43, 0.055, 0.055, _PAPER)
    pen.ellipse(0.83, 0.43, 0.028, 0.028, _INK)


def _bird(pen: Pen) -> None:
    pen.polygon([(0.84, 0.24), (0.99, 0.31), (0.84, 0.37)], (250, 170, 30))
    pen.polygon([(0.3, 0.5), (0.01, 0.42), (0.04, 0.62), (0.3, 0.68)], pen.dark)
    pen.outlined_ellipse(0.46, 0.58, 0.3, 0.22)
    pen.ellipse(0.73, 0.31, 0.16, 0.16, pen.colour)
    pen.polygon([(0.32, 0.5), (0.62, 0.52), (0.4, 0.76)], pen.dark)
    pen.ellipse(0.77, 0.27, 0.04, 0.04, _PAPER)
    pen.ellipse(0.775, 0.27, 0.02, 0.02, _INK)
    pen.box(0.42, 0.79, 0.45, 0.96, (250, 170, 30))
    pen.box(0.53, 0.79, 0.56, 0.96, (250, 170, 30))


def _cat(pen: Pen) -> None:
    for left in (0.12, 0.6):
        pen.polygon(
            [(left, 0.4), (left + 0.04 + (0.2 if left > 0.5 else 0.0), 0.02), (left + 0.28, 0.4)], pen.dark
        )
    pen.outlined_ellipse(0.5, 0.56, 0.42, 0.36)
    ink = _PAPER if sum(pen.colour) < 330 else _INK
    for x in (0.34, 0.66):
        pen.ellipse(x, 0.48, 0.075, 0.085, (170, 220, 90))
        pen.ellipse(x, 0.48, 0.025, 0.075, _INK)
    pen.polygon([(0.45, 0.61), (0.55, 0.61), (0.5, 0.67)], (240, 130, 140))
    for side in (-1, 1):
        for drop in (0.62, 0.7):
            pen.polygon(
                [(0.5 + side * 0.14, 0.65), (0.5 + side * 0.47, drop), (0.5 + side * 0.47, drop + 0.025)], ink
            )


def _apple(pen: Pen) -> None:
    pen.polygon([(0.48, 0.28), (0.54, 0.04), (0.6, 0.06), (0.53, 0.3)], _BARK)
    pen.polygon([(0.56, 0.16), (0.7, 0.04), (0.88, 0.1), (0.74, 0.22)], _LEAF)
    pen.ellipse(0.34, 0.58, 0.3, 0.36, pen.dark)
    pen.ellipse(0.66, 0.58, 0.3, 0.36, pen.dark)
    pen.ellipse(0.35, 0.58, 0.26, 0.32, pen.colour)
    pen.ellipse(0.65, 0.58, 0.26, 0.32, pen.colour)
    pen.ellipse(0.27, 0.45, 0.06, 0.09, pen.light)


def _mushroom(pen: Pen) -> None:
    pen.polygon([(0.38, 0.48), (0.62, 0.48), (0.68, 0.97), (0.32, 0.97)], (236, 224, 196))
    pen.outlined([*_arc(0.5, 0.54, 0.49, (180, 360), flat=0.95)], pen.colour)
    spot = _PAPER if sum(pen.colour) < 640 else (200, 60, 60)
    for x, y, radius in ((0.3, 0.4, 0.075), (0.55, 0.24, 0.085), (0.74, 0.42, 0.065)):
        pen.ellipse(x, y, radius, radius, spot)


def _balloon(pen: Pen) -> None:
    pen.polygon([(0.49, 0.7), (0.52, 0.7), (0.56, 0.84), (0.5, 0.99), (0.47, 0.99), (0.53, 0.84)], _INK)
    pen.polygon([(0.5, 0.66), (0.58, 0.76), (0.42, 0.76)], pen.dark)
    pen.outlined_ellipse(0.5, 0.36, 0.31, 0.36)
    pen.ellipse(0.39, 0.22, 0.06, 0.1, pen.light)


def _umbrella(pen: Pen) -> None:
    pen.box(0.48, 0.1, 0.52, 0.86, _INK)
    pen.polygon(_arc(0.58, 0.85, 0.1, (180, 0)) + _arc(0.58, 0.85, 0.06, (0, 180)), _INK)
    pen.polygon(_arc(0.5, 0.54, 0.49, (180, 360), flat=0.98), pen.dark)
    pen.polygon(_arc(0.5, 0.52, 0.45, (180, 360), flat=0.96), pen.colour)
    pen.polygon([(0.5, 0.08), (0.36, 0.52), (0.33, 0.52)], pen.dark)
    pen.polygon([(0.5, 0.08), (0.64, 0.52), (0.67, 0.52)], pen.dark)


def _butterfly(pen: Pen) -> None:
    for side in (-1, 1):
        for x, y, rx, ry in ((0.25, 0.3, 0.24, 0.26), (0.22, 0.7, 0.19, 0.2)):
            pen.outlined_ellipse(0.5 + side * x, y, rx, ry)
            pen.ellipse(0.5 + side * x, y, rx * 0.4, ry * 0.4, pen.light)
        pen.polygon([(0.5, 0.2), (0.5 + side * 0.13, 0.0), (0.5 + side * 0.16, 0.02)], _INK)
    pen.ellipse(0.5, 0.5, 0.05, 0.36, _INK)


def _cup(pen: Pen) -> None:
    pen.ellipse(0.76, 0.48, 0.21, 0.22, pen.dark)
    pen.ellipse(0.76, 0.48, 0.12, 0.13, _PAPER)
    pen.outlined([(0.06, 0.2), (0.78, 0.2), (0.7, 0.9), (0.14, 0.9)], pen.colour)
    pen.ellipse(0.42, 0.2, 0.36, 0.09, pen.dark)
    pen.ellipse(0.42, 0.21, 0.31, 0.06, (92, 54, 30))


SHAPES: dict[str, Callable[[Pen], None]] = {
    "ball": _ball,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
    "car": _car,
    "bus": _bus,
    "boat": _boat,
    "house": _house,
    "tree": _tree,
    "flower": _flower,
    "face": _face,
    "fish": _fish,
    "bird": _bird,
    "cat": _cat,
    "apple": _apple,
    "mushroom": _mushroom,
    "balloon": _balloon,
    "umbrella": _umbrella,
    "butterfly": _butterfly,
    "cup": _cup,
}


def draw_shape(kind: str, colour: str, side_pixels: int, rng: np.random.Generator) -> Image.Image:
    """Return one object on a transparent square tile, tilted, stretched and tinted a little at random.

    Returns:
        RGBA image, about 1.2 times `side_pixels` on a side.
    """
    tile_pixels = round(side_pixels * 1.2)
    large = tile_pixels * _ENLARGED
    tint: Any = np.clip(np.asarray(PAINTS[colour]) + rng.integers(-8, 9) + rng.integers(-4, 5, 3), 0, 255)
    tilt = float(np.radians(rng.uniform(-11, 11)))
    turn = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
    stretch = np.diag(
        [float(rng.uniform(0.92, 1.05)) * (1 if rng.random() < 0.5 else -1), float(rng.uniform(0.92, 1.05))]
    )
    paint: Rgb = (int(tint[0]), int(tint[1]), int(tint[2]))
    # Clear pixels carry the object's own colour, so that smoothed edges have no dark fringe.
    tile = Image.new("RGBA", (large, large), (*paint, 0))
    SHAPES[kind](Pen(ImageDraw.Draw(tile), turn @ stretch * (side_pixels * _ENLARGED), large / 2, paint))
    pixels = np.asarray(tile.reduce(_ENLARGED)).astype(np.float32)
    light = np.linspace(
        float(rng.uniform(1.0, 1.1)), float(rng.uniform(0.84, 0.96)), tile_pixels, dtype=np.float32
    )
    pixels[..., :3] *= light[:, None, None]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8), "RGBA")
