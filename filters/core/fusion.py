"""How likely a sample is noise, when several detectors vote and some of them agree by design.

A detector votes clean, noise, or abstains. How far to trust it follows from how it agrees with the
others: Dawid and Skene 1979, "Maximum likelihood estimation of observer error-rates using the EM
algorithm", and Ratner et al. 2017 (Snorkel, arXiv 1711.10160) for weak detectors. What we do
differently:

* the model is fitted on counts of vote patterns, 3^m integers that add up in any order, so that a
  billion samples cost as much as a thousand;
* detectors that agree more than their accuracies explain count less, not twice: a vote has weight
  1 / (1 + the sum of what its correlations with other votes exceed the expected ones);
* models are cross-fitted over folds by uid, each on the counts of the other folds.

Continuous scores are ranked within the pool and combined with the same weights (`combined_ranks`).
`choose_cut` says how far a cut may go, from an audited sample, with a stated confidence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from filters.core.binomial import binomial_tail

Floats: TypeAlias = NDArray[np.float64]
Counts: TypeAlias = NDArray[np.int64]
Votes: TypeAlias = NDArray[np.int8]

ABSTAIN, CLEAN, NOISE = -1, 0, 1
MOST_DETECTORS = 12  # 3^12 patterns are half a million
_SMOOTHING = 1.0  # one imagined vote in each cell, so that no verdict is certain
_MOST_STEPS, _STANDSTILL, _FITTING_STEPS = 2000, 1e-9, 500


def pattern_counts(votes: Votes) -> Counts:
    """How many samples have each pattern of votes; counts of parts add up.

    votes: (n, m) int8 in {-1, 0, 1}. Returns: (3^m,) int64.
    Raises: ValueError for another value, or more than 12 detectors.
    """
    if votes.shape[1] > MOST_DETECTORS or not np.isin(votes, (ABSTAIN, CLEAN, NOISE)).all():
        msg = f"votes are -1, 0 or 1 of at most {MOST_DETECTORS} detectors"
        raise ValueError(msg)
    codes = (votes.astype(np.int64) + 1) @ (3 ** np.arange(votes.shape[1]))
    return np.bincount(codes, minlength=3 ** votes.shape[1]).astype(np.int64)


def patterns(detectors: int) -> Votes:
    """The votes that each pattern stands for: (3^m, m) int8."""
    codes = np.arange(3**detectors)[:, None] // 3 ** np.arange(detectors)
    return (codes % 3 - 1).astype(np.int8)


@dataclass(frozen=True)
class LabelModel:
    """How far each detector is to be trusted.

    Attributes:
        noise_share: of all samples, in (0, 1).
        given: (2, m, 3) float64, P(vote | clean or noise); the votes are abstain, clean, noise.
        independence: (m,) float64 in (0, 1], the weight of a detector's vote; 1 if nothing else
            agrees with it by design.
    """

    noise_share: float
    given: Floats
    independence: Floats

    def p_noise(self, votes: Votes) -> Floats:
        """(n,) float64 in (0, 1); NaN where every detector abstains. votes: (n, m) int8."""
        table = self._evidence()[np.arange(votes.shape[1])[None, :], votes.astype(np.int64) + 1]
        odds = math.log(self.noise_share / (1.0 - self.noise_share)) + table.sum(axis=1)
        return np.where((votes == ABSTAIN).all(axis=1), np.nan, _sigmoid(odds))

    def reliability(self) -> Floats:
        """(m,) float64: (P(right | clean) + P(right | noise)) / 2 where the detector votes."""
        voting = self.given[:, :, 1:].sum(axis=2)
        right = np.stack([self.given[0, :, 1], self.given[1, :, 2]]) / voting
        mean: Floats = right.mean(axis=0)
        return mean

    def weights(self) -> Floats:
        """(m,) float64, at least 0: how much a rank of the detector counts in `combined_ranks`.

        The log odds of its reliability x its independence; 0 for one that is no better than chance.
        """
        better = np.clip(self.reliability(), 0.5, 1.0 - 1e-6)
        return np.log(better / (1.0 - better)) * self.independence

    def _evidence(self) -> Floats:
        """(m, 3): the log odds of noise that each vote adds; abstaining says nothing."""
        voting = self.given[:, :, 1:]
        shares = np.log(voting / voting.sum(axis=2, keepdims=True))
        votes = (shares[1] - shares[0]) * self.independence[:, None]
        return np.concatenate([np.zeros((len(votes), 1)), votes], axis=1)


def fit_label_model(counts: Counts, groups: tuple[int, ...] = ()) -> LabelModel:
    """The label model of pattern counts, by EM from the majority; most votes are taken to be right.

    counts: (3^m,) int64; groups: (m,) detectors with equal numbers are known to agree by design, such
    as two rules on one score; pairs that agree so need not be told, larger blocks must.
    Raises: ValueError with fewer than 3 groups, whose agreement tells nothing, or no two votes at once.
    """
    detectors = _detectors(counts)
    group = np.array(groups or range(detectors))
    votes = patterns(detectors)
    voting = (votes != ABSTAIN).sum(axis=1)
    if len(group) != detectors or len(np.unique(group)) < 3 or not counts[voting >= 2].any():
        msg = f"a label model needs samples with votes of several of 3 or more groups, not {group.tolist()}"
        raise ValueError(msg)
    correlation = agreement(counts).correlation
    apart = np.where(group[:, None] != group, correlation, np.nan)
    weight = _independence(correlation, accuracies(apart))
    used = np.flatnonzero((counts > 0) & (voting > 0))
    votes, many = votes[used], counts[used].astype(np.float64)
    noise = ((votes == NOISE) @ weight) / ((votes != ABSTAIN) @ weight)
    return _settled(votes, many, 0.05 + 0.9 * noise, weight)


def cross_fitted(votes: Votes, folds: Counts, counts: Counts, groups: tuple[int, ...] = ()) -> Floats:
    """How likely each sample is noise by the model of the other folds: (n,) float64; NaN abstained.

    votes: (n, m) int8; folds: (n,) int64; counts: (F, 3^m) int64, `pattern_counts` of each fold of
    the whole pool. Raises: ValueError as `fit_label_model` does.
    """
    total = counts.sum(axis=0)
    found = np.full(len(votes), np.nan)
    for fold in np.unique(folds):
        model = fit_label_model(total - counts[fold], groups)
        inside = folds == fold
        found[inside] = model.p_noise(votes[inside])
    return found


@dataclass(frozen=True)
class Agreement:
    """How detectors overlap.

    Attributes:
        coverage: (m,) float64, the share of samples on which a detector votes.
        both: (m, m) int64, samples on which both vote.
        agree: (m, m) float64 in [0, 1], the share of these on which the votes are equal.
        correlation: (m, m) float64 in [-1, 1], of the votes on these; NaN where one of them is constant.
    """

    coverage: Floats
    both: Counts
    agree: Floats
    correlation: Floats


def agreement(counts: Counts) -> Agreement:
    """How detectors overlap, from pattern counts: (3^m,) int64. NaN where there is nothing to compare."""
    votes = patterns(_detectors(counts))
    noise, voted = (votes == NOISE).astype(np.int64), (votes != ABSTAIN).astype(np.int64)
    weighted = counts[:, None]
    both, ones = voted.T @ (voted * weighted), noise.T @ (voted * weighted)
    together = noise.T @ (noise * weighted)
    equal = both - ones - ones.T + 2 * together
    coverage = both.diagonal() / counts.sum() if counts.any() else np.full(len(both), np.nan)
    correlation = _correlation(both.astype(np.float64), ones.astype(np.float64), together)
    return Agreement(coverage, both, _divided(equal, both), correlation)


def ranked(scores: NDArray[np.floating[Any]]) -> Floats:
    """The rank of each score in (0, 1), equal scores sharing their mean rank; NaN stays.

    scores: (n,), high where noise. Returns: (n,) float64, (rank - 1/2) / number of scores.
    """
    found = np.full(len(scores), np.nan)
    known = ~np.isnan(scores)
    _, position, many = np.unique(scores[known], return_inverse=True, return_counts=True)
    found[known] = ((np.cumsum(many) - many / 2) / max(int(known.sum()), 1))[position]
    return found


def combined_ranks(ranks: Floats, weights: Floats) -> Floats:
    """The weighted mean of the log odds of the ranks that are not missing, as a number in (0, 1).

    ranks: (n, m) float64 from `ranked`; weights: (m,) at least 0, such as `LabelModel.weights`.
    Returns: (n,) float64; NaN where all with weight are missing.
    """
    known = ~np.isnan(ranks)
    filled = np.where(known, ranks, 0.5)
    total = (known * weights).sum(axis=1)
    mean = _divided((np.log(filled / (1.0 - filled)) * weights).sum(axis=1), total)
    return _sigmoid(mean)


@dataclass(frozen=True)
class Cut:
    """How far a cut may go.

    Attributes:
        bound: p_noise at most this is kept (or at least this dropped); None where none can be trusted.
        precision_at_least: the lower confidence bound at the cut, or at the best that was tried.
        audited: answers on the chosen side of that cut.
        reason: why there is no cut, or None.
    """

    bound: float | None
    precision_at_least: float
    audited: int
    reason: str | None


@dataclass(frozen=True)
class Goal:
    """What a cut must hold: of what is kept (or dropped), at least so many are right (or wrong).

    Attributes:
        precision: in (0, 1).
        confidence: in (0, 1), that the goal is met.
        side: "kept": pairs with p_noise at most the bound, right where ok; "dropped": pairs with
            p_noise at least the bound, right where not ok.
        cuts: how many cuts are tried; each is tested with confidence 1 - (1 - confidence) / cuts.
    """

    precision: float
    confidence: float = 0.95
    side: Literal["kept", "dropped"] = "kept"
    cuts: int = 10


def choose_cut(
    uids: NDArray[np.uint64],
    p_noise: Floats,
    audited: NDArray[np.uint64],
    ok: NDArray[np.bool_],
    goal: Goal,
) -> Cut:
    """The furthest cut whose precision holds the goal, by Clopper and Pearson 1934.

    The audited samples must be drawn from the pool at random. Cuts lie at equal numbers of audited
    samples, which the answers do not decide; because several are tried, each is tested more strictly
    (Bonferroni), so that the stated confidence holds for the one that is chosen.

    uids: (n, 2) uint64; p_noise: (n,); audited: (a, 2) uint64; ok: (a,) bool, True for a good pair.
    Answers that repeat count once; those whose p_noise is NaN can't count.
    Raises: ValueError for a goal out of range, an audited uid that is not in the pool, contradictory
    answers of one, or a uid that the pool holds twice.
    """
    if not (0 < goal.precision < 1 and 0 < goal.confidence < 1 and goal.cuts >= 1):
        msg = f"precision and confidence lie in (0, 1) and at least 1 cut is tried, not {goal}"
        raise ValueError(msg)
    at, right = _answers(uids, audited, ok)
    scores = p_noise[at]
    scores, right = scores[~np.isnan(scores)], right[~np.isnan(scores)]
    if goal.side == "dropped":
        scores, right = -scores, ~right
    stricter = 1.0 - (1.0 - goal.confidence) / goal.cuts
    needed = math.ceil(math.log(1.0 - stricter) / math.log(goal.precision))
    order = np.argsort(scores, kind="stable")
    scores, hits = scores[order], np.cumsum(right[order])
    best, tried = 0.0, len(scores)
    for part in range(goal.cuts, 0, -1):
        place = len(scores) * part // goal.cuts
        if place == 0:
            break
        last = int(np.searchsorted(scores, scores[place - 1], side="right"))  # equal scores stay together
        low = precision_bound(int(hits[last - 1]), last, stricter)
        if low >= goal.precision:
            bound = float(scores[last - 1])
            return Cut(bound if goal.side == "kept" else -bound, low, last, None)
        if low > best:
            best, tried = low, last
    reason = (
        f"no cut holds a precision of {goal.precision:.12g}: the best of {goal.cuts} holds {best:.4f} "
        f"with {tried} audited samples; audit more, or ask for less"
    )
    if len(scores) < needed:
        reason = f"{len(scores)} audited samples are too few: it takes {needed}, all of them right"
    return Cut(None, best, tried, reason)


def precision_bound(right: int, count: int, confidence: float) -> float:
    """The lower bound of a share that is exceeded with this confidence, one-sided, exact.

    Clopper and Pearson 1934: the share at which so many right ones or more are seen in just
    1 - confidence of all samples, the Beta(right, count - right + 1) quantile. By bisection of the
    binomial tail. Returns: in [0, 1); 0 where nothing is right.
    """
    if right <= 0:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(60):
        share = (low + high) / 2
        tail = binomial_tail(count, right, share)
        low, high = (share, high) if tail < 1.0 - confidence else (low, share)
    return low


def _answers(
    uids: NDArray[np.uint64], audited: NDArray[np.uint64], ok: NDArray[np.bool_]
) -> tuple[Counts, NDArray[np.bool_]]:
    """Where the audited samples stand in the pool, each once, and what was answered."""
    keys, place = np.unique(_keys(audited), return_inverse=True)
    good, asked = np.bincount(place[ok], minlength=len(keys)), np.bincount(place, minlength=len(keys))
    pool = _keys(uids)
    at = np.searchsorted(keys, pool)
    rows = np.flatnonzero(at < len(keys))
    rows = rows[keys[at[rows]] == pool[rows]]
    found = np.bincount(at[rows], minlength=len(keys))
    for wrong, what in (
        ((good > 0) & (good < asked), "was called both ok and not ok: keep one of the answers"),
        (found == 0, "was audited but is not in the pool: audit samples of this pool"),
        (found > 1, "stands twice in the pool: remove exact duplicates, then cut"),
    ):
        if wrong.any():
            msg = f"uid {bytes(keys[int(np.argmax(wrong))]).ljust(16, bytes(1)).hex()} {what}"
            raise ValueError(msg)
    return rows, good[at[rows]] > 0


def _keys(uids: NDArray[np.uint64]) -> NDArray[np.bytes_]:
    """Each uid as 16 bytes that sort as it does."""
    return np.ascontiguousarray(uids.astype(">u8")).view("S16").ravel()


def _detectors(counts: Counts) -> int:
    detectors = round(math.log(len(counts), 3))
    if 3**detectors != len(counts):
        msg = f"{len(counts)} counts are not 3^m: take them from pattern_counts"
        raise ValueError(msg)
    return detectors


def _settled(votes: Votes, many: Floats, start: Floats, independence: Floats) -> LabelModel:
    """EM until no pattern's probability moves."""
    noise = start
    for _ in range(_MOST_STEPS):
        model = _maximised(votes, many, noise, independence)
        before, noise = noise, model.p_noise(votes)
        if float(np.abs(noise - before).max()) < _STANDSTILL:
            break
    if float(np.average(model.reliability(), weights=model.independence)) < 0.5:
        return _maximised(votes, many, 1.0 - noise, independence)
    return model


def _maximised(votes: Votes, many: Floats, noise: Floats, independence: Floats) -> LabelModel:
    mass = np.stack([many * (1.0 - noise), many * noise])
    given = np.stack([(mass @ (votes == vote)) + _SMOOTHING for vote in (ABSTAIN, CLEAN, NOISE)], axis=2)
    given /= given.sum(axis=2, keepdims=True)
    share = (float(mass[1].sum()) + _SMOOTHING) / (float(many.sum()) + 2 * _SMOOTHING)
    return LabelModel(share, given, independence)


def accuracies(correlation: Floats) -> Floats:
    """How strongly each detector correlates with the truth, from how they correlate with each other.

    Detectors whose errors are independent correlate by the product of their correlations with the
    truth (Parisi et al. 2014, "Ranking and combining multiple predictors without labeled data").
    The fit is of least absolute deviations, by reweighting, so that a few pairs that agree by design
    do not bend it. Errors that all detectors share can't be seen.

    correlation: (m, m) float64, NaN unknown. Returns: (m,) float64 in [0, 1].
    """
    known = np.isfinite(correlation) & ~np.eye(len(correlation), dtype=np.bool_)
    pairs = np.where(known, correlation, 0.0)
    mean = _divided(pairs.sum(axis=1), known.sum(axis=1))
    truth: Floats = np.sqrt(np.clip(np.nan_to_num(mean), 0.0, 1.0))
    for _ in range(_FITTING_STEPS):
        weight = known / np.maximum(np.abs(pairs - np.outer(truth, truth)), 1e-3)
        fitted = _divided((weight * pairs) @ truth, weight @ truth**2)
        truth = (truth + np.clip(np.nan_to_num(fitted), 0.0, 1.0)) / 2
    return truth


def _independence(correlation: Floats, truth: Floats) -> Floats:
    """1 / (1 + the sum of what a detector's correlations with others exceed the expected ones)."""
    expected = np.minimum(np.outer(truth, truth), 0.999)
    beyond = np.clip((np.nan_to_num(correlation) - expected) / (1.0 - expected), 0.0, 1.0)
    np.fill_diagonal(beyond, 0.0)
    weight: Floats = 1.0 / (1.0 + beyond.sum(axis=1))
    return weight


def _correlation(pairs: Floats, ones: Floats, together: NDArray[Any]) -> Floats:
    """Of noise votes, where both vote: pairs; where the row's says noise: ones; where both do: together."""
    spread = ones * (pairs - ones)
    return _divided(pairs * together - ones * ones.T, np.sqrt(np.maximum(spread * spread.T, 0.0)))


def _divided(above: NDArray[Any], below: NDArray[Any]) -> Floats:
    found = np.full(above.shape, np.nan)
    np.divide(above, below, out=found, where=below > 0)
    return found


def _sigmoid(odds: Floats) -> Floats:
    with np.errstate(invalid="ignore"):
        return np.exp(-np.logaddexp(0.0, -odds))
