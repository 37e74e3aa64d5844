"""Probabilities of concepts that don't exclude one another, from zero-shot ones that do.

Platt 1999, "Probabilistic outputs for support vector machines": p = sigmoid(slope x score + intercept),
fitted by Newton's method to targets that stay off 0 and 1, as Lin, Lin and Weng 2007 ("A note on
Platt's probabilistic outputs") do; here the score is the log-odds of the softmax, and the fit sees a
histogram of it, so that parts of a pool add up in any order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

GREATEST = 32.0  # log-odds beyond it count as it; exp(-32) is what float64 still tells from 1
BINS_PER_UNIT = 16
BINS = int(2 * GREATEST * BINS_PER_UNIT) + 1
_STEPS, _ENOUGH, _RIDGE = 100, 1e-10, 1e-12


def log_odds(probabilities: Floats) -> Floats:
    """log(p / (1 - p)) in [-32, 32], of probabilities in [0, 1]."""
    least = np.exp(-GREATEST)
    inner = np.clip(probabilities, least, 1 - least)
    found: Floats = np.clip(np.log(inner) - np.log1p(-inner), -GREATEST, GREATEST)
    return found


def count_scores(scores: Floats, given: NDArray[np.bool_]) -> Counts:
    """How many scores there are in each step of 1/16, where the concept is not given and where it is.

    scores: of `log_odds`; given: bool of the same shape. Returns: (2, BINS) int64; parts add up.
    """
    bins = np.round((scores + GREATEST) * BINS_PER_UNIT).astype(np.int64)
    return np.stack([np.bincount(bins[given == side], minlength=BINS) for side in (False, True)])


def fit_platt(counts: Counts) -> tuple[float, float]:
    """Slope and intercept with the lowest log loss.

    counts: (2, BINS) of `count_scores`. Returns: slope, never below 0, and intercept; (1, 0) where
    nothing was counted.
    """
    many = counts.sum(axis=1).astype(np.float64)
    if not many.sum():
        return 1.0, 0.0
    scores = np.arange(BINS) / BINS_PER_UNIT - GREATEST
    targets = np.array([1 / (many[0] + 2), (many[1] + 1) / (many[1] + 2)])
    weights = counts.sum(axis=0).astype(np.float64)
    wanted: Floats = targets @ counts.astype(np.float64)  # the sum of targets in each bin
    place = np.array([1.0, np.log((many[1] + 1) / (many[0] + 1))])
    loss = _loss(place, scores, weights, wanted)
    for _ in range(_STEPS):
        share = _sigmoid(place[0] * scores + place[1])
        error, curve = weights * share - wanted, weights * share * (1 - share)
        gradient = np.array([(error * scores).sum(), error.sum()])
        mixed = (curve * scores).sum()
        hessian = np.array([[(curve * scores**2).sum() + _RIDGE, mixed], [mixed, curve.sum() + _RIDGE]])
        step = np.linalg.solve(hessian, gradient)
        size = 1.0
        while size > _ENOUGH:
            tried = place - size * step
            better = _loss(tried, scores, weights, wanted)
            if better < loss:
                break
            size /= 2
        else:
            break
        place, gained, loss = tried, loss - better, better
        if gained < _ENOUGH * max(loss, 1.0):
            break
    slope, intercept = place.tolist()
    if slope < 0:  # what is named is shown less than the rest: scores say nothing
        return 0.0, float(np.log((many[1] + 1) / (many[0] + 1)))
    return slope, intercept


def platt(scores: Floats, slope: float, intercept: float) -> Floats:
    """The probabilities of scores, as scores; in [0, 1]."""
    return _sigmoid(slope * scores + intercept)


def _sigmoid(values: Floats) -> Floats:
    small = np.exp(-np.abs(values))
    found: Floats = np.where(values >= 0, 1.0, small) / (1.0 + small)
    return found


def _loss(place: Floats, scores: Floats, weights: Floats, wanted: Floats) -> float:
    values = place[0] * scores + place[1]
    return float((weights * np.logaddexp(0.0, values) - wanted * values).sum())
