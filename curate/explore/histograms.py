"""Columns cut into bins: what histograms count, and what finds the ends of a sorted column quickly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.explore.columns import Values

BINS = 128
TAIL = 0.001  # of the values lies in each outermost bin, which reaches to the end
SAMPLED = 200_000
MISSING = np.uint8(255)
_OUTSIDE = np.uint8(254)


@dataclass(frozen=True)
class Binned:
    """A column as the number of the bin of each row.

    Attributes:
        codes: (n,) uint8 in [0, bins), 255 for no value; never falls when the value rises.
        edges: (bins + 1,) float64 ascending; the first and last are the least and greatest value.
    """

    codes: NDArray[np.uint8]
    edges: NDArray[np.float64]

    @property
    def bins(self) -> int:
        """How many bins there are; 0 where no row has a value."""
        return max(0, len(self.edges) - 1)

    @property
    def nbytes(self) -> int:
        """What it takes in memory."""
        return int(self.codes.nbytes + self.edges.nbytes)

    def count(self, mask: NDArray[np.bool_] | None) -> tuple[NDArray[np.int64], int]:
        """Rows in each bin, and rows without a value; of the rows under the mask.

        Returns: (bins,) int64, and a number.
        """
        codes = self.codes if mask is None else np.where(mask, self.codes, _OUTSIDE)
        # Two codes are counted as one number: half as many, and numpy widens what it counts eightfold.
        even = len(codes) // 2 * 2
        pairs = np.bincount(codes[:even].view(np.uint16), minlength=1 << 16).reshape(256, 256)
        counted = pairs.sum(axis=0) + pairs.sum(axis=1)
        counted += np.bincount(codes[even:], minlength=256)
        return counted[: self.bins].astype(np.int64), int(counted[MISSING])


def binned(values: Values) -> Binned:
    """The column in at most 128 bins, of equal width between its outer 0.1 %.

    Whole numbers of a short range get a bin each. values: (n,), NaN for none; infinities count into
    the outermost bins.
    """
    known = values[:: max(1, len(values) // SAMPLED)]
    known = known[np.isfinite(known)]
    finite = np.isfinite(values)
    if not finite.any():
        codes = np.where(np.isnan(values), MISSING, np.uint8(0)).astype(np.uint8)
        some = np.array([0.0, 1.0]) if (codes == 0).any() else np.empty(0)
        return Binned(codes, some)
    least, most = float(values[finite].min()), float(values[finite].max())
    edges = _edges(known.astype(np.float64), least, most)
    # In the column's own precision, so that the order of codes is the order of values.
    inner = edges[1:-1].astype(values.dtype)
    codes = np.searchsorted(inner, values, side="right").astype(np.uint8)
    codes[np.isnan(values)] = MISSING
    return Binned(codes, edges)


def _edges(known: NDArray[np.float64], least: float, most: float) -> NDArray[np.float64]:
    if least == most:
        return np.array([least, least])
    if float(least).is_integer() and most - least < BINS and (known == np.round(known)).all():
        return np.array([*np.arange(least, most + 1), most])
    low, high = np.quantile(known, [TAIL, 1 - TAIL]) if len(known) else (least, most)
    if not low < high:
        low, high = least, most
    inner = np.linspace(low, high, BINS - 1)
    edges: NDArray[Any] = np.concatenate([[min(least, low)], inner, [max(most, high)]])
    return edges
