"""Whether two pictures are copies of one another, judged from their thumbnails alone.

An embedding proposes pairs and this decides: one thumbnail is laid over the other as well as
possible (`transforms.registration`), then what lies over one another is compared. The score is the
least of three correlations: of the brightness gradients across, of those down, and of the colours.
Scenes that share one long edge, such as a horizon, agree in one direction only, so they score low
where plain correlation scores high; a shape on a plain ground is not a copy of one in another colour.

The two pictures of a pair are put in the order of their values first, so nothing but the direction
of `scale` and `shift` depends on which one is called left.

`python -m benchmarks.near_duplicates` shows what COPY_SCORE finds among pairs that people judged,
beside other methods. Not found are pictures with a broad frame or banner, turned by more than about
5 degrees, or of which less than half is left; what is most easily mistaken for a copy is one small
plain shape in another place, and another shot of the same scene.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from transforms.registration import SIDE, Floats, inverted, register, seen_through

DuplicateKind = Literal["exact", "re-encoded", "edited", "similar", "none"]
KINDS: tuple[DuplicateKind, ...] = ("exact", "re-encoded", "edited", "similar", "none")

COPY_SCORE = 0.80
SIMILAR_SCORE = 0.65
# What a second encoding or another size may change where nobody edited the picture.
SAME_FRAMING_MOVED = 0.02
SAME_COLOURS_CHANGED = 4.0

_BATCH = 256
_FILLED = 16
_REGISTERED = 0.6
# Gradients of less than one level (RMS) are no structure to compare.
_FLOOR = 1.0
_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)


@dataclass(frozen=True)
class Verified:
    """How well n pairs agree, the right picture being laid over the left one. Never NaN.

    Attributes:
        score: (n,) float32 in [-1, 1]: the least of the correlations of gradients across, gradients
            down, and colours; 1 for equal thumbnails, 0 where no way to lay them over one another
            was found.
        orientation: (n,) int8: 1 where one is the mirror image of the other, else 0.
        scale: (n,) float32: how much larger things are on the right than on the left.
        shift: (n, 2) float32: where the left's centre lies on the right, from the right's centre,
            across and down, in sides.
        moved: (n,) float32: how far the corner that moved most is from its place, in sides of
            whichever picture sees it move more; a mirror image is looked at mirrored back.
        changed: (n,) float32: what the means or deviations of a channel differ by at most over the
            common area, in levels of 0..255.
    """

    score: Floats
    orientation: NDArray[np.int8]
    scale: Floats
    shift: Floats
    moved: Floats
    changed: Floats


def verify_pairs(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> Verified:
    """How well each pair agrees; left, right: (n, s, s, 3) uint8 thumbnails, s a multiple of 32.

    Thumbnails larger than 32 x 32 are averaged down to that. Apart from the answer, memory does
    not grow with n. Two pictures that nowhere differ by more than one level score 1; a picture
    without structure, or with structure in one direction only, agrees with nothing else.

    Raises: ValueError for other shapes or types.
    """
    if left.shape != right.shape or not (_is_thumbnails(left) and _is_thumbnails(right)):
        msg = (
            f"thumbnails must be two arrays (n, s, s, 3) uint8 of one shape, s a multiple of {SIDE}; "
            f"these are {left.shape} {left.dtype} and {right.shape} {right.dtype}"
        )
        raise ValueError(msg)
    starts = range(0, max(1, len(left)), _BATCH)
    batches = [_verify(_filled(left[at : at + _BATCH]), _filled(right[at : at + _BATCH])) for at in starts]
    names = [field.name for field in fields(Verified)]
    joined = {name: np.concatenate([getattr(batch, name) for batch in batches]) for name in names}
    return Verified(**{name: values[: len(left)] for name, values in joined.items()})


def duplicate_kind(
    verified: Verified,
    same_pixels: NDArray[np.bool_],
    *,
    copy_score: float = COPY_SCORE,
    similar_score: float = SIMILAR_SCORE,
) -> NDArray[np.str_]:
    """What the two of each pair are to one another; same_pixels: (n,) bool, pixel hashes are equal.

    * `exact`: the same pixels;
    * `re-encoded`: score >= copy_score, not mirrored, no corner moved by more than 2 % of the side,
      and colours changed by at most 4 levels: what compression and another size do;
    * `edited`: score >= copy_score, but cut, moved, stretched, mirrored or recoloured;
    * `similar`: score >= similar_score: mostly another shot of the same thing;
    * `none`: all others.

    Returns: (n,) str, each one of KINDS.
    """
    copied = verified.score >= copy_score
    same_framing = (verified.orientation == 0) & (verified.moved <= SAME_FRAMING_MOVED)
    same_colours = verified.changed <= SAME_COLOURS_CHANGED
    cases = [same_pixels, copied & same_framing & same_colours, copied, verified.score >= similar_score]
    return np.select(cases, KINDS[:-1], KINDS[-1])


def _is_thumbnails(pictures: NDArray[np.generic]) -> bool:
    if pictures.dtype != np.uint8 or pictures.ndim != 4:
        return False
    _, height, width, channels = pictures.shape
    return bool(height == width >= SIDE and height % SIDE == 0 and channels == 3)


def _filled(thumbnails: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The batch with black pictures behind it, up to a multiple of 16, at least 16.

    A matrix product of very few rows adds in another order, and a score would depend in its last
    digits on how many pairs are verified at once.
    """
    missing = -len(thumbnails) % _FILLED if len(thumbnails) else _FILLED
    return np.pad(thumbnails, ((0, missing), (0, 0), (0, 0), (0, 0)))


def _verify(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> Verified:
    """One batch, computed from the one of each pair that comes first to the other."""
    n = len(left)
    one, other = _reduced(left), _reduced(right)
    difference = (one - other).reshape(n, -1)
    swapped = difference[np.arange(n), (difference != 0).argmax(axis=1)] > 0
    equal = np.abs(difference).max(axis=1, initial=0) <= 1
    order = swapped[:, None, None, None]
    first, second = np.where(order, other, one), np.where(order, one, other)
    maps, agreement = register(first @ _LUMINANCE, second @ _LUMINANCE)
    agreement[equal] = 0
    unlike = agreement < _REGISTERED
    maps[unlike] = np.eye(2, 3)
    score, changed = equal.astype(np.float32), np.zeros(n, dtype=np.float32)
    rows = np.flatnonzero(~unlike)
    score[rows], changed[rows] = _compare(first[rows], second[rows], maps[rows])
    orientation = (maps[:, 0, 0] < 0).astype(np.int8)
    back = inverted(maps)
    rightwards = np.where(swapped[:, None, None], back, maps)
    return Verified(
        score=score,
        orientation=orientation,
        scale=np.sqrt(np.abs(np.linalg.det(rightwards[:, :, :2]))),
        shift=np.asarray(rightwards[:, :, 2] / 2),
        moved=np.maximum(_moved(maps, orientation), _moved(back, orientation)),
        changed=changed,
    )


def _reduced(thumbnails: NDArray[np.uint8]) -> Floats:
    """(n, s, s, 3) uint8 -> (n, 32, 32, 3) float32 in 0..255."""
    n, side = thumbnails.shape[:2]
    if side == SIDE:
        return thumbnails.astype(np.float32)
    step = side // SIDE
    blocks = thumbnails.reshape(n, SIDE, step, SIDE, step, 3)
    return np.asarray(blocks.mean(axis=(2, 4), dtype=np.float32))


def _moved(maps: Floats, orientation: NDArray[np.int8]) -> Floats:
    """(n,) the way of the corner that moves most, in sides; maps: (n, 2, 3)."""
    upright = maps.copy()
    upright[orientation == 1, 0] *= -1
    corners = np.array([[-1, -1, 1, 1], [-1, 1, -1, 1], [1, 1, 1, 1]], dtype=np.float32)
    ways = np.linalg.norm(upright @ corners - corners[:2], axis=1)
    return np.asarray(ways.max(axis=1) / 2)


def _compare(first: Floats, second: Floats, maps: Floats) -> tuple[Floats, Floats]:
    """The scores and the changes of colour; first, second: (n, 32, 32, 3), maps: (n, 2, 3).

    Returns: (n,) float32 in [-1, 1]; (n,) float32 levels.
    """
    seen, common = seen_through(second, maps)
    pixels = first.reshape(seen.shape)
    gradients = [
        np.gradient((values @ _LUMINANCE).reshape(-1, SIDE, SIDE), axis=(1, 2)) for values in (pixels, seen)
    ]
    down, across = (
        _correlation(a.reshape(common.shape), b.reshape(common.shape), common)
        for a, b in zip(*gradients, strict=True)
    )
    channels = np.moveaxis(pixels, 2, 1), np.moveaxis(seen, 2, 1)
    colours = _correlation(*channels, common[:, None])
    return np.minimum(colours, np.minimum(down, across)), _change_of_colours(pixels, seen, common)


def _correlation(a: Floats, b: Floats, common: Floats) -> Floats:
    """(n,) correlation of (n, p) or (n, 3, p) values where common is 1; 0 where nothing varies.

    Channels are centred each by itself, then taken together: one contrast for all of them.
    """
    count = np.maximum(common.sum(axis=-1, keepdims=True), 1)
    a, b = ((values - (values * common).sum(axis=-1, keepdims=True) / count) * common for values in (a, b))
    n = len(a)
    a, b = a.reshape(n, math.prod(a.shape[1:])), b.reshape(n, math.prod(b.shape[1:]))
    floor = _FLOOR**2 * count.reshape(n)
    energy = np.maximum((a**2).sum(axis=1), floor) * np.maximum((b**2).sum(axis=1), floor)
    return np.asarray(np.clip((a * b).sum(axis=1) / np.sqrt(energy), -1, 1))


def _change_of_colours(a: Floats, b: Floats, common: Floats) -> Floats:
    """(n,) the greatest difference of the channels' means and deviations; a, b: (n, p, 3)."""
    shares = (common / np.maximum(common.sum(axis=1, keepdims=True), 1))[..., None]
    moments = []
    for values in (a, b):
        mean = (values * shares).sum(axis=1)
        variance = ((values - mean[:, None]) ** 2 * shares).sum(axis=1)
        moments.append(np.concatenate([mean, np.sqrt(variance)], axis=1))
    return np.asarray(np.abs(moments[0] - moments[1]).max(axis=1))
