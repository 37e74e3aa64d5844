"""How likely a pair is noise, from where it lies in the space of embeddings: linear separation.

Albert et al. 2024, "An accurate detection is not all you need to combat label noise in web-noisy
datasets" (LSA): in contrastive features noisy samples are linearly separable from clean ones, and
linear separation alternates with the small-loss detector because it misses clean samples that are
visually simple. What we do differently:

* the seeds come from any other detector's probabilities (above .9 noise, below .1 clean), and the
  features are the two embeddings and their product;
* models are cross-fitted over folds by uid: none scores a sample that it was fitted on;
* we alternate while detecting, not between epochs of a training: a round fits the models, takes the
  noise rate they find, and asks the small-loss detector which samples it would keep at that rate;
  samples on which both agree are the next round's seeds;
* rescue: a sample that the models call noise stays with the seeding detector's verdict where that
  is below .1 and the small-loss detector keeps the sample in every round.

`noisy_label_probabilities` is the same idea for labels: cross-fitted multinomial regression on
noisy labels, out of sample as confident learning needs them.

Losses are minimised in float64 by our own L-BFGS (Nocedal and Wright 2006, algorithm 7.5): sum of
log losses + penalty / 2 x squared weights, intercepts free, which is scikit-learn's
LogisticRegression with C = 1 / penalty. The same input gives the same result on one machine; other
libraries of linear algebra differ in the last bits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from filters.core.uids import uid_fraction

Floats: TypeAlias = NDArray[np.float64]
Mask: TypeAlias = NDArray[np.bool_]
Features: TypeAlias = NDArray[np.floating[Any]]
Folds: TypeAlias = NDArray[np.int64]
Objective: TypeAlias = Callable[[Floats], tuple[float, Floats]]

CERTAIN_NOISE, CERTAIN_CLEAN = 0.9, 0.1
_MEMORY, _MOST_STEPS, _FLAT = 20, 1000, 1e-7


def uid_folds(uids: NDArray[np.uint64], folds: int = 5, seed: int = 0) -> Folds:
    """The fold of each sample, by a hash of its uid, so that copies and reruns agree.

    uids: (n, 2) uint64; folds: at least 2. Returns: (n,) int64 in [0, folds).
    """
    return (uid_fraction(uids, seed) * folds).astype(np.int64)


def pair_features(images: Features, texts: Features) -> Floats:
    """Both embeddings and their product, whose sum is the cosine.

    images, texts: (n, d) unit rows; NaN where there is none. Returns: (n, 3 d) float64.
    """
    left, right = images.astype(np.float64), texts.astype(np.float64)
    return np.concatenate([left, right, left * right], axis=1)


@dataclass(frozen=True)
class Linear:
    """A fitted model: softmax over classes of standardised features x weights + intercepts.

    Attributes:
        center, spread: (d,) float64 of the features it was fitted on; spread is at least 1e-12.
        weights: (d + 1, K) float64, the intercepts last.
        classes: (K,) int64 ascending, what the columns stand for.
    """

    center: Floats
    spread: Floats
    weights: Floats
    classes: NDArray[np.int64]

    def probabilities(self, features: Features) -> Floats:
        """(n, K) float64, rows summing to 1; NaN rows where a feature is not finite."""
        with np.errstate(invalid="ignore", over="ignore"):
            scaled = (features - self.center) / self.spread
            logits = scaled @ self.weights[:-1] + self.weights[-1]
        logits[~np.isfinite(logits).all(axis=1)] = np.nan
        return _softmax(logits)


def fit_linear(features: Features, labels: NDArray[np.integer[Any]], penalty: float = 1.0) -> Linear:
    """Multinomial logistic regression on standardised features; with two classes the usual one.

    Each feature is divided by its standard deviation, so that the penalty means the same for all.
    With two classes one column of weights is fitted, and the other is zero.

    features: (n, d), finite; labels: (n,) integers; penalty: above 0.
    Raises: ValueError where there is no row, a feature that is not finite, or no penalty.
    """
    if not len(features) or not np.isfinite(features).all() or not penalty > 0:
        msg = f"regression needs rows, finite features and a penalty above 0, not {penalty}"
        raise ValueError(msg)
    center = features.mean(axis=0, dtype=np.float64)
    spread = np.maximum(features.std(axis=0, dtype=np.float64), 1e-12)
    design = np.concatenate([(features - center) / spread, np.ones((len(features), 1))], axis=1)
    classes, targets = np.unique(labels.astype(np.int64), return_inverse=True)
    free = 1 if len(classes) == 2 else len(classes)
    objective = _log_loss(design, targets, len(classes), free, penalty)
    weights = np.zeros((design.shape[1], len(classes)))
    if len(classes) > 1:
        weights[:, len(classes) - free :] = minimised(objective, np.zeros(design.shape[1] * free)).reshape(
            -1, free
        )
    return Linear(center, spread, weights, classes)


def noisy_label_probabilities(
    features: Features,
    labels: NDArray[np.integer[Any]],
    folds: Folds,
    classes: int,
    penalty: float = 1.0,
) -> Floats:
    """Out-of-sample probabilities of every class, from a regression on the noisy labels themselves.

    A sample is scored by the model fitted on the other folds. One without label (-1) is scored but
    not fitted on. Choose a penalty by `label_loss`, which needs no truth.

    features: (n, d); labels: (n,) integers in [-1, classes); folds: (n,) int64.
    Returns: (n, classes) float64; 0 for a class that the other folds lack; NaN where a feature is
    not finite, or the other folds have no labelled sample.
    Raises: ValueError for a label of `classes` or more.
    """
    if len(labels) and (int(labels.max()) >= classes or int(labels.min()) < -1):
        msg = f"labels lie in [-1, {classes}), but they reach from {labels.min()} to {labels.max()}"
        raise ValueError(msg)
    finite = np.isfinite(features).all(axis=1)
    found = np.full((len(features), classes), np.nan)
    for fold in np.unique(folds):
        inside, train = folds == fold, (folds != fold) & finite & (labels >= 0)
        if train.any():
            model = fit_linear(features[train], labels[train], penalty)
            found[inside] = 0.0
            found[np.ix_(inside, model.classes)] = model.probabilities(features[inside])
    found[np.isnan(found).any(axis=1)] = np.nan
    return found


def label_loss(probabilities: Floats, labels: NDArray[np.integer[Any]]) -> float:
    """The mean log loss of the given labels, out of sample: the lower, the better the penalty.

    Null rows are left out; a probability counts as at least 1e-12. NaN where all rows are null.
    """
    own = probabilities[np.arange(len(labels)), np.maximum(labels, 0)]
    known = own[(labels >= 0) & ~np.isnan(own)]
    return float(-np.log(np.maximum(known, 1e-12)).mean()) if len(known) else float("nan")


def small_loss(losses: Features, kept_fraction: float, uids: NDArray[np.uint64]) -> Mask:
    """True for the fraction of samples with the smallest loss, rounded down, equal ones by uid.

    losses: (n,); NaN is never kept and not counted. Returns: (n,) bool.
    """
    known = np.flatnonzero(~np.isnan(losses))
    order = known[np.lexsort((uids[known, 1], uids[known, 0], losses[known]))]
    kept = np.zeros(len(losses), dtype=np.bool_)
    kept[order[: int(kept_fraction * len(known))]] = True
    return kept


@dataclass(frozen=True)
class Separation:
    """What linear separation says of every sample.

    Attributes:
        p_noise: (n,) float64 in [0, 1]; NaN where a feature or loss is missing, or there is a reason.
        rescued: (n,) bool, True where the models said noise and the verdict stayed clean.
        models: the last round's model of each fold; a sample that none was fitted on may be scored
            by their mean.
        reason: why nothing was separated, or None.
    """

    p_noise: Floats
    rescued: Mask
    models: tuple[Linear, ...]
    reason: str | None

    def p_noise_of(self, features: Features) -> Floats:
        """The mean of the models for samples that none of them was fitted on: (n,) float64."""
        each = [model.probabilities(features)[:, 1] for model in self.models]
        mean: Floats = np.mean(each, axis=0)
        return mean


@dataclass(frozen=True)
class Alternation:
    """How linear separation and small loss alternate.

    Attributes:
        folds: at least 2, by uid.
        rounds: how often the models are fitted, at least 1; fewer where both agree on too little.
        penalty: on the squared weights of the standardised features.
        least_seeds: of each side, in what each model is fitted on.
    """

    folds: int = 5
    rounds: int = 3
    penalty: float = 1.0
    least_seeds: int = 50


def separate(
    features: Features,
    seeds: Features,
    losses: Features,
    uids: NDArray[np.uint64],
    how: Alternation = Alternation(),
) -> Separation:
    """How likely each sample is noise, from linear models of another detector's certain samples.

    features: (n, d), such as `pair_features`; seeds: (n,) the other detector's p_noise, NaN unknown;
    losses: (n,) high where noise, such as 1 - cosine; uids: (n, 2) uint64.
    """
    part = uid_folds(uids, how.folds)
    known = np.isfinite(features).all(axis=1) & ~np.isnan(losses)
    sure_clean = known & (seeds < CERTAIN_CLEAN)
    noise, clean = known & (seeds > CERTAIN_NOISE), sure_clean
    always_small = known.copy()
    models: tuple[Linear, ...] = ()
    p_noise = np.full(len(features), np.nan)
    for _ in range(how.rounds):
        reason = _too_few(noise, clean, part, how)
        if reason and not models:
            return Separation(p_noise, np.zeros(len(p_noise), np.bool_), (), reason)
        if reason:  # both agree on too little: the round before counts
            break
        models = tuple(
            _fitted(features, noise, clean, part != fold, how.penalty) for fold in range(how.folds)
        )
        for fold, model in enumerate(models):
            inside = known & (part == fold)
            p_noise[inside] = model.probabilities(features[inside])[:, 1]
        small = small_loss(np.where(known, losses, np.nan), 1.0 - float(p_noise[known].mean()), uids)
        always_small &= small
        clean = small & ((p_noise < CERTAIN_CLEAN) | sure_clean)
        noise = known & ~small & (p_noise > CERTAIN_NOISE)
    rescued = sure_clean & always_small & (p_noise >= 0.5)
    return Separation(np.where(rescued, seeds, p_noise), rescued, models, None)


def _fitted(features: Features, noise: Mask, clean: Mask, used: Mask, penalty: float) -> Linear:
    rows = np.flatnonzero((noise | clean) & used)
    return fit_linear(features[rows], noise[rows].astype(np.int64), penalty)


def _too_few(noise: Mask, clean: Mask, part: Folds, how: Alternation) -> str | None:
    """Why the seeds can't be separated, or None."""
    for name, side in (("noisy", noise), ("clean", clean)):
        fewest = min(int(side.sum()) - int((side & (part == fold)).sum()) for fold in range(how.folds))
        if fewest < how.least_seeds:
            return (
                f"a model would see {fewest} certain {name} samples, fewer than {how.least_seeds}: "
                "use more samples, or a detector that is certain of more"
            )
    return None


def _softmax(logits: Floats) -> Floats:
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    share: Floats = weights / weights.sum(axis=1, keepdims=True)
    return share


def _log_loss(
    design: Floats, targets: NDArray[np.intp], classes: int, free: int, penalty: float
) -> Objective:
    """The mean regularised log loss and its gradient; the first classes - free columns are zero."""
    hot = np.zeros((len(design), classes))
    hot[np.arange(len(design)), targets] = 1.0
    rows = np.arange(len(design))

    def objective(flat: Floats) -> tuple[float, Floats]:
        weights = flat.reshape(-1, free)
        logits = np.zeros((len(design), classes))
        logits[:, classes - free :] = design @ weights
        top = logits.max(axis=1)
        total = np.exp(logits - top[:, None]).sum(axis=1)
        held = weights.copy()
        held[-1] = 0.0
        loss = float((np.log(total) + top - logits[rows, targets]).sum())
        share = np.exp(logits - top[:, None]) / total[:, None]
        slope = design.T @ (share - hot)[:, classes - free :] + penalty * held
        loss += penalty / 2 * float((held * held).sum())
        return loss / len(design), slope.ravel() / len(design)

    return objective


def minimised(objective: Objective, start: Floats) -> Floats:
    """Where a smooth convex function is least: L-BFGS with backtracking, until its slope is flat.

    objective: gives the value and the gradient. Returns: (d,) float64.
    """
    point = start
    value, slope = objective(point)
    steps: list[tuple[Floats, Floats]] = []
    for _ in range(_MOST_STEPS):
        if float(np.abs(slope).max(initial=0.0)) < _FLAT:
            break
        direction = -_towards(slope, steps)
        fall = float(direction @ slope)
        size = 1.0 if steps else min(1.0, 1.0 / float(np.abs(slope).sum()))
        while True:
            following = point + size * direction
            new_value, new_slope = objective(following)
            if new_value <= value + 1e-4 * size * fall or size < 1e-10:
                break
            size /= 2
        if new_value > value:  # nothing lower within rounding
            break
        moved, bent = following - point, new_slope - slope
        if float(moved @ bent) > 1e-12 * float(bent @ bent):
            steps = [*steps[-_MEMORY + 1 :], (moved, bent)]
        point, value, slope = following, new_value, new_slope
    return point


def _towards(slope: Floats, steps: list[tuple[Floats, Floats]]) -> Floats:
    """The slope x the inverse curvature that the last steps saw (the two-loop recursion)."""
    result, shares = slope.copy(), []
    for moved, bent in reversed(steps):
        share = float(moved @ result) / float(moved @ bent)
        result -= share * bent
        shares.append(share)
    if steps:
        moved, bent = steps[-1]
        result *= float(moved @ bent) / float(bent @ bent)
    for (moved, bent), share in zip(steps, reversed(shares), strict=True):
        result += (share - float(bent @ result) / float(moved @ bent)) * moved
    return result
