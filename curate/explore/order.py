"""The first rows of a sorted column, without sorting all of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from curate.explore.columns import Values

Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]
_BLOCK = 1 << 16


def first_sorted(values: Values, mask: Mask | None, count: int, *, descending: bool) -> Rows:
    """The first `count` rows by value; equal ones in the pool's order, those without a value last.

    One look at every value: as soon as `count` rows are known, only better ones are taken.

    values: (n,); mask: (n,) bool, the rows that count, of which there are at least `count`.
    Returns: (count,) int64.
    """
    keys, rows = values[:0], np.empty(0, np.int64)
    bound = np.inf
    for start in range(0, len(values), _BLOCK):
        more = values[start : start + _BLOCK]
        more = -more if descending else more
        # A later row that is equal to the last one stands after it; NaN is less than nothing.
        better = more < bound if bound < np.inf else ~np.isnan(more)
        found = np.flatnonzero(better if mask is None else better & mask[start : start + _BLOCK])
        if len(found):
            keys, rows = np.concatenate([keys, more[found]]), np.concatenate([rows, found + start])
        if len(rows) >= 2 * count:
            keys, rows = _lowest(keys, rows, count)
            bound = keys.max()
    keys, rows = _lowest(keys, rows, count)
    rows = rows[np.argsort(keys, kind="stable")]
    if len(rows) < count:
        unknown = np.isnan(values)
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


def _lowest(keys: Values, rows: Rows, count: int) -> tuple[Values, Rows]:
    """The `count` lowest keys and their rows, in the order of the rows; of equal keys the first."""
    if count >= len(keys):
        return keys, rows
    bound = np.partition(keys, count - 1)[count - 1]
    under, tied = np.flatnonzero(keys < bound), np.flatnonzero(keys == bound)
    few = np.sort(np.concatenate([under, tied[: count - len(under)]]))
    return keys[few], rows[few]
