"""A probability for each value of a score: a monotone curve through what was counted.

Pool adjacent violators (Ayer et al. 1955, "An empirical distribution function for sampling with
incomplete information") finds the rising step function nearest to the probabilities. What we do
differently: they are summed as integers in bins of the score, so that parts add up in any order; the
curve is a line between neighbouring steps; and a hundredth of it is the score itself, so that nothing
is certain and samples with different scores keep different probabilities along a step.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Counts: TypeAlias = NDArray[np.int64]

BINS = 1024
SCORE_SHARE = 0.01
UNIT = 2**24  # probabilities are summed in units of 1 / UNIT: 2^39 samples fit into 63 bits


def summed(scores: Floats, chances: Floats) -> Counts:
    """How many samples each bin holds, and the sum of their chances in units; parts add up.

    scores: (n,) in [0, 1]; chances: (n,) in [0, 1]; samples where either is NaN are left out.
    Returns: (2, 1024) int64.
    """
    known = ~(np.isnan(scores) | np.isnan(chances))
    at = np.minimum((scores[known] * BINS).astype(np.int64), BINS - 1)
    units = np.rint(chances[known] * UNIT).astype(np.int64)
    sums = np.zeros(BINS, np.int64)
    np.add.at(sums, at, units)
    return np.stack([np.bincount(at, minlength=BINS), sums]).astype(np.int64)


def curve(counted: Counts) -> Floats:
    """The scores and the probabilities that the curve runs through: (2, k) float64, both rising.

    counted: (2, 1024) int64, sums of `summed`. Where nothing was counted the curve is the diagonal.
    """
    steps: list[tuple[int, int, int, int]] = []  # samples, sum of units, first bin, last bin
    for number in np.flatnonzero(counted[0]).tolist():
        one = (int(counted[0, number]), int(counted[1, number]), number, number)
        while steps and steps[-1][1] * one[0] >= one[1] * steps[-1][0]:
            before = steps.pop()
            one = (before[0] + one[0], before[1] + one[1], before[2], number)
        steps.append(one)
    ends = [
        ((end + 0.5) / BINS, units / many / UNIT)
        for many, units, first, last in steps
        for end in dict.fromkeys((first, last))
    ]
    points = np.array([(0.0, 0.0), *ends, (1.0, 1.0)]).T
    points[1] = (1.0 - SCORE_SHARE) * points[1] + SCORE_SHARE * points[0]
    return points


def read_curve(points: Floats, scores: Floats) -> Floats:
    """(n,) float64 in [0, 1], never falling with the score; NaN where that is. points: (2, k)."""
    chances: Floats = np.interp(scores, points[0], points[1])
    return chances
