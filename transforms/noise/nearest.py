"""The nearest rows of a frozen set: exactly, or several times as fast and nearly so.

Exactly: products in blocks of fixed shape, so that a row's answer is the same bits whichever rows
are asked beside it. Equal cosines go to the vector that comes first. Rows with one and the same
vector, such as captions that many pictures share, are searched once and listed in their order: else
rounding, not the order, would choose among them.

Fast, on the processor and from 40 000 distinct vectors on: faiss's inverted lists of
product-quantised codes, then half-precision cosines for the best 2 k of them. Its answers are fixed
just so, but miss a share of the neighbours (`python -m benchmarks detectors`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from transforms.clustering import Floats, full_precision, padded, round_up, to_device, to_numpy
from transforms.devices import resolve_device

if TYPE_CHECKING:
    import torch

FAST_FROM = 40_000
LISTS, PROBED, REFINED = 1024, 16, 2
_ASKED, _KNOWN = 1024, 4096
_WIDTH_STEP = 4  # product quantisation cuts a vector into pieces of four numbers


class Neighbours(NamedTuple):
    """The k nearest rows to each of n rows, nearest first.

    Attributes:
        cosine: (n, k) float32 in [-1, 1]; 0 where there is no further row.
        place: (n, k) int64 places in the set; -1 where there is no further row.
    """

    cosine: NDArray[np.float32]
    place: NDArray[np.int64]


class NearestRows:
    """A set of unit rows to search in; place 0 comes first."""

    def __init__(self, rows: Floats, *, exact: bool = True, device: str = "auto") -> None:
        """Takes (m, d) float32 unit rows; `exact` False allows the fast index where it pays."""
        self._width = rows.shape[1]
        place = resolve_device(device)
        self._place = "cpu:0" if place == "cpu" else place  # torch multiplies on the processor, too
        first, inverse = _distinct(rows)
        self._distinct = rows if len(first) == len(rows) else rows[first]
        self._members = np.argsort(inverse, kind="stable")
        self._counts = np.bincount(inverse, minlength=len(first))
        self._starts = np.cumsum(self._counts) - self._counts
        self._rows = len(rows)
        fast = not exact and len(first) >= FAST_FROM and place == "cpu" and self._width % _WIDTH_STEP == 0
        self._index = _fast_index(self._distinct) if fast else None

    def __len__(self) -> int:
        return self._rows

    @property
    def fast(self) -> bool:
        """Whether the fast index is searched."""
        return self._index is not None

    def search(self, vectors: Floats, k: int, own: NDArray[np.int64] | None = None) -> Neighbours:
        """The k nearest rows to each of (n, d) float32 unit rows.

        own: (n,) int64 place that is left out of each answer, -1 for none: the row itself, which
        is not always the nearest, for another row may be equal to it.
        Raises: ValueError for rows of another width.
        """
        if vectors.shape[1] != self._width:
            msg = f"rows are {vectors.shape[1]} wide, but the set is {self._width}: use one encoder"
            raise ValueError(msg)
        places = np.full((len(vectors), k), -1, np.int64)
        cosines = np.zeros((len(vectors), k), np.float32)
        if self._rows == 0 or k < 1:
            return Neighbours(cosines, places)
        wanted = min(k + 1, len(self._distinct))
        find = self._exactly if self._index is None else self._fast
        itself = np.full(len(vectors), -1, np.int64) if own is None else np.asarray(own, np.int64)
        with full_precision(self._place):
            for start in range(0, len(vectors), _ASKED):
                rows = slice(start, start + _ASKED)
                some = vectors[rows]
                values, columns = find(padded(some, _ASKED), wanted)
                found = self._listed(values[: len(some)], columns[: len(some)], k + 1)
                kept = _without(found, itself[rows], k)
                cosines[rows, : kept.place.shape[1]], places[rows, : kept.place.shape[1]] = kept
        return Neighbours(cosines, places)

    def _exactly(self, asked: Floats, wanted: int) -> tuple[Floats, NDArray[np.int64]]:
        """The nearest distinct vectors, greatest cosine first, the first one of equal ones."""
        import torch  # noqa: PLC0415

        rows = to_device(asked, self._place)
        best = torch.empty((len(asked), 0), device=rows.device)
        ids = torch.empty((len(asked), 0), dtype=torch.int64, device=rows.device)
        size = min(_KNOWN, round_up(len(self._distinct)))
        scores = torch.empty((len(asked), size), device=rows.device)
        for first in range(0, len(self._distinct), size):
            some = self._distinct[first : first + size]
            torch.mm(rows, to_device(padded(some, size), self._place).T, out=scores)
            values, columns = _greatest(scores[:, : len(some)], min(wanted, len(some)))
            # Earlier blocks come first and hold the lower places, so a stable sort keeps the rule.
            best, order = torch.cat([best, values], 1).sort(dim=1, descending=True, stable=True)
            ids = torch.cat([ids, columns + first], 1).gather(1, order)
            best, ids = best[:, :wanted], ids[:, :wanted]
        return to_numpy(best), to_numpy(ids)

    def _fast(self, asked: Floats, wanted: int) -> tuple[Floats, NDArray[np.int64]]:
        """As `_exactly`, nearly; -1 where the lists that were looked at held no more."""
        assert self._index is not None  # noqa: S101  (for the type checker)
        values, columns = self._index.search(asked, wanted)
        # They come in order; among equal ones, which are rare, the first place is ours to choose.
        tied = np.flatnonzero((values[:, 1:] >= values[:, :-1]).any(axis=1))
        order = np.lexsort((columns[tied], -values[tied]), axis=1)
        values[tied] = np.take_along_axis(values[tied], order, 1)
        columns[tied] = np.take_along_axis(columns[tied], order, 1)
        return values, columns

    def _listed(self, values: Floats, distinct: NDArray[np.int64], wanted: int) -> Neighbours:
        """The first `wanted` rows that have these vectors."""
        values = np.clip(values, -1.0, 1.0)
        if len(self._distinct) == self._rows:
            return Neighbours(np.where(distinct < 0, np.float32(0), values), distinct)
        counts = np.where(distinct < 0, 0, self._counts[distinct])
        ends = np.cumsum(counts, axis=1)
        slots = np.arange(wanted)
        group = (ends[:, None, :] <= slots[None, :, None]).sum(axis=2)
        inside = group < distinct.shape[1]
        group = np.minimum(group, distinct.shape[1] - 1)
        before = np.take_along_axis(ends - counts, group, 1)
        offset = np.where(inside, self._starts[np.take_along_axis(distinct, group, 1)] + slots - before, 0)
        place = np.where(inside, self._members[offset], -1)
        return Neighbours(np.where(inside, np.take_along_axis(values, group, 1), np.float32(0)), place)


@contextmanager
def one_thread_each() -> Iterator[ThreadPoolExecutor]:
    """A thread for each core, in which faiss uses that one alone.

    Blocks side by side are faster than blocks whose search alone is split: the rest goes along.
    """
    import faiss  # noqa: PLC0415  (takes a second)

    cores = len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(cores, initializer=faiss.omp_set_num_threads, initargs=(1,)) as workers:
        yield workers


def _without(found: Neighbours, own: NDArray[np.int64], k: int) -> Neighbours:
    """The first k of the neighbours that are not the row itself."""
    itself = (found.place == own[:, None]) & (own >= 0)[:, None]
    if not itself.any():
        return Neighbours(found.cosine[:, :k], found.place[:, :k])
    order = np.argsort(itself, axis=1, kind="stable")
    cosine, place = np.take_along_axis(found.cosine, order, 1), np.take_along_axis(found.place, order, 1)
    gone = np.take_along_axis(itself, order, 1)
    cosine[gone], place[gone] = 0, -1
    return Neighbours(cosine[:, :k], place[:, :k])


def _distinct(rows: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Where each distinct vector comes first, ascending, and which of these each row has."""
    if len(rows) == 0 or rows.shape[1] == 0:
        return np.arange(len(rows)), np.arange(len(rows))
    whole = np.ascontiguousarray(rows + np.float32(0))  # -0.0 becomes 0.0: equal numbers, equal bytes
    keys = whole.view(np.dtype((np.void, whole.shape[1] * whole.itemsize))).ravel()
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order], rank[inverse.ravel()]


def _greatest(scores: torch.Tensor, wanted: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Values and columns of each line's greatest scores, by column; of equal ones the first columns."""
    if wanted == scores.shape[1]:
        return scores, scores.argsort(dim=1).sort(dim=1).values
    values, columns = scores.topk(wanted + 1, dim=1)
    # topk takes any of equal ones; where that can matter, which is rare, the line is sorted.
    tied = (values[:, wanted - 1] == values[:, wanted]).nonzero()[:, 0]
    columns = columns[:, :wanted]
    if len(tied):
        columns[tied] = scores[tied].sort(dim=1, descending=True, stable=True).indices[:, :wanted]
    columns = columns.sort(dim=1).values
    return scores.gather(1, columns), columns


def _fast_index(rows: Floats) -> Any:
    """A faiss index of the rows, trained on them: the same for the same rows in the same order."""
    import faiss  # noqa: PLC0415  (takes a second)

    width = rows.shape[1]
    recipe = f"IVF{LISTS},PQ{width // _WIDTH_STEP}x4fs,Refine(SQfp16)"
    index: Any = faiss.index_factory(width, recipe, faiss.METRIC_INNER_PRODUCT)
    index.train(rows)
    index.add(rows)
    faiss.extract_index_ivf(index).nprobe = PROBED
    index.k_factor = REFINED
    return index
