"""How one small picture has to be laid over another so that they agree: mirrored, moved, stretched.

1. *Search*: normalised cross-correlation over mirror images, nine sizes and shifts of up to a
   quarter of the side, on a grid of 16 x 16; most unrelated pairs end here.
2. *Refinement*: the affine map is improved by least squares, on 16 x 16 and then on 32 x 32
   (inverse compositional Lucas-Kanade: Baker and Matthews, "Lucas-Kanade 20 Years On", IJCV 2004,
   section 3.2). We differ in that contrast is evened out locally before, a gain is fitted, the area
   outside of the other picture is left out, and the best step counts, not the last.

A *map* is (2, 3) float32: where a point of the first picture lies on the second. Coordinates are x
and y from the centre, -1 and 1 at the borders.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

SIDE = 32
# Least share of each picture's area that both must show.
COMMON = 0.45
_GRID = 16
# What the second picture is enlarged by, across and down: cuts, and cuts to another aspect ratio.
_SIZES = (
    *((0.75, 0.75), (0.87, 0.87), (1.0, 1.0), (1.15, 1.15), (1.33, 1.33)),
    *((1.0, 0.75), (0.75, 1.0), (1.0, 1.33), (1.33, 1.0)),
)
_REACH = 4
_SHIFTS = 2 * _REACH + 1
# All of 119 pairs that people called near duplicates pass, of their other neighbours 4 %.
_SEARCH_GATE = 0.55
_STRETCH = 1.8


def register(first: Floats, second: Floats) -> tuple[Floats, Floats]:
    """The maps that make the pairs agree best; first, second: (n, 32, 32) float32 brightness, 0..255.

    Returns: (n, 2, 3) float32 maps; (n,) float32 correlation in [-1, 1] of what is then common,
    contrast evened out; 0 and no change where the search finds nothing to go by.
    """
    maps = np.tile(np.eye(2, 3, dtype=np.float32), (len(first), 1, 1))
    agreement = np.zeros(len(first), dtype=np.float32)
    a, b = _evened(first), _evened(second)
    small_a, small_b = _halved(a), _halved(b)
    found, begin = _search(small_a, small_b)
    rows = np.flatnonzero(found >= _SEARCH_GATE)
    _, begin = _refine(small_a[rows], small_b[rows], begin[rows], steps=5)
    agreement[rows], maps[rows] = _refine(a[rows], b[rows], begin, steps=4)
    return maps, agreement


def seen_through(pictures: Floats, maps: Floats) -> tuple[Floats, Floats]:
    """The second pictures as they lie on the first ones, by bilinear interpolation.

    pictures: (n, s, s) or (n, s, s, 3); maps: (n, 2, 3).

    Returns: (n, s * s) or (n, s * s, 3) float32, and (n, s * s) float32: 1 on the picture, 0
    beyond it, where the border is repeated.
    """
    n, side = pictures.shape[:2]
    at = (maps @ _coordinates(side) + 1) * (side / 2) - 0.5
    inside = (np.abs(at - (side - 1) / 2) <= side / 2).all(axis=1).astype(np.float32)
    at = np.clip(at, 0, side - 1)
    whole = np.minimum(np.floor(at), side - 2)
    across, down = np.moveaxis(at - whole, 1, 0)
    column, row = np.moveaxis(whole.astype(np.int32), 1, 0)
    corner = column + side * (row + side * np.arange(n, dtype=np.int32)[:, None])
    flat = pictures.reshape(n * side * side, *pictures.shape[3:])
    if flat.ndim == 2:
        across, down = across[..., None], down[..., None]
    upper = flat[corner] * (1 - across) + flat[corner + 1] * across
    lower = flat[corner + side] * (1 - across) + flat[corner + side + 1] * across
    return upper * (1 - down) + lower * down, inside


def inverted(maps: Floats) -> Floats:
    """(n, 2, 3): where a point of the second picture lies on the first."""
    linear = np.linalg.inv(maps[:, :, :2])
    return np.concatenate([linear, -linear @ maps[:, :, 2:]], axis=2)


# --- pictures made comparable


@cache
def _blur(side: int, sigma: float) -> Floats:
    """(side, side): a Gaussian blur along one axis; the border's pixel stands for all beyond it."""
    offsets = np.arange(-int(4 * sigma + 1), int(4 * sigma + 1) + 1)
    weights = np.exp(-(offsets**2) / (2 * sigma**2))
    matrix = np.zeros((side, side))
    for at in range(side):
        np.add.at(matrix[at], np.clip(at + offsets, 0, side - 1), weights / weights.sum())
    return matrix.astype(np.float32)


def _blurred(pictures: Floats, sigma: float) -> Floats:
    """(n, s, s) -> the same, blurred; one large product for each axis is faster than n small ones."""
    n, side, _ = pictures.shape
    blur = _blur(side, sigma).T
    across = (pictures.reshape(-1, side) @ blur).reshape(n, side, side).transpose(0, 2, 1)
    return np.asarray((across.reshape(-1, side) @ blur).reshape(n, side, side).transpose(0, 2, 1))


def _evened(grey: Floats) -> Floats:
    """Detail of one to three pixels, divided by how much of it there is around: (n, s, s).

    Brightness and contrast are gone afterwards, also where they differ across the picture; detail
    of less than 4 levels is not blown up.
    """
    detail = _blurred(grey, 0.85) - _blurred(grey, 3.0)
    return np.asarray(detail / np.sqrt(_blurred(detail**2, 3.0) + 4.0**2))


def _halved(pictures: Floats) -> Floats:
    rows = pictures[:, ::2] + pictures[:, 1::2]
    return np.asarray((rows[:, :, ::2] + rows[:, :, 1::2]) / 4)


# --- search


@dataclass(frozen=True)
class _Bank:
    """What the search tries, as constant matrices on a picture's 256 pixels; c sizes, k shifts.

    Attributes:
        changes: (c * 256, 256): the sizes.
        covered: (c, 256, k): which pixels of the first picture the changed second covers.
        inside: (256, k): which pixels of the changed second lie on the first.
        common: (c, k) bool: enough of the first is covered.
        maps: (2, c, k, 2, 3): what each means as a map, upright and mirrored.
    """

    changes: Floats
    covered: Floats
    inside: Floats
    common: NDArray[np.bool_]
    maps: Floats


@cache
def _bank() -> _Bank:
    steps = range(-_REACH, _REACH + 1)
    shifts = [(down, across) for down in steps for across in steps]
    whole = np.ones((_GRID, _GRID))
    changes, covered = [], []
    for across, down in _SIZES:
        x, y = _resized(across), _resized(down)
        changes.append(np.kron(y, x))
        footprint = np.outer(y.any(axis=1), x.any(axis=1))
        covered.append([_shifted(footprint, *shift).ravel() for shift in shifts])
    inside = [_shifted(whole, -down, -across).ravel() for down, across in shifts]
    return _Bank(
        changes=np.concatenate(changes).astype(np.float32),
        covered=np.array(covered, dtype=np.float32).transpose(0, 2, 1).copy(),
        inside=np.array(inside, dtype=np.float32).T.copy(),
        common=np.array(covered).mean(axis=2) >= COMMON,
        maps=np.array([[[_map(sign, size, at) for at in shifts] for size in _SIZES] for sign in (1, -1)]),
    )


def _resized(scale: float) -> NDArray[np.float64]:
    """(16, 16): a line of pixels made larger or smaller about its centre; rows of 0 beyond its ends."""
    centre = (_GRID - 1) / 2
    reads = (np.arange(_GRID) - centre) / scale + centre
    weights = np.maximum(0, 1 - np.abs(np.arange(_GRID) - reads[:, None]) / max(1.0, 1 / scale))
    weights[(reads < -0.5) | (reads > _GRID - 0.5)] = 0
    total: NDArray[np.float64] = np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)
    return weights / total


def _shifted(plane: NDArray[np.generic], down: int, across: int) -> NDArray[np.float64]:
    """(16, 16): the plane shifted, zeros coming in."""
    padded = np.pad(plane.astype(np.float64), _REACH)
    top, left = _REACH - down, _REACH - across
    return padded[top : top + _GRID, left : left + _GRID]


def _map(sign: int, size: tuple[float, float], shift: tuple[int, int]) -> Floats:
    """(2, 3): from the first picture to the second, which was mirrored (-1), resized, then shifted."""
    (across, down), (dy, dx) = size, shift
    x, y = sign / across, 1 / down
    return np.array([[x, 0, -x * dx * 2 / _GRID], [0, y, -y * dy * 2 / _GRID]], dtype=np.float32)


def _search(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """The best change of b; a, b: (n, 16, 16).

    Returns: (n,) float32 correlation, (n, 2, 3) float32 map.
    """
    bank, n, pixels, shifts = _bank(), len(a), _GRID**2, _SHIFTS
    count = len(bank.common)
    padded = np.pad(a, ((0, 0), (_REACH, _REACH), (_REACH, _REACH)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (_GRID, _GRID), axis=(1, 2))
    resized = (b.reshape(n, pixels) @ bank.changes.T).reshape(n, count, _GRID, _GRID)
    both = np.stack([resized, resized[..., ::-1]], axis=1).reshape(n, 2 * count, pixels)
    product = both @ windows.reshape(n, shifts**2, pixels).transpose(0, 2, 1)
    squares = (a**2).reshape(n, pixels)
    energy_a = np.stack([squares @ mask for mask in bank.covered], axis=1)
    upright = ((resized**2).reshape(-1, pixels) @ bank.inside).reshape(n, count, shifts, shifts)
    # What lies on the first picture of a mirror image is what lies there with the shift mirrored.
    energy_b = np.stack([upright, upright[..., ::-1]], axis=1).reshape(n, 2, count, shifts**2)
    # + 2: in pictures with little detail nothing correlates by chance.
    scores = product.reshape(energy_b.shape) / np.sqrt((energy_a[:, None] + 2) * (energy_b + 2))
    flat = np.where(bank.common, scores, -1).reshape(n, 2 * count * shifts**2)
    best = flat.argmax(axis=1)
    return flat[np.arange(n), best], bank.maps.reshape(-1, 2, 3)[best]


# --- refinement


@cache
def _coordinates(side: int) -> Floats:
    """(3, side * side): x, y of the pixels' centres, and ones."""
    line = (np.arange(side) + 0.5) * 2 / side - 1
    y, x = np.meshgrid(line, line, indexing="ij")
    return np.stack([x.ravel(), y.ravel(), np.ones(side * side)]).astype(np.float32)


def _refine(a: Floats, b: Floats, maps: Floats, steps: int) -> tuple[Floats, Floats]:
    """The maps improved; a, b: (n, s, s) evened pictures; maps: (n, 2, 3).

    Returns: (n,) float32 correlation, (n, 2, 3) float32 maps, the best of all steps.
    """
    n, side, _ = a.shape
    down, across = np.gradient(a, 2 / side, axis=(1, 2))
    x, y, _ = _coordinates(side)
    target = a.reshape(n, side * side)
    gx, gy = across.reshape(target.shape), down.reshape(target.shape)
    slopes = np.stack([gx * x, gx * y, gx, gy * x, gy * y, gy], axis=1)
    best, best_maps = np.full(n, -1, dtype=np.float32), maps
    for step in range(steps + 1):
        seen, inside = seen_through(b, maps)
        seen, wanted = seen * inside, target * inside
        product, energy = (wanted * seen).sum(axis=1), (seen**2).sum(axis=1)
        found = product / np.sqrt(((wanted**2).sum(axis=1) + 1) * (energy + 1))
        found[~_enough_in_common(maps, inside)] = -1
        better = found > best
        best, best_maps = np.where(better, found, best), np.where(better[:, None, None], maps, best_maps)
        if step < steps:
            gain = np.clip(product / (energy + 1), 0.3, 3)
            moved = _least_squares(slopes * inside[:, None], gain[:, None] * seen - wanted)
            maps = _after(maps, inverted(moved))
    return best, best_maps


def _least_squares(slopes: Floats, error: Floats) -> Floats:
    """(n, 2, 3): the damped step as a map; slopes: (n, 6, p), error: (n, p)."""
    normal = slopes @ slopes.transpose(0, 2, 1)
    strength = np.trace(normal, axis1=1, axis2=2)[:, None, None] / 6
    damped = normal + np.eye(6, dtype=np.float32) * (0.01 * strength + 1)
    step = np.linalg.solve(damped, slopes @ error[:, :, None]).reshape(-1, 2, 3)
    # No step of more than .3 turns a map inside out.
    return np.clip(step, -0.3, 0.3) + np.eye(2, 3, dtype=np.float32)


def _after(outer: Floats, inner: Floats) -> Floats:
    """(n, 2, 3): first inner, then outer."""
    result = outer[:, :, :2] @ inner
    result[:, :, 2] += outer[:, :, 2]
    return result


def _enough_in_common(maps: Floats, inside: Floats) -> NDArray[np.bool_]:
    """(n,) bool: the common area is a fair share of each picture, and the map no gross distortion."""
    linear = maps[:, :, :2]
    share, area = inside.mean(axis=1), np.abs(np.linalg.det(linear))
    lengths = np.linalg.norm(linear, axis=1)
    even = lengths.max(axis=1) <= _STRETCH * lengths.min(axis=1)
    enough: NDArray[np.bool_] = (share >= COMMON) & (share * area >= COMMON) & even
    return enough
