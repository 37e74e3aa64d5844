"""Which labels are probably wrong, from predicted probabilities: confident learning.

Northcutt, Jiang and Chuang 2021, "Confident learning: estimating uncertainty in dataset labels"
(arXiv 1911.00068). An item counts as an example of the likeliest class for which its probability
reaches the mean of that class's own items; counting given against counted class is the confident
joint, which says how many items of each class were given which other label. Written from the
formulas; equal to cleanlab 2.9.0 on thresholds, joints, scores and issue sets where the tests
compare them. What we do differently:

* thresholds and joint are integers that add up in any order, so that parts of a pool can be merged;
* equal margins are told apart by uid, and exactly as many items are taken as the joint says;
* a row without label (-1) or with a probability that is not a number is null: it is counted nowhere
  and its scores are NaN;
* `p_mislabelled` also asks how often the true class is given this label (Bayes' rule).

Labels are (n,) integers in [0, K), -1 for none; probabilities are (n, K) floats, out of sample,
rows summing to 1 within `SUM_TOLERANCE`. A label of K or more, or a row that does not sum to 1, is
a ValueError that names the row.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Counts: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]
Labels: TypeAlias = NDArray[np.integer[Any]]
Probabilities: TypeAlias = NDArray[np.floating[Any]]
Rule = Literal["prune_by_noise_rate", "prune_by_class", "both", "confident_learning"]

SUM_TOLERANCE = 1e-3  # what float16 probabilities of many classes miss
PROBABILITY_UNIT = 2.0**-30
_SLACK = 1e-6  # an item this little below the threshold is confident, as in the paper's own code


def usable(labels: Labels, probabilities: Probabilities) -> Mask:
    """True for the rows that can be judged: a label, and probabilities that are numbers.

    Returns: (n,) bool.
    Raises: ValueError for shapes that don't fit, a label of K or more, a probability outside [0, 1],
    or a row that does not sum to 1.
    """
    if probabilities.ndim != 2 or labels.shape != (len(probabilities),) or probabilities.shape[1] < 1:
        msg = f"labels {labels.shape} and probabilities {probabilities.shape} must be (n,) and (n, K)"
        raise ValueError(msg)
    classes = probabilities.shape[1]
    wrong = np.flatnonzero((labels < -1) | (labels.astype(np.int64) >= classes))
    if len(wrong):
        msg = f"row {wrong[0]} has label {labels[wrong[0]]}: labels are 0..{classes - 1}, or -1 for none"
        raise ValueError(msg)
    known = ~np.isnan(probabilities).any(axis=1)
    outside = known & ((probabilities < -_SLACK) | (probabilities > 1 + SUM_TOLERANCE)).any(axis=1)
    sums = probabilities.sum(axis=1, dtype=np.float64)
    outside |= known & (np.abs(sums - 1) > SUM_TOLERANCE)
    if outside.any():
        row = int(np.argmax(outside))
        msg = f"row {row}: probabilities {probabilities[row][:5]} sum to {sums[row]:.6g}, not to 1"
        raise ValueError(msg)
    return known & (labels >= 0)


def threshold_sums(labels: Labels, probabilities: Probabilities) -> Counts:
    """What thresholds are made of; sums of parts add up to the sum of the whole, bit for bit.

    Returns: (2, K) int64: the sum of the own class's probability over each class's rows in units of
    2^-30, good for 8 billion rows of a class, and the number of these rows.
    """
    fine = usable(labels, probabilities)
    rows, own = np.flatnonzero(fine), labels[fine].astype(np.int64)
    sums = np.zeros((2, probabilities.shape[1]), dtype=np.int64)
    values = probabilities[rows, own].astype(np.float64)
    np.add.at(sums[0], own, np.round(values / PROBABILITY_UNIT).astype(np.int64))
    np.add.at(sums[1], own, 1)
    return sums


def thresholds(sums: Counts) -> Floats:
    """The mean probability of each class over its own rows.

    sums: (2, K) int64 from `threshold_sums`. Returns: (K,) float64; NaN for a class without rows.
    """
    means = np.full(sums.shape[1], np.nan)
    np.divide(sums[0] * PROBABILITY_UNIT, sums[1], out=means, where=sums[1] > 0)
    return means


def confident_classes(probabilities: Probabilities, bounds: Floats) -> NDArray[np.int32]:
    """The class that each row is a confident example of, the likeliest if several.

    bounds: (K,) float64 from `thresholds`; nothing is confident of a class whose threshold is NaN.
    Returns: (n,) int32 in [0, K); -1 where no class reaches its threshold, or a value is NaN.
    """
    reaches = probabilities >= bounds - _SLACK
    best = np.argmax(np.where(reaches, probabilities, -1.0), axis=1)
    found = reaches.any(axis=1) & ~np.isnan(probabilities).any(axis=1)
    return np.where(found, best, -1).astype(np.int32)


def joint_counts(labels: Labels, confident: NDArray[np.int32], classes: int) -> Counts:
    """The confident joint: how many rows of each given label count as each class; parts add up.

    confident: (n,) int32 from `confident_classes`. Returns: (K, K) int64, [given, counted as].
    """
    counted = (labels >= 0) & (confident >= 0)
    cells = labels[counted].astype(np.int64) * classes + confident[counted]
    return np.bincount(cells, minlength=classes * classes).astype(np.int64).reshape(classes, classes)


def calibrated_joint(joint: Counts, class_counts: Counts) -> Counts:
    """The joint scaled so that each row sums to the number of rows given that label.

    The diagonal counts as at least 1. Whole numbers by largest remainder, equal ones to the lowest
    class, each within 1 of its real value.

    joint: (K, K) int64 from `joint_counts`; class_counts: (K,) int64, such as `threshold_sums`[1].
    Returns: (K, K) int64, row k summing to class_counts[k].
    """
    joint = joint.copy()
    np.fill_diagonal(joint, np.maximum(joint.diagonal(), 1))
    values = joint / joint.sum(axis=1, keepdims=True) * class_counts[:, None]
    whole: Counts = np.floor(values + 1e-9).astype(np.int64)
    remainders = np.round(values - whole, 9)  # so that noise in the last bits breaks no tie
    missing = class_counts - whole.sum(axis=1)
    rank = np.argsort(np.argsort(-remainders, axis=1, kind="stable"), axis=1, kind="stable")
    whole += rank < missing[:, None]
    return whole


def self_confidence(labels: Labels, probabilities: Probabilities) -> Floats:
    """The probability of the given label; low is suspicious. Returns: (n,) float64 in [0, 1]."""
    fine = usable(labels, probabilities)
    own = probabilities[np.arange(len(labels)), np.where(fine, labels, 0).astype(np.int64)]
    return np.where(fine, own.astype(np.float64), np.nan)


def normalised_margin(labels: Labels, probabilities: Probabilities) -> Floats:
    """How far the given label leads: (its probability - the best other's + 1) / 2; low is suspicious.

    Returns: (n,) float64 in [0, 1]; with a single class there is no other, whose probability is 0.
    """
    own = self_confidence(labels, probabilities)
    others = probabilities.astype(np.float64)
    others[np.arange(len(labels)), np.where(labels >= 0, labels, 0).astype(np.int64)] = 0.0
    margin: Floats = (own - others.max(axis=1) + 1.0) / 2.0
    return margin


def p_mislabelled(labels: Labels, probabilities: Probabilities, joint: Counts) -> Floats:
    """How likely the given label is wrong, if true classes are given labels as often as the joint says.

    P(true = k | x, given) is in proportion to P(k | x) x P(given | k). Self-confidence leaves the
    second factor out, and so blames confusions that annotators rarely make as much as frequent ones.
    An empty cell counts as 1, so that nothing is impossible.

    joint: (K, K) int64 from `calibrated_joint`. Returns: (n,) float64 in [0, 1].
    """
    fine = usable(labels, probabilities)
    filled = np.maximum(joint, 1).astype(np.float64)
    given_if_true = filled / filled.sum(axis=0)
    own = np.where(fine, labels, 0).astype(np.int64)
    weights = probabilities * given_if_true[own]
    total = weights.sum(axis=1)
    right = weights[np.arange(len(labels)), own]
    wrong = 1.0 - np.divide(right, total, out=np.ones(len(own)), where=total > 0)
    return np.where(fine, np.clip(wrong, 0.0, 1.0), np.nan)


def find_issues(
    labels: Labels,
    probabilities: Probabilities,
    uids: NDArray[np.uint64],
    rule: Rule = "prune_by_noise_rate",
) -> Mask:
    """The rows whose label is probably wrong.

    `prune_by_noise_rate`: for each pair of classes, as many rows as the calibrated joint says, those
    where the other class leads most. `prune_by_class`: for each label, as many as the joint has
    outside the diagonal, those of lowest self-confidence. `both`: rows of both. `confident_learning`:
    the rows that the joint counts outside its diagonal. A row whose label is the likeliest class is
    never an issue, and every class keeps a row. Equal values are told apart by uid.

    uids: (n, 2) uint64. Returns: (n,) bool; False where a row is null.
    """
    fine = usable(labels, probabilities)
    sums = threshold_sums(labels, probabilities)
    confident = confident_classes(probabilities, thresholds(sums))
    own = np.where(fine, labels, -1).astype(np.int64)
    likeliest = np.argmax(np.where(np.isnan(probabilities), -1.0, probabilities), axis=1)
    if rule == "confident_learning":
        outside: Mask = fine & (confident >= 0) & (confident != own) & (likeliest != own)
        return outside
    joint = leaving_one(calibrated_joint(joint_counts(own, confident, len(sums[1])), sums[1]))
    found = fine.copy()
    if rule in ("prune_by_noise_rate", "both"):
        found &= _by_cell(own, probabilities, uids, joint)
    if rule in ("prune_by_class", "both"):
        found &= _by_class(own, probabilities, uids, joint)
    found &= likeliest != own
    return found


def leaving_one(joint: Counts) -> Counts:
    """The joint with at least 1 on the diagonal of every row that has any, taken from its largest cell."""
    joint = joint.copy()
    for row in np.flatnonzero((joint.diagonal() == 0) & (joint.sum(axis=1) > 0)):
        joint[row, int(np.argmax(joint[row]))] -= 1
        joint[row, row] = 1
    return joint


def multi_label_scores(given: Mask, probabilities: Probabilities) -> Floats:
    """How well each class's verdict fits: its probability where it is given, 1 minus it elsewhere.

    given: (n, K) bool; probabilities: (n, K), each in [0, 1] on its own.
    Returns: (n, K) float64 in [0, 1]; NaN stays. Aggregate with `ema` or `softmin`.
    Raises: ValueError where a probability is outside [0, 1] or shapes differ.
    """
    if given.shape != probabilities.shape:
        msg = f"given {given.shape} and probabilities {probabilities.shape} must have one shape"
        raise ValueError(msg)
    outside = ((probabilities < 0) | (probabilities > 1)).any(axis=1)
    if outside.any():
        row = int(np.argmax(outside))
        msg = f"row {row}: probabilities {probabilities[row][:5]} must lie in [0, 1]"
        raise ValueError(msg)
    values = probabilities.astype(np.float64)
    return np.where(given, values, 1.0 - values)


def ema(scores: Floats, alpha: float = 0.8) -> Floats:
    """One score of several, the lowest counting most: an exponential mean from highest to lowest.

    scores: (n, K) float64, K at least 1. Returns: (n,) float64; NaN where a score is NaN.
    """
    descending = -np.sort(-scores, axis=1)
    mean: Floats = descending[:, 0]
    for column in descending.T[1:]:
        mean = alpha * column + (1.0 - alpha) * mean
    return mean


def softmin(scores: Floats, temperature: float = 0.1) -> Floats:
    """The mean of several scores, weighted by softmax((1 - score) / temperature).

    scores: (n, K) float64, K at least 1. Returns: (n,) float64; NaN where a score is NaN.
    """
    raised = (1.0 - scores) / temperature
    weights = np.exp(raised - raised.max(axis=1, keepdims=True))
    mean: Floats = (weights * scores).sum(axis=1) / weights.sum(axis=1)
    return mean


def _by_cell(own: Counts, probabilities: Probabilities, uids: NDArray[np.uint64], joint: Counts) -> Mask:
    found = np.zeros(len(own), dtype=np.bool_)
    for given in range(len(joint)):
        rows = np.flatnonzero(own == given)
        for other in np.flatnonzero(joint[given]):
            if other != given:
                margin = probabilities[rows, given].astype(np.float64) - probabilities[rows, other]
                found[rows[_lowest(margin, uids[rows], int(joint[given, other]))]] = True
    return found


def _by_class(own: Counts, probabilities: Probabilities, uids: NDArray[np.uint64], joint: Counts) -> Mask:
    found = np.zeros(len(own), dtype=np.bool_)
    for given in range(len(joint)):
        rows = np.flatnonzero(own == given)
        many = int(joint[given].sum() - joint[given, given])
        found[rows[_lowest(probabilities[rows, given].astype(np.float64), uids[rows], many)]] = True
    return found


def _lowest(values: Floats, uids: NDArray[np.uint64], many: int) -> NDArray[np.intp]:
    """Where the lowest values stand, equal ones by uid."""
    return np.lexsort((uids[:, 1], uids[:, 0], values))[:many]
