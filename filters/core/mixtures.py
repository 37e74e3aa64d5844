"""How likely a score belongs to the better of two groups: mixtures of two components.

Pairs whose image and caption match score high, mismatched ones low; a mixture of two Gaussian or
two beta distributions says where one group ends. DivideMix (Li et al. 2020, arXiv 2002.07394) and
NCR (Huang et al. 2021) do this for losses with Gaussians, Arazo et al. 2019 (arXiv 1904.11238) with
beta distributions, whose parameters follow from weighted moments. What we do differently:

* EM runs on a histogram, whose counts are integers and add up in any order;
* scores are scaled by percentiles, so that one outlier can't ruin the fit: the 1st and the 99th
  stand at 1/4 and 3/4, and what lies outside of 0 and 1 is not fitted; variances have a floor of
  1e-6. DivideMix scales by minimum and maximum and adds 5e-4 to variances; Arazo et al. clip to
  percentiles, which piles scores up at 0 and 1, and a beta component bends towards the piles;
* EM runs until it stands still, from three starts; the likeliest end counts;
* the probability never falls when the score rises: with unequal variances Bayes' rule alone gives
  the best scores to the wider component;
* where there are no two groups, there is a reason instead of a probability.

Passes: `count` over the rows, then `advance`, until `artefact["complete"]`. The first pass counts
float32 order keys by their upper half, which finds the range; the next one counts 4096 equal bins
of that range, and only for scores that are nearly equal there are more.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from filters.core.declaration import Accumulator, Artefact, Numbers, missing
from filters.core.selection import BUCKETS, order_keys, score_of_key

Model = Literal["gaussian", "beta"]
Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

BINS = 4096
CLUSTER_BINS = 256  # for each of many clusters: 2 KiB; a bin is still a small part of a component
# A fitted mixture as one row of numbers, in units of the score; low and high: what is scaled to 0 and 1.
PARAMETERS = ("clean_share", "noisy_mean", "noisy_sd", "clean_mean", "clean_sd", "low", "high")
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)

_OUTER = 100  # the percentiles that scale: one row of so many lies below, one above
_MOST_PASSES = 4
_FEWEST_BINS = 64  # between the percentiles; fewer, and another pass looks closer
_LEAST_VARIANCE = 1e-6
_BETA_EDGE = 1e-4
_STANDSTILL, _MOST_STEPS = 1e-7, 1000
_CELLS_AT_ONCE = 2**16
_LEAST_SHARE, _LEAST_SEPARATION = 0.02, 2.0


def begin() -> Artefact:
    """The artefact before the first pass."""
    return {"passes": 0, "complete": False}


def count(artefact: Artefact, scores: Numbers) -> Accumulator:
    """What a batch contributes to this pass.

    scores: (n,) numbers, compared as float32; NaN counts nowhere, infinities in `scored` only.
    Returns: sizes (2,) int64, rows and those with a score; counts, (65536,) in the first pass and
    (4096,) int64 later.
    """
    with np.errstate(over="ignore"):
        values = scores.astype(np.float32)
    finite = values[np.isfinite(values)]
    scored = len(values) - int(np.count_nonzero(missing(values)))
    if artefact["passes"] == 0:
        counts = np.bincount(order_keys(finite) >> np.uint32(16), minlength=BUCKETS)
    else:
        bins = _bins(artefact, finite)
        counts = np.bincount(bins[bins >= 0], minlength=BINS)
    return {"sizes": np.array([len(values), scored], np.int64), "counts": counts.astype(np.int64)}


def count_clusters(artefact: Artefact, scores: Numbers, cluster: NDArray[np.int32]) -> Counts:
    """The histogram of each cluster over the range of a pass after the first.

    scores: (n,) as in `count`; cluster: (n,) int32, at least 0.
    Returns: (k, 256) int64, k being the greatest cluster + 1.
    """
    with np.errstate(over="ignore"):
        bins = _bins(artefact, scores.astype(np.float32)) // (BINS // CLUSTER_BINS)
    counted = bins >= 0
    width = int(cluster.max()) + 1 if len(cluster) else 0
    cells = cluster[counted].astype(np.int64) * CLUSTER_BINS + bins[counted]
    return np.bincount(cells, minlength=width * CLUSTER_BINS).astype(np.int64).reshape(width, CLUSTER_BINS)


def _bins(artefact: Artefact, values: NDArray[np.float32]) -> NDArray[np.int32]:
    """The bin of each value in the artefact's range; -1 outside of it, and for NaN."""
    low, high = artefact["range"]
    with np.errstate(invalid="ignore", over="ignore"):
        place = (values.astype(np.float64) - low) * (BINS / (high - low))
        return np.where((place >= 0) & (place < BINS), place, -1.0).astype(np.int32)


def advance(artefact: Artefact, total: Accumulator | None) -> Artefact:
    """The artefact after a pass.

    `complete` holds when the pass's counts are ready for `fit`, or when no row has a finite score.
    """
    passes = artefact["passes"] + 1
    rows, scored = (0, 0) if total is None else (int(size) for size in total["sizes"])
    found = {**artefact, "passes": passes, "rows": rows, "scored": scored}
    if total is None or not total["counts"].any():
        return {**found, "range": [0.0, 1.0], "complete": True}
    first, last = (int(at[0]) for at in _percentiles(total["counts"][None, :]))
    if passes == 1:
        ends = score_of_key(first << 16), score_of_key((last << 16) | 0xFFFF)
        return {**found, "range": list(_widened(*ends))}
    if last + 1 - first >= _FEWEST_BINS or passes == _MOST_PASSES:
        return {**found, "complete": True}
    low, high = artefact["range"]
    unit = (high - low) / BINS
    return {**found, "range": list(_widened(low + first * unit, low + (last + 1) * unit))}


def _percentiles(counts: Counts) -> tuple[Counts, Counts]:
    """The bins of the 1st and the 99th percentile of each histogram; counts: (k, b)."""
    below = np.cumsum(counts, axis=1)
    total = below[:, -1:]
    first = (below <= total // _OUTER).sum(axis=1)
    last = (below < total - total // _OUTER).sum(axis=1)
    edge = counts.shape[1] - 1
    return np.minimum(first, edge), np.minimum(last, edge)


def _widened(low: Any, high: Any) -> tuple[Any, Any]:
    """Room for the tails beyond the percentiles: half as much on each side; numbers or arrays."""
    half = (high - low) / 2
    return low - half, high + half


# --- fitting


def fit(
    counts: Counts, score_range: tuple[float, float], model: Model, at_least_rows: int
) -> tuple[Floats, list[str | None]]:
    """The mixture of each histogram, and why there is none.

    counts: (k, b) int64 over equal bins of the range.
    Returns: (k, 7) float64, columns as in PARAMETERS, NaN where refused; k reasons, None where
    fitted.
    """
    found = np.full((len(counts), len(PARAMETERS)), np.nan)
    reasons: list[str | None] = [None] * len(counts)
    first, last = _percentiles(counts)
    sums = counts.sum(axis=1)
    usable = []
    for row, (rows, inner) in enumerate(zip(sums.tolist(), (last + 1 - first).tolist(), strict=True)):
        reasons[row] = _unusable(rows, inner, at_least_rows)
        if reasons[row] is None:
            usable.append(row)
    low, high = _widened(first, last + 1)
    unit = (score_range[1] - score_range[0]) / counts.shape[1]
    step = max(_CELLS_AT_ONCE // counts.shape[1], 1)
    for start in range(0, len(usable), step):
        some = np.array(usable[start : start + step])
        states = _best_states(counts[some], low[some], high[some], model)
        for row, state in zip(some.tolist(), states, strict=True):
            reasons[row] = _refusal(state)
            if reasons[row] is None:
                ends = score_range[0] + low[row] * unit, score_range[0] + high[row] * unit
                found[row] = _in_score_units(state, *ends)
    return found, reasons


def _unusable(rows: int, inner: int, at_least_rows: int) -> str | None:
    if rows < max(at_least_rows, 1):
        return f"{rows:,} scores are too few to fit, below at_least_rows {at_least_rows:,}"
    return "the scores are all equal, or nearly" if inner < 2 else None


def _refusal(state: Floats) -> str | None:
    """Why this mixture is no two groups; state: (5,) as in `_best_states`."""
    if not np.isfinite(state).all():
        return "the fit found no finite parameters"
    share, noisy, noisy_variance, clean, clean_variance = state
    if not _LEAST_SHARE <= share <= 1 - _LEAST_SHARE:
        return f"one group: the other would hold {min(share, 1 - share):.2g} of the samples, below 0.02"
    apart = (clean - noisy) / math.sqrt(max(noisy_variance, clean_variance))
    if apart <= _LEAST_SEPARATION:
        return f"one group: the two means lie {apart:.2g} standard deviations apart, not more than 2"
    return None


def _in_score_units(state: Floats, low: float, high: float) -> list[float]:
    """A row of PARAMETERS; low, high: the scores that were scaled to 0 and 1."""
    share, noisy, noisy_variance, clean, clean_variance = state.tolist()
    span = high - low
    noisy, clean = low + noisy * span, low + clean * span
    return [
        share,
        noisy,
        math.sqrt(noisy_variance) * span,
        clean,
        math.sqrt(clean_variance) * span,
        low,
        high,
    ]


def _best_states(counts: Counts, low: Floats, high: Floats, model: Model) -> Floats:
    """The likeliest of EM's ends from three starts.

    counts: (k, b); low, high: (k,) the places among the bins that are scaled to 0 and 1.
    Returns: (k, 5) float64: share of clean; mean, variance of noisy; mean, variance of clean;
    scaled, and clean has the larger mean.
    """
    values = (np.arange(counts.shape[1]) + 0.5 - low[:, None]) / (high - low)[:, None]
    counts = np.where((values > 0) & (values < 1), counts, 0)
    values = np.clip(values, _BETA_EDGE, 1 - _BETA_EDGE)
    weights = counts / counts.sum(axis=1, keepdims=True)
    basis = _basis(values, model)
    best, likelihood = np.full((len(counts), 5), np.nan), np.full(len(counts), -np.inf)
    for upper in _starts(weights, values):
        state = _settled(weights, values, basis, _maximised(weights, values, weights * upper), model)
        found = _log_likelihood(weights, basis, state, model)
        better = found > likelihood
        best[better], likelihood[better] = state[better], found[better]
    swapped = best[:, 1] > best[:, 3]
    best[swapped] = np.column_stack([1 - best[swapped, 0], best[swapped][:, [3, 4, 1, 2]]])
    return best


def _starts(weights: Floats, values: Floats) -> list[NDArray[np.bool_]]:
    """Which bins begin as the upper group: above Otsu's threshold, the best tenth, all but the worst."""
    below = np.cumsum(weights, axis=1)
    sums = np.cumsum(weights * values, axis=1)
    room = np.maximum(below * (1 - below), 1e-12)
    between = np.where(below < 1 - 1e-9, (sums[:, -1:] * below - sums) ** 2 / room, 0.0)
    places = np.arange(weights.shape[1])
    otsu = places > np.argmax(between, axis=1)[:, None]
    return [otsu, below > 0.9, below > 0.1]


def _settled(weights: Floats, values: Floats, basis: Floats, state: Floats, model: Model) -> Floats:
    """The state where EM stands still, or after its most steps; all arrays as in `_best_states`."""
    state = state.copy()
    active = np.arange(len(state))
    for _ in range(_MOST_STEPS):
        odds = _combined(_odds(state[active], model), basis)
        moved = _maximised(weights, values, weights * _sigmoid(odds))
        change = np.abs(moved - state[active]).max(axis=1)
        state[active] = moved
        going = change > _STANDSTILL
        if not going.any():
            break
        if not going.all():
            active, weights, values, basis = active[going], weights[going], values[going], basis[:, going]
    return state


def _maximised(weights: Floats, values: Floats, clean: Floats) -> Floats:
    """Shares, means and variances, (k, 5), from what each bin gives to clean; weights sum to 1."""
    sides = []
    for side in (weights - clean, clean):
        share = np.maximum(side.sum(axis=1), 1e-12)
        mean = (side * values).sum(axis=1) / share
        variance = (side * (values - mean[:, None]) ** 2).sum(axis=1) / share
        sides += [share, mean, np.maximum(variance, _LEAST_VARIANCE)]
    _, noisy, noisy_variance, share, clean_mean, clean_variance = sides
    return np.column_stack([np.minimum(share, 1 - 1e-12), noisy, noisy_variance, clean_mean, clean_variance])


# --- densities: the logarithm of each is a sum of three terms over a basis


def _basis(values: Floats, model: Model) -> Floats:
    """What log densities are sums of: (3, ...) for values (...)."""
    ones = np.ones_like(values)
    if model == "gaussian":
        return np.stack([ones, values, values**2])
    return np.stack([ones, np.log(values), np.log1p(-values)])


def _combined(coefficients: Floats, basis: Floats) -> Floats:
    """Sums over the basis: (k, 3) and (3, k, b) give (k, b), without BLAS, whose sums may vary."""
    return _summed(coefficients.T[:, :, None] * basis)


def _summed(terms: Floats) -> Floats:
    summed: Floats = terms[0] + terms[1] + terms[2]
    return summed


def _log_density(mean: Floats, variance: Floats, model: Model) -> Floats:
    """Coefficients of the log density over the basis: (k, 3)."""
    if model == "gaussian":
        constant = -0.5 * (np.log(2 * np.pi * variance) + mean**2 / variance)
        return np.column_stack([constant, mean / variance, -0.5 / variance])
    mean = np.clip(mean, _BETA_EDGE, 1 - _BETA_EDGE)
    room = mean * (1 - mean)
    size = room / np.minimum(variance, 0.999 * room) - 1
    alpha, beta = mean * size, (1 - mean) * size
    constant = _log_gamma(alpha + beta) - _log_gamma(alpha) - _log_gamma(beta)
    return np.column_stack([constant, alpha - 1, beta - 1])


def _log_gamma(values: Floats) -> Floats:
    return np.array([math.lgamma(value) for value in values.tolist()])


def _odds(state: Floats, model: Model) -> Floats:
    """Coefficients of log(p_clean / p_noisy): (k, 3)."""
    share = state[:, 0]
    odds = _log_density(state[:, 3], state[:, 4], model) - _log_density(state[:, 1], state[:, 2], model)
    odds[:, 0] += np.log(share / (1 - share))
    return odds


def _log_likelihood(weights: Floats, basis: Floats, state: Floats, model: Model) -> Floats:
    """Mean log density of each histogram under its mixture: (k,); -infinity where not finite."""
    noisy = _log_density(state[:, 1], state[:, 2], model)
    noisy[:, 0] += np.log(1 - state[:, 0])
    density = _combined(noisy, basis) + np.logaddexp(0.0, _combined(_odds(state, model), basis))
    mean: Floats = (weights * density).sum(axis=1)
    return np.where(np.isfinite(mean), mean, -np.inf)


def _sigmoid(odds: Floats) -> Floats:
    return 1 / (1 + np.exp(-np.clip(odds, -700.0, 700.0)))


# --- judging


def p_clean(
    parameters: Floats, model: Model, scores: Numbers, which: NDArray[np.integer[Any]] | None = None
) -> Floats:
    """The probability that each score belongs to the group with the larger mean.

    It never falls when the score rises: beyond the point where Bayes' rule would turn, it stays.

    parameters: (k, 7) as from `fit`; which: (n,) the row of parameters for each score, 0 where
    left out.
    Returns: (n,) float64 in [0, 1]; NaN where the score or the parameters are NaN.
    """
    share, noisy, noisy_sd, clean, clean_sd, low, high = parameters.T
    span = high - low
    scaled = [(noisy - low) / span, (noisy_sd / span) ** 2, (clean - low) / span, (clean_sd / span) ** 2]
    odds = _odds(np.column_stack([share, *scaled]), model)
    least, most = _turning_points(odds, model)
    chosen = np.zeros(len(scores), np.int64) if which is None else which
    with np.errstate(over="ignore"):
        places = (scores.astype(np.float32).astype(np.float64) - low[chosen]) / span[chosen]
    places = np.clip(np.clip(places, -1e3, 1e3), least[chosen], most[chosen])
    if model == "beta":
        places = np.clip(places, _BETA_EDGE, 1 - _BETA_EDGE)
    return _sigmoid(_summed(odds[chosen].T * _basis(places, model)))


def _turning_points(odds: Floats, model: Model) -> tuple[Floats, Floats]:
    """Between which scaled scores the odds rise: (k,) and (k,), infinite where they always do."""
    _, one, two = odds.T
    with np.errstate(divide="ignore", invalid="ignore"):
        if model == "gaussian":
            turn, falls_after, falls_before = -one / (2 * two), two < 0, two > 0
        else:
            turn = one / (one + two)
            falls_after, falls_before = (one > 0) & (two > 0), (one < 0) & (two < 0)
    return np.where(falls_before, turn, -np.inf), np.where(falls_after, turn, np.inf)


def score_reaching(parameters: Floats, model: Model, probability: float) -> float | None:
    """The lowest score between low and high with this probability, to a billionth of their distance.

    parameters: (1, 7). Returns: None where no score has it.
    """
    below, above = float(parameters[0, 5]), float(parameters[0, 6])
    if p_clean(parameters, model, np.array([above]))[0] < probability:
        return None
    for _ in range(40):
        middle = (below + above) / 2
        reached = p_clean(parameters, model, np.array([middle]))[0] >= probability
        below, above = (below, middle) if reached else (middle, above)
    return above


def at_quantiles(
    counts: Counts, score_range: tuple[float, float], parameters: Floats, model: Model
) -> list[dict[str, float]]:
    """Scores at fixed quantiles of a histogram with their probabilities, for people to look at.

    counts: (b,) int64; parameters: (1, 7).
    """
    low, high = score_range
    unit = (high - low) / len(counts)
    places = np.searchsorted(np.cumsum(counts), np.array(QUANTILES) * counts.sum())
    scores = low + (places + 0.5) * unit
    chances = p_clean(parameters, model, scores)
    return [
        {"quantile": quantile, "score": score, "p_clean": chance}
        for quantile, score, chance in zip(QUANTILES, scores.tolist(), chances.tolist(), strict=True)
    ]
