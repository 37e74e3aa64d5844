"""The first rows of a sorted column, without sorting all of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from curate.explore.columns import Values
from curate.explore.histograms import MISSING, Binned

Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]
_BLOCK = 1 << 16


def first_sorted(values: Values, bins: Binned, mask: Mask | None, count: int, *, descending: bool) -> Rows:
    """The first `count` rows by value; equal ones in the pool's order, those without a value last.

    values: (n,); bins: of the same column; mask: (n,) bool, the rows that count, of which there
    are at least `count`. Returns: (count,) int64.
    """
    counts, _ = bins.count(mask)
    ordered = counts[::-1] if descending else counts
    reach = int(np.searchsorted(np.cumsum(ordered), count))  # the bin in which the last one lies
    codes = bins.codes
    known = codes != MISSING
    if reach < len(ordered):
        known &= codes >= len(ordered) - 1 - reach if descending else codes <= reach
    rows = np.flatnonzero(known if mask is None else known & mask)
    rows = _first(-values[rows] if descending else values[rows], rows, count)
    if len(rows) < count:
        unknown = codes == MISSING
        rest = np.flatnonzero(unknown if mask is None else unknown & mask)
        rows = np.concatenate([rows, rest[: count - len(rows)]])
    return rows


def nth_rows(mask: Mask | None, start: int, end: int) -> Rows:
    """Rows `start` to `end` of those under the mask: (end - start,) int64; looks no further than that."""
    if mask is None:
        return np.arange(start, end, dtype=np.int64)
    found: list[Rows] = []
    seen, step = 0, max(_BLOCK, 4 * end)
    for first in range(0, len(mask), step):
        found.append(np.flatnonzero(mask[first : first + step]) + first)
        seen += len(found[-1])
        if seen >= end:
            break
    return np.concatenate([np.empty(0, np.int64), *found])[start:end]


def _first(keys: Values, rows: Rows, count: int) -> Rows:
    """The rows with the lowest keys in order, equal ones by row; rows ascend."""
    if count < len(keys):
        bound = np.partition(keys, count - 1)[count - 1]
        under, tied = np.flatnonzero(keys < bound), np.flatnonzero(keys == bound)
        few = np.sort(np.concatenate([under, tied[: count - len(under)]]))
        keys, rows = keys[few], rows[few]
    return rows[np.argsort(keys, kind="stable")]
