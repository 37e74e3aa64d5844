"""PDQ and pHash: hashes that stay (nearly) the same when a picture is resized, re-encoded or greyed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from transforms.decode import Picture
from transforms.measure import Column, Measured, Meter, SampleMeasure

COLUMNS = (
    Column("pdq_hash", pa.string(), "PDQ of the picture", "64 hex digits"),
    Column("pdq_quality", pa.int32(), "PDQ's quality: how much there is to see; reject below 50", "0..100"),
    Column(
        "pdq_flips",
        pa.string(),
        "PDQ of the picture and of its seven flips and turns",
        "8 x 64 hex digits",
        carried=False,
    ),
    Column("phash", pa.string(), "pHash of the luminance", "16 hex digits"),
    Column(
        "phash_flips",
        pa.string(),
        "pHash of the picture and of its flips and turns",
        "8 x 16 hex digits",
        carried=False,
    ),
    Column(
        "grey_variance", pa.float32(), "variance of luminance in the 32 x 32 that pHash sees", "0..16256.25"
    ),
)
# What is done to the picture, in the order of the hashes in the columns of flips.
VARIANTS = (
    "as it is",
    "mirrored left to right",
    "upside down",
    "turned by 180 degrees",
    "transposed: mirrored at the diagonal from the upper left",
    "turned by 90 degrees clockwise",
    "turned by 90 degrees counter-clockwise",
    "mirrored at the other diagonal",
)
# Below these a hash says too little: PDQ's authors' bound, and hardly any variance for pHash.
LEAST_QUALITY, LEAST_VARIANCE = 50, 4.0
# Half of a hash's bits are set; fewer mean that much of the picture's transform is zero.
LEAST_BITS_SET = {"pdq": 56, "phash": 24}
PDQ_SIDE, PDQ_KEPT = 64, 16
PDQ_LEAST_SIDE = 5  # pixels; smaller pictures have no PDQ: all bits 0, quality 0
PHASH_SIDE, PHASH_KEPT = 32, 8
STRIP_PIXELS = 2**20  # held as floats at once
# Sums are rounded to this, so that bits do not depend on the order in which a processor adds.
GRID = 2.0**16


class PerceptualHashes(SampleMeasure):
    """Hashes of how the picture looks, for finding near copies by Hamming distance.

    Two pictures are near copies at 31 bits or less of PDQ (both of quality 50 or more), or 10 bits
    or less of pHash (both of some variance: every flat picture has the pHash 8000000000000000, or 0
    where it is black).
    Both stand JPEG, another size or aspect ratio and the loss of colour; neither stands a crop,
    and flips and quarter turns only by comparing `pdq_hash` with the eight of `pdq_flips`.

    Half of a hash's bits are set, 128 and 32. Fewer mean that much of the picture's transform is
    zero, which quality and variance do not tell: stripes and gradients in one direction have PDQ 0
    and similar pHashes, symmetric pictures half the bits. So hashes with fewer than 56 and 24 bits
    set say too little to call two pictures copies.

    Hex digits are how published lists write these hashes, and what JSON can hold: kept samples take
    their signals with them. In DuckDB the distance is
    `bit_count(xor(unhex(a.pdq_hash)::BIT, unhex(b.pdq_hash)::BIT))`; `codes_of` makes numpy arrays.
    `pdq_flips` and `phash_flips` hold eight hashes one after the other: of the picture as it is,
    mirrored left to right, upside down, turned by 180 degrees, transposed, turned by 90 degrees
    clockwise, counter-clockwise, and transposed on the other diagonal.

    PDQ is written from its paper (Facebook, The TMK+PDQF Video-Hashing Algorithm and the PDQ
    Image-Hashing Algorithm, 2019), pHash equals that of the library ImageHash. The libraries need
    more than we ask of a user (a C++ compiler; scipy and PyWavelets). On 60 made-up photographs of 5
    to 1500 pixels all pHashes equal ImageHash 4.3.2's, and all PDQ hashes and qualities pdqhash
    0.2.8's, but for one picture 8 pixels wide. Where a value ties with the median, as in that one
    and in symmetric pictures, pdqhash's bit is its rounding error; ours is 0.
    """

    def columns(self, name: str) -> tuple[Column, ...]:  # noqa: ARG002  (one set of hashes)
        return COLUMNS

    def meter(self, name: str) -> Meter:  # noqa: ARG002
        return _Meter()


class _Meter:
    def prepare(self, picture: Picture, caption: str) -> tuple[object, ...]:  # noqa: ARG002
        pdq, quality = pdq_hashes(picture.rgb)
        phash, variance = phashes(picture.rgb)
        return (
            pdq[0].tobytes().hex(),
            quality,
            pdq.tobytes().hex(),
            phash[0].tobytes().hex(),
            phash.tobytes().hex(),
            variance,
        )

    def measure(self, prepared: Sequence[tuple[object, ...]]) -> Measured:
        names = [column.name for column in COLUMNS]
        return Measured(dict(zip(names, map(list, zip(*prepared, strict=True)), strict=True)), {})


def codes_of(hashes: pa.Array | pa.ChunkedArray, width: int) -> NDArray[np.uint8]:
    """The hashes of a column without nulls; width: bytes of one, such as 32 for `pdq_hash`.

    Flips are more codes in a row: (n, 256) of `pdq_flips` is (n, 8, 32).

    Returns: (n, width) uint8.
    Raises: ValueError where a text has another length or is not hex; TypeError for a null.
    """
    texts = hashes.to_pylist()
    odd = next((text for text in texts if text is not None and len(text) != 2 * width), None)
    if odd is not None:
        msg = f"a hash of {width} bytes has {2 * width} hex digits, {odd!r} has {len(odd)}"
        raise ValueError(msg)
    return np.frombuffer(bytes.fromhex("".join(texts)), dtype=np.uint8).reshape(-1, width)


def pdq_hashes(rgb: Image.Image) -> tuple[NDArray[np.uint8], int]:
    """PDQ of a picture in each of `VARIANTS`, and its quality.

    The variants are computed from the picture's own cosine transform, as PDQ's authors do;
    the hash of a file that really is flipped is a few bits away, as PDQ samples it elsewhere.

    Returns: (8, 32) uint8, the highest bit first as in PDQ's text; and 0..100.
    """
    if min(rgb.size) < PDQ_LEAST_SIDE:
        return np.zeros((len(VARIANTS), 32), dtype=np.uint8), 0
    reduced = pdq_reduced(rgb)
    cosines = _cosines(PDQ_SIDE)[1 : PDQ_KEPT + 1]
    bits = _above_median(_variants(_on_grid(cosines @ reduced @ cosines.T), first=1))
    return np.packbits(bits[:, ::-1], axis=1), pdq_quality(reduced)


def phashes(rgb: Image.Image) -> tuple[NDArray[np.uint8], float]:
    """The pHash of a picture in each of `VARIANTS`, and the variance of what it sees.

    Returns: (8, 8) uint8, the highest bit first; and the variance of 32 x 32 luminances of 0..255.
    """
    size = (PHASH_SIDE, PHASH_SIDE)
    pixels = np.asarray(rgb.convert("L").resize(size, Image.Resampling.LANCZOS), dtype=np.float64)
    cosines = _cosines(PHASH_SIDE)[:PHASH_KEPT]
    bits = _above_median(_variants(_on_grid(cosines @ pixels @ cosines.T), first=0))
    return np.packbits(bits, axis=1), float(pixels.var())


def pdq_reduced(rgb: Image.Image) -> NDArray[np.float64]:
    """The picture as PDQ sees it: luminance, smoothed by two box filters, at 64 x 64 points.

    Filters and sampling are linear along each side, so they are weights of few rows and columns.
    Strip by strip, so a large picture is never held as floats.

    Returns: (64, 64) float64 in 0..255.
    """
    tops, down = _weights(rgb.height)
    rows = down.shape[1]
    strips = np.empty((PDQ_SIDE, rgb.width))
    together = max(1, STRIP_PIXELS // (rows * rgb.width))
    for begin in range(0, PDQ_SIDE, together):
        lines = range(begin, min(begin + together, PDQ_SIDE))
        top = int(tops[begin])
        strip = rgb.crop((0, top, rgb.width, int(tops[lines[-1]]) + rows)).convert("F")
        luminance = np.asarray(strip)
        for line in lines:
            strips[line] = down[line] @ luminance[tops[line] - top :][:rows]
    lefts, across = _weights(rgb.width)
    columns = lefts[:, None] + np.arange(across.shape[1])
    return _on_grid(np.einsum("rcw,cw->rc", strips[:, columns], across))


def pdq_quality(reduced: NDArray[np.float64]) -> int:
    """PDQ's quality, 0..100: the steps between neighbours in whole per cent, summed and divided by 90.

    reduced: (64, 64) in 0..255.
    """
    steps = (np.trunc(np.abs(np.diff(reduced, axis=axis)) * 100 / 255).sum() for axis in (0, 1))
    return min(100, int(sum(steps)) // 90)


@lru_cache(maxsize=64)
def _weights(length: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """How PDQ makes 64 values of a side: the first pixel of each value, and its weights.

    Returns: (64,) int64 and (64, k) float64, rows of sum 1; windows lie within the side.
    """
    box = math.ceil(length / (2 * PDQ_SIDE))
    before, after = (box - 1) // 2, box // 2  # an even box reaches further to the right
    sampled = ((np.arange(PDQ_SIDE) + 0.5) * length / PDQ_SIDE).astype(np.int64)
    count = min(length, 2 * box - 1)
    first = np.clip(sampled - 2 * before, 0, length - count)
    # The second filter averages what the first made around each of these pixels.
    middle = sampled[:, None] - before + np.arange(box)
    inside = (middle >= 0) & (middle < length)
    low = np.clip(middle - before, first[:, None], length - 1)
    high = np.clip(middle + after + 1, low + 1, length)
    share = inside / (inside.sum(axis=1, keepdims=True) * (high - low))
    value = np.arange(PDQ_SIDE)[:, None]
    steps = np.zeros((PDQ_SIDE, count + 1))
    np.add.at(steps, (value, low - first[:, None]), share)
    np.add.at(steps, (value, high - first[:, None]), -share)
    return first, np.cumsum(steps, axis=1)[:, :-1]


@lru_cache(maxsize=2)
def _cosines(side: int) -> NDArray[np.float64]:
    """The cosine transform (DCT-II) of a side: (side, side), row k of frequency k; unnormalised."""
    angles = np.outer(np.arange(side), 2 * np.arange(side) + 1) * (np.pi / (2 * side))
    cosines: NDArray[np.float64] = np.cos(angles)
    return cosines


def _variants(transform: NDArray[np.float64], *, first: int) -> NDArray[np.float64]:
    """The cosine transforms of the flipped and turned pictures; mirroring changes odd frequencies' signs.

    transform: (k, k), its first frequency being `first`. Returns: (8, k, k), as in `VARIANTS`.
    """
    sign = np.where((np.arange(len(transform)) + first) % 2, -1.0, 1.0)
    kept = np.stack([transform, transform.T])[:, None, None]
    down = np.stack([np.ones_like(sign), sign])[None, :, None, :, None]
    across = np.stack([np.ones_like(sign), sign])[None, None, :, None, :]
    made: NDArray[np.float64] = (kept * down * across).reshape(len(VARIANTS), *transform.shape)
    return made


def _above_median(transforms: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which values lie above the median of their transform; (8, k, k) -> (8, k * k)."""
    values = transforms.reshape(len(transforms), -1)
    middle = values.shape[1] // 2 - 1
    return values > np.partition(values, middle, axis=1)[:, middle, None]


def _on_grid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    # + 0.0 turns -0.0 into 0.0.
    rounded: NDArray[np.float64] = np.round(values * GRID) / GRID + 0.0
    return rounded
