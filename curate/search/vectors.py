"""The embeddings of a decision as they lie in the store, and exact search among them.

Nothing is copied: on a local store the parts stay memory-mapped float16. One matrix product gives
every row a rough cosine, rounded to float16; rows that may belong to the answer within its error
are computed again in float64, row by row, so that neither rounding nor what stands beside a row
decides who is in the answer and in which order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from curate.encoder_of import StoredEmbedding
from curate.query import Decision
from filters.core.errors import StoreError
from transforms.storage import redact

Half = NDArray[np.float16]
Numbers = NDArray[np.int64]
Uids: TypeAlias = "Callable[[Numbers], list[str]]"

# Of a rough cosine: half a unit in the last place of a float16 below 1 is 2^-12; that of a sum of
# a few thousand products in float32 is less.
ROUGH_ERROR = 2.0**-11
SELECTIVE = 8  # where one row in so many may be in the answer, those are looked at alone
_ROWS_AT_ONCE, _BLOCK_ROWS, _GROUP = 4096, 1 << 14, 64


class Vectors:
    """One kind of embeddings of a decision; row numbers count over its parts, in pool order.

    Attributes:
        rows: how many, with and without an embedding; width: numbers of each.
        bounds: (parts + 1,) int64, where each part begins.
    """

    def __init__(self, decision: Decision, embedding: StoredEmbedding) -> None:
        """Opens every part.

        Raises: StoreError where one is missing, damaged, or of another width.
        """
        self.decision = decision
        self.embedding = embedding
        self.parts = [part for part in decision.manifest["parts"] if part["rows"]]
        self.bounds = np.cumsum([0, *(part["rows"] for part in self.parts)], dtype=np.int64)
        self.rows = int(self.bounds[-1])
        self._arrays = [self._open(part["part"], int(part["rows"])) for part in self.parts]
        # A part in which no row could be measured has no width.
        widths = sorted({array.shape[1] for array in self._arrays} - {0})
        if len(widths) > 1:
            msg = f"{self._where()} holds embeddings of {widths[0]} and of {widths[1]} numbers: measure anew"
            raise StoreError(msg)
        self.width = widths[0] if widths else 0

    def _where(self) -> str:
        return f"{redact(self.decision.store.folder.url)}/{self.embedding.folder}"

    def _open(self, part: str, rows: int) -> Half:
        folder, name = self.decision.store.folder, f"{self.embedding.folder}/{part}.npy"
        try:
            if folder.local:
                # Copy on write: torch takes no array that is read-only, and nothing here writes.
                array: Half = np.load(folder.path(name), mmap_mode="c", allow_pickle=False)
            else:
                with folder.open(name) as stream:
                    array = np.load(stream, allow_pickle=False)
        except (OSError, ValueError, EOFError) as cause:
            msg = f"can't read the embeddings {self._where()}/{part}.npy ({cause}): run the recipe again"
            raise StoreError(msg) from cause
        if array.dtype != np.float16 or array.ndim != 2 or len(array) != rows:
            msg = f"{self._where()}/{part}.npy is {array.dtype} {array.shape}, not {rows} rows of float16"
            raise StoreError(msg)
        return array

    def usable(self) -> NDArray[np.bool_]:
        """(n,) bool: which rows have an embedding; reads all, so that a search finds them in memory."""
        found = np.zeros(self.rows, np.bool_)
        for start, array in self._filled():
            found[start : start + len(array)] = np.isfinite(array[:, 0])
        return found

    def _filled(self) -> Iterator[tuple[int, Half]]:
        """The first row and the array of each part that holds embeddings."""
        for start, array in zip(self.bounds, self._arrays, strict=False):
            if array.shape[1]:
                yield int(start), array

    def take(self, numbers: Numbers) -> Half:
        """The embeddings of these rows, ascending: (m, d) float16, NaN where there is none."""
        taken = np.full((len(numbers), self.width), np.nan, np.float16)
        places = np.searchsorted(numbers, self.bounds)
        for at in np.flatnonzero(np.diff(places)):
            some = slice(places[at], places[at + 1])
            if self._arrays[at].shape[1]:
                taken[some] = self._arrays[at][numbers[some] - self.bounds[at]]
        return taken

    def rough(self, query: Half) -> NDArray[np.float32]:
        """Every row's cosine within ROUGH_ERROR: (n,) float32, -inf without an embedding."""
        found = np.full(self.rows, -np.inf, np.float32)
        _multiply([(array, found[start : start + len(array)]) for start, array in self._filled()], query)
        return found

    def exact(self, query: Half, numbers: Numbers) -> NDArray[np.float64]:
        """The cosines of these rows, ascending: (m,) float64, NaN where there is none.

        Every row is summed by itself, so equal embeddings have equal cosines.
        """
        wide = query.astype(np.float64)
        cosines = np.empty(len(numbers), np.float64)
        for start in range(0, len(numbers), _ROWS_AT_ONCE):
            some = slice(start, start + _ROWS_AT_ONCE)
            cosines[some] = (self.take(numbers[some]).astype(np.float64) * wide).sum(axis=1)
        return cosines

    def nearest(
        self, query: Half, k: int, among: Numbers | None = None, uids: Uids | None = None
    ) -> tuple[Numbers, NDArray[np.float64]]:
        """The k rows with the greatest cosines, exactly, as `best` orders them.

        query: (d,) float16 unit row; among: the rows that may be in the answer, ascending.
        """
        if k < 1 or self.width == 0 or (among is not None and len(among) == 0):
            return np.empty(0, np.int64), np.empty(0)
        if among is not None and len(among) * SELECTIVE < self.rows:
            some = np.empty(len(among), np.float32)
            _multiply([(self.take(among), some)], query)
            return self.best(query, k, among[_contenders(some, k)], uids)
        found = self.rough(query)
        if among is not None:
            outside = np.ones(self.rows, np.bool_)
            outside[among] = False
            found[outside] = -np.inf
        return self.best(query, k, _contenders(found, k), uids)

    def best(
        self, query: Half, k: int, numbers: Numbers, uids: Uids | None = None
    ) -> tuple[Numbers, NDArray[np.float64]]:
        """The k best of these rows: (m,) int64 and (m,) float64, greatest cosine first.

        numbers: ascending. Equal cosines are in the order of their uids, then of the pool.
        """
        cosines = self.exact(query, numbers)
        known = np.flatnonzero(~np.isnan(cosines))
        numbers, cosines = numbers[known], cosines[known]
        if len(numbers) > k:
            inside = cosines >= np.partition(cosines, -k)[-k]
            numbers, cosines = numbers[inside], cosines[inside]
        keys = [-cosines]
        if uids is not None and len(np.unique(cosines)) < len(cosines):
            keys.insert(0, np.array(uids(numbers)))
        order = np.lexsort(keys)[:k]
        return numbers[order], cosines[order]


def _multiply(pieces: Sequence[tuple[Half, NDArray[np.float32]]], query: Half) -> None:
    """Writes each array's products with the query into the array beside it; -inf for NaN."""
    import torch  # noqa: PLC0415

    asked = torch.from_numpy(query)

    def multiply(block: tuple[Half, NDArray[np.float32]]) -> None:
        products = torch.mv(torch.from_numpy(block[0]), asked).float()
        torch.from_numpy(block[1]).copy_(products.nan_to_num_(nan=-float("inf")))

    blocks = [
        (array[start : start + _BLOCK_ROWS], out[start : start + _BLOCK_ROWS])
        for array, out in pieces
        for start in range(0, len(array), _BLOCK_ROWS)
    ]
    list(_workers().map(multiply, blocks))


@cache
def _workers() -> ThreadPoolExecutor:
    """As many threads as torch would use, each of which works alone.

    Left to itself, torch would share out every block and wait for the slowest thread each time;
    where other programs are busy, too, that takes several times as long.
    """
    import torch  # noqa: PLC0415

    def alone() -> None:
        torch.get_num_threads()  # before the limit: a thread's first call sets its number itself
        threadpool_limits(limits=1, user_api="openmp")

    return ThreadPoolExecutor(torch.get_num_threads(), "search", initializer=alone)


def _contenders(rough: NDArray[np.float32], k: int) -> Numbers:
    """The places, ascending, of all rows that can be among the k best, given the error of a rough cosine."""
    least = -np.inf
    if k < len(rough):
        # k groups have a row that is at least the k-th of their maxima: no contender is below it.
        maxima = rough[: len(rough) // _GROUP * _GROUP].reshape(-1, _GROUP).max(axis=1)
        floor = np.partition(maxima, -k)[-k] if len(maxima) >= k else -np.inf
        least = np.partition(rough[rough >= floor], -k)[-k]
    return np.flatnonzero((rough >= least - 2 * ROUGH_ERROR) & (rough > -np.inf))
