"""How many near duplicates a comparison within clusters misses: recall against brute force.

A sample of the compared rows, drawn by uid hash, is compared with every row that comes before it
in the pool, whichever its cluster. What the clusters found is then set against that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transforms.clustering import unit_rows
from transforms.comparing import in_order
from transforms.exchange import Records

SAMPLE_ROWS = 512
THRESHOLDS = (0.8, 0.85, 0.9, 0.95, 0.98, 0.99)
_ROWS_AT_ONCE = 8192


def nearest_of_all(queries: Records, rows: Records) -> NDArray[np.float32]:
    """The greatest cosine of each query to the rows that precede it, 0 where none does.

    queries, rows: records with `vector`, `order` and the identity fields of a comparison.
    Returns: (q,) float32 in [0, 1].
    """
    best = np.zeros(len(queries), np.float32)
    if len(queries) == 0 or len(rows) == 0:
        return best
    # Queries come first, so that the stable sort puts each before its own row, which must not count.
    together = np.concatenate([queries, rows])
    order = in_order(together, np.zeros(len(together), np.int64))
    asked = order < len(queries)
    places = np.empty(len(queries), np.int64)
    places[order[asked]] = np.cumsum(~asked)[asked]
    ordered = rows[order[~asked] - len(queries)]
    vectors, _ = unit_rows(queries["vector"])
    for start in range(0, len(ordered), _ROWS_AT_ONCE):
        some, _ = unit_rows(ordered["vector"][start : start + _ROWS_AT_ONCE])
        cosines = some @ vectors.T
        cosines[np.arange(start, start + len(some))[:, None] >= places[None, :]] = 0
        np.maximum(best, cosines.max(axis=0), out=best)
    return np.minimum(best, np.float32(1))


def recall_table(
    by_brute_force: NDArray[np.float32], found: NDArray[np.float32], thresholds: Sequence[float] = THRESHOLDS
) -> list[dict[str, Any]]:
    """For each threshold: how many of the sample have a near duplicate above it, and how many were found."""
    return [
        {
            "above": above,
            "have_one": int(np.count_nonzero(by_brute_force > above)),
            "found": int(np.count_nonzero((by_brute_force > above) & (found > above))),
        }
        for above in thresholds
    ]
