"""SemDeDup's rule inside one cluster: how near is each row to any earlier row, and to which one.

Abbas et al. 2023, "SemDeDup: Data-efficient learning at web-scale through semantic deduplication",
section 3. The rows stand in their order of priority (farthest from the centroid first); M_1 = 0 and
M_j = max(0, max over i < j of <x_i, x_j>), and the caller removes j iff M_j > 1 - eps, with 1 - eps
in float64. The rule is not greedy: a row that is removed still removes others.

What we do differently. We never hold n x n products but two tiles of rows and their products,
whose sides start at fixed positions: pieces of a cluster combined are, bit for bit, the cluster in
one go. And 1 is exact: identical rows multiply to 1 within 1.2e-6 (measured: float16 rows normalised
again, d from 16 to 4096), and another rounding of the same vector to float16 is as near, so products
from 1 - 2e-6 up count as 1.0. eps = 0 means exact duplicates only: remove iff M_j == 1.0.

The caller's one line for every eps, 0 among them; without `astype`, numpy rounds the bound to float32:

    removed = nearest.cosine.astype(np.float64) > min(1 - eps, np.nextafter(1.0, 0.0))
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from transforms.clustering import (
    SHAPE_STEP,
    Embeddings,
    full_precision,
    padded,
    round_up,
    to_device,
    to_numpy,
    unit_rows,
)
from transforms.devices import resolve_device

TILE = 2048
CUDA_TILE = 8192
SAME = np.float32(1 - 2e-6)
_LENGTH_TOLERANCE = 1e-3
_KEPT_BYTES = 256 * 2**20


class Nearest(NamedTuple):
    """The nearest row to each of n rows.

    Attributes:
        cosine: (n,) float32 in [0, 1], exactly 1.0 for identical rows; 0 where nothing is nearer.
        original: (n,) int64 place of the first row in the order that has this cosine; -1 where it is 0.
    """

    cosine: NDArray[np.float32]
    original: NDArray[np.int64]


def nearest_earlier(vectors: Embeddings, *, tile: int | None = None, device: str = "auto") -> Nearest:
    """For each row the nearest one of the rows before it; takes n^2 d / 2 multiply-adds.

    vectors: (n, d) in order of priority, float32 unit rows as `unit_rows` gives them, or float16,
    which are normalised here tile by tile; may be a memory map.
    tile: rows of a tile, a multiple of 64; None takes `tile_of(n, device)`. Pieces of a cluster
    combine to the same bits when all are made with the same tile and start at multiples of it.
    Returns: original counts from row 0 of vectors.
    Raises: ValueError where a row is zero, not finite, or not a unit row.
    """
    place = resolve_device(device)
    tiles = _Tiles(vectors, tile or tile_of(len(vectors), place), place)
    lower = to_device(np.tri(tiles.size, k=-1, dtype=np.float32), place)
    found = []
    with full_precision(place):
        for later in range(tiles.count):
            rows, best = tiles[later], nothing(tiles.size)
            for earlier in range(later):
                _improve(best, _products(rows, tiles[earlier]), earlier * tiles.size, tiles.lines)
            scores = _products(rows, rows)
            scores *= lower
            _improve(best, scores, later * tiles.size, tiles.lines)
            found.append(best)
    return _joined(found, len(vectors))


def nearest_in(
    queries: Embeddings,
    earlier: Embeddings,
    *,
    first: int = 0,
    tile: int | None = None,
    device: str = "auto",
) -> Nearest:
    """For each query the nearest of all rows of another array.

    Serves the pairs of tiles of a large cluster, the neighbouring clusters, the survivors of
    earlier runs, and reference sets.

    queries: (n, d), earlier: (m, d), each float32 unit rows or float16, as in `nearest_earlier`.
    first: the place of row 0 of `earlier` in the order; it is added to every original but -1.
    tile: as in `nearest_earlier`; None takes `tile_of` of n and of m for the two sides.
    Raises: ValueError where a row is zero, not finite, or not a unit row.
    """
    place = resolve_device(device)
    asked = _Tiles(queries, tile or tile_of(len(queries), place), place)
    known = _Tiles(earlier, tile or tile_of(len(earlier), place), place)
    found = []
    with full_precision(place):
        for number in range(asked.count):
            rows, best = asked[number], nothing(asked.size)
            for other in range(known.count):
                _improve(best, _products(rows, known[other]), first + other * known.size, asked.lines)
            found.append(best)
    return _joined(found, len(queries))


def combine(*parts: Nearest) -> Nearest:
    """The nearest over several results for the same rows; equal cosines go to the earliest row.

    Exact, and the same in any order and grouping of the parts.
    """
    best = Nearest(parts[0].cosine.copy(), parts[0].original.copy())
    for part in parts[1:]:
        better = (part.cosine > best.cosine) | (
            (part.cosine == best.cosine) & (part.original < best.original)
        )
        best.cosine[better], best.original[better] = part.cosine[better], part.original[better]
    return best


def nothing(count: int) -> Nearest:
    """The result of rows that were compared with nothing: cosine 0, original -1."""
    return Nearest(np.zeros(count, dtype=np.float32), np.full(count, -1, dtype=np.int64))


def tile_of(count: int, place: str = "cpu") -> int:
    """Rows of a tile for so many rows: one tile where they fit, else 1024, 2048, or 8192 on a GPU.

    Small tiles waste less on padding. Large ones bear a busy machine: the threads of one product
    wait for each other, and where another process holds a core, 1024 took five times as long.
    """
    if place.startswith("cuda"):
        return min(round_up(count), CUDA_TILE)
    return min(round_up(count), TILE if count >= 4 * TILE else TILE // 2)


def _products(rows: Any, others: Any) -> Any:
    """(t, u) float32 products of two tiles, numpy or torch."""
    if isinstance(rows, np.ndarray) and np.may_share_memory(rows, others):
        others = others.copy()  # numpy gives a matrix times its own transpose to another routine
    return rows @ others.T


def _improve(best: Nearest, scores: Any, first: int, lines: Any) -> None:
    """Takes over the products of one pair of tiles where they are greater than the best so far.

    scores: (t, u) float32, numpy or torch; first: the place of column 0 in the order; lines: 0 to
    t - 1. Tiles come in the order of their places, so among equal products the first stays.
    """
    column = scores.argmax(1)
    places = to_numpy(column).astype(np.int64)
    cosine = to_numpy(scores[lines, column])
    same = np.flatnonzero(cosine >= SAME)
    if len(same):  # all that count as 1.0 are equal, so the first of them is the nearest
        places[same] = to_numpy(scores[same].clip(max=float(SAME)).argmax(1))
        cosine[same] = 1.0
    better = cosine > best.cosine
    best.cosine[better], best.original[better] = cosine[better], places[better] + first


def _joined(found: list[Nearest], count: int) -> Nearest:
    """The results of all tiles one after the other, without those of padding."""
    if not found:
        return nothing(0)
    cosine, original = (np.concatenate(parts)[:count] for parts in zip(*found, strict=True))
    return Nearest(cosine, original)


class _Tiles:
    """The rows in tiles of one size on the device, float32; kept where all fit into 256 MiB."""

    def __init__(self, rows: Embeddings, size: int, place: str) -> None:
        if size < 1 or size % SHAPE_STEP:
            msg = f"a tile has a multiple of {SHAPE_STEP} rows, but got {size}"
            raise ValueError(msg)
        self.size = size
        self.count = -(-len(rows) // size)
        self.lines = to_device(np.arange(size), place)
        self._rows = rows
        self._place = place
        self._keep = self.count * size * rows.shape[1] * 4 <= _KEPT_BYTES
        self._kept: dict[int, Any] = {}

    def __getitem__(self, number: int) -> Any:
        """Tile `number`, (size, d): rows from number x size on, padded with zeros."""
        if number in self._kept:
            return self._kept[number]
        first = number * self.size
        tile = to_device(padded(self._unit(first), self.size), self._place)
        if self._keep:
            self._kept[number] = tile
        return tile

    def _unit(self, first: int) -> NDArray[np.float32]:
        rows = self._rows[first : first + self.size]
        if rows.dtype == np.float32:
            vectors = np.asarray(rows, dtype=np.float32)
            with np.errstate(over="ignore", invalid="ignore"):
                good = np.abs(np.einsum("nd,nd->n", vectors, vectors) - 1) <= _LENGTH_TOLERANCE
        else:
            vectors, good = unit_rows(rows)
        if not good.all():
            row = first + int(np.flatnonzero(~good)[0])
            msg = f"row {row} is zero, not finite or not a unit row: pass the usable rows of unit_rows"
            raise ValueError(msg)
        return vectors
