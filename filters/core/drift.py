"""How far a stream has moved from what a recipe was calibrated on: pure functions over counts.

A signal's distribution is counted between quantiles of the calibration. Its distance is that of
Kolmogorov and Smirnov on these borders: the greatest difference of the two cumulative shares, in
[0, 1], whatever the signal's unit; rows without the signal count as the last bin. Unlike divergences
(population stability index, Jensen-Shannon) it needs no smoothing of empty bins, and how large it gets
by accident is known: Massart 1990, "The tight constant in the Dvoretzky-Kiefer-Wolfowitz inequality".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from filters.core.declaration import Numbers

BINS = 50


def bin_edges(values: Numbers, bins: int = BINS) -> list[float]:
    """Borders between bins of about equal counts, ascending, each once; none without values.

    A value that many rows share, such as the side of images that were resized, has a bin of its own.
    values: (n,), NaN where a row has none.
    """
    finite = np.asarray(values, np.float64)
    finite = finite[np.isfinite(finite)]
    if len(finite) == 0:
        return []
    cuts = np.quantile(finite, np.arange(1, bins) / bins, method="inverted_cdf")
    edges, repeated = np.unique(cuts, return_counts=True)
    below = np.nextafter(edges[repeated > 1], -np.inf)
    return [float(edge) for edge in np.unique(np.concatenate([edges, below]))]


def count_bins(values: Numbers, edges: Sequence[float]) -> list[int]:
    """How many values lie up to each edge and beyond the last one, and how many are missing.

    Returns: len(edges) + 2 counts.
    """
    plain = np.asarray(values, np.float64)
    known = plain[~np.isnan(plain)]
    counts = np.bincount(np.searchsorted(np.asarray(edges), known, side="left"), minlength=len(edges) + 1)
    return [*(int(count) for count in counts), len(plain) - len(known)]


def distance(calibrated: Sequence[int], seen: Sequence[int]) -> float:
    """The greatest difference of two cumulative shares, in [0, 1]; 0 where either has no rows."""
    one, other = np.asarray(calibrated, np.float64), np.asarray(seen, np.float64)
    if not one.sum() or not other.sum():
        return 0.0
    return float(np.abs(np.cumsum(one / one.sum()) - np.cumsum(other / other.sum())).max())


def accidental_distance(calibrated: int, seen: int, confidence: float) -> float:
    """How large the distance gets by accident, with this confidence, for so many rows of each."""
    if not calibrated or not seen:
        return 1.0
    rows = calibrated * seen / (calibrated + seen)
    return min(1.0, math.sqrt(math.log(2 / (1 - confidence)) / (2 * rows)))


@dataclass(frozen=True)
class KeptRate:
    """The kept rate of the shards that a recipe was calibrated on.

    Attributes:
        kept, rows: of all shards.
        spread: how much more shards differ than chance explains, at least 1: Pearson's chi-square
            over its degrees of freedom.
    """

    kept: int
    rows: int
    spread: float

    @classmethod
    def of(cls, shards: Sequence[tuple[int, int]]) -> KeptRate:
        """shards: (kept, rows) of each."""
        kept, rows = sum(one for one, _ in shards), sum(many for _, many in shards)
        rate = kept / rows if rows else 0.0
        variance = rate * (1 - rate)
        filled = [(one, many) for one, many in shards if many]
        if not variance or len(filled) < 2:
            return cls(kept, rows, 1.0)
        squares = sum((one - many * rate) ** 2 / (many * variance) for one, many in filled)
        return cls(kept, rows, max(1.0, squares / (len(filled) - 1)))

    def interval(self, rows: int, confidence: float) -> tuple[float, float]:
        """Between which rates so many further rows lie with this confidence, if nothing has changed.

        Both samples count as random (normal approximation, one kept and one dropped row added), shards
        as far apart as in the calibration.
        """
        if not rows or not self.rows:
            return 0.0, 1.0
        rate = (self.kept + 1) / (self.rows + 2)
        deviation = math.sqrt(self.spread * rate * (1 - rate) * (1 / rows + 1 / self.rows))
        reach = NormalDist().inv_cdf(0.5 + confidence / 2) * deviation
        return max(0.0, rate - reach), min(1.0, rate + reach)


def add_counts(counts: Sequence[Sequence[int]]) -> list[int]:
    """The sums of equally long lists of counts."""
    total: NDArray[np.int64] = np.sum(np.asarray(counts, np.int64), axis=0)
    return [int(count) for count in total]
