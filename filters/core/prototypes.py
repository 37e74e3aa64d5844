"""Whether an image looks like its class, from prototypes whose examples the captions chose.

Qin et al. 2023, "CAPro: webly supervised learning with cross-modality aligned prototypes" (and
FoPro before it): each class has a text prototype, the embedding of its definition; the samples whose
texts are nearest to it are anchors; the mean of the anchors' images is the class's visual prototype;
a sample is clean where a classifier and the prototypes together give its class at least chance.
Written from the formulas. What we do differently:

* prototypes are sums of integers for each class, so that parts of a pool add up in any order;
* anchors of equal similarity are told apart by uid;
* a class may bring its own few examples, whose images count as anchors;
* a sample whose class has no text prototype or no example is null, with a reason;
* `calibrated_scale` finds the temperature of zero-shot probabilities from the noisy labels.

Classes are numbered 0..C-1 and a sample's class is that of its caption, -1 for none. Embeddings are
(n, d) unit rows, float16 or wider, NaN where there is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Counts: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]
Embeddings: TypeAlias = NDArray[np.floating[Any]]

ANCHORS, MIXING, TEMPERATURE, RELABEL, MOMENTUM = 50, 0.5, 0.1, 0.6, 0.999
UNIT = 2.0**-30
REASONS = ("", "no_class", "no_embedding", "class_without_prototype")
SCALES = tuple(float(scale) for scale in np.geomspace(1, 200, 107))  # steps of 5 %
_CERTAIN_SHARE = 0.1


def text_prototypes(definitions: Embeddings) -> Floats:
    """One unit vector for each class: the mean over the wordings of its definition.

    definitions: (w, C, d), or (C, d) for a single wording. Returns: (C, d) float64; NaN for a class
    none of whose wordings has an embedding, or whose mean is zero.
    """
    worded = definitions.astype(np.float64)
    if worded.ndim == 2:
        worded = worded[None]
    known = np.isfinite(worded).all(axis=2, keepdims=True)
    return _unit(np.where(known, worded, 0.0).sum(axis=0))


def reciprocal(neighbours: Counts) -> Mask:
    """Where a neighbour counts the sample among its own neighbours too.

    neighbours: (n, k) int64 rows of the nearest others, -1 for none. Returns: (n, k) bool.
    """
    found = np.zeros(neighbours.shape, dtype=np.bool_)
    rows = np.arange(len(neighbours))[:, None]
    for column, other in enumerate(neighbours.T):
        found[:, column] = (other >= 0) & (neighbours[np.maximum(other, 0)] == rows).any(axis=1)
    return found


def smoothed_texts(texts: Embeddings, neighbours: Counts, images: Embeddings) -> Floats:
    """Each text moved towards those of the k-reciprocal neighbours of its image.

    A neighbour weighs as much as its image's cosine, at least 0; the sample's own text weighs 1.

    neighbours: (n, k) int64 by image, -1 for none, without the sample itself.
    Returns: (n, d) float64 unit rows; NaN where the own text is missing.
    """
    left, mine = images.astype(np.float64), texts.astype(np.float64)
    total = mine.copy()
    mutual = reciprocal(neighbours)
    usable = _present(left) & _present(mine)
    for column, other in enumerate(neighbours.T):
        rows = np.flatnonzero(mutual[:, column] & usable & usable[other])
        cosine = np.maximum(np.einsum("nd,nd->n", left[rows], left[other[rows]]), 0.0)
        total[rows] += cosine[:, None] * mine[other[rows]]
    return _unit(total)


def similarities(texts: Embeddings, classes: Counts, prototypes: Floats) -> Floats:
    """The cosine of each text with the prototype of its class; NaN where one is missing."""
    chosen = prototypes[np.maximum(classes, 0)]
    cosine = np.einsum("nd,nd->n", texts.astype(np.float64), chosen)
    return np.where(classes >= 0, cosine, np.nan)


def choose_anchors(similarity: Floats, classes: Counts, uids: NDArray[np.uint64], top: int = ANCHORS) -> Mask:
    """The `top` samples of each class whose texts are nearest to its prototype, equal ones by uid.

    The anchors of a pool are the anchors among the anchors of its parts, so parts can be merged.

    similarity: (n,) float64, NaN never chosen; uids: (n, 2) uint64. Returns: (n,) bool.
    """
    known = np.flatnonzero(~np.isnan(similarity) & (classes >= 0))
    order = known[np.lexsort((uids[known, 1], uids[known, 0], -similarity[known], classes[known]))]
    sorted_classes = classes[order]
    first = np.searchsorted(sorted_classes, sorted_classes)
    chosen = np.zeros(len(similarity), dtype=np.bool_)
    chosen[order[np.arange(len(order)) - first < top]] = True
    return chosen


def image_sums(images: Embeddings, classes: Counts, chosen: Mask, count: int) -> Counts:
    """The sum of the chosen images of each class; sums of parts add up, bit for bit, in any order.

    images: (n, d); count: how many classes there are. Images that are not finite are left out.
    Returns: (C, d + 1) int64 in units of 2^-30; the last column is the number of images.
    """
    used = chosen & (classes >= 0) & _present(images)
    rows = np.round(images[used].astype(np.float64) / UNIT).astype(np.int64)
    sums = np.zeros((count, images.shape[1] + 1), dtype=np.int64)
    np.add.at(sums, classes[used], np.column_stack([rows, np.ones(len(rows), dtype=np.int64)]))
    return sums


def visual_prototypes(sums: Counts) -> Floats:
    """The direction of each class's images; sums: (C, d + 1) from `image_sums`.

    Returns: (C, d) float64 unit rows; NaN for a class without images.
    """
    return _unit(sums[:, :-1] * UNIT)


def moved(prototypes: Floats, newer: Floats, momentum: float = MOMENTUM) -> Floats:
    """Prototypes moved a little towards newer ones; where one of them is missing, the other.

    prototypes, newer: (C, d) float64 unit rows or NaN. Returns: (C, d) float64 unit rows or NaN.
    """
    known, fresh = _present(prototypes), _present(newer)
    mixed: Floats = np.where(known[:, None], prototypes, newer)
    mixed[known & fresh] = (momentum * prototypes + (1.0 - momentum) * newer)[known & fresh]
    return _unit(mixed)


def class_probabilities(images: Embeddings, prototypes: Floats, scale: float = 1 / TEMPERATURE) -> Floats:
    """Softmax over classes of scale x cosine; with text prototypes, zero-shot probabilities.

    Returns: (n, C) float64, rows summing to 1; 0 for a class without prototype; NaN where the image
    is missing or no class has a prototype.
    """
    held = _present(prototypes)
    found = np.full((len(images), len(prototypes)), np.nan)
    if not held.any():
        return found
    logits = scale * (images.astype(np.float64) @ prototypes[held].T)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    found[:, held] = weights / weights.sum(axis=1, keepdims=True)
    known = ~np.isnan(found[:, held]).any(axis=1)
    found[np.ix_(known, ~held)] = 0.0
    return found


def calibrated_scale(
    images: Embeddings, classes: Counts, prototypes: Floats, scales: tuple[float, ...] = SCALES
) -> float:
    """The scale of zero-shot probabilities under which the noisy labels are likeliest.

    How often annotators confuse classes is read off first where the picture leaves no doubt: for each
    class, the tenth of a mean class's samples that are nearest to its prototype, relative to the
    others. Fitted together, confusions and scale could stand in for each other.

    Returns: one of `scales`; the first of equal ones.
    Raises: ValueError where fewer than two classes or no labelled images remain.
    """
    held = _present(prototypes)
    used = (classes >= 0) & held[np.maximum(classes, 0)] & _present(images)
    if held.sum() < 2 or not used.any():
        msg = "a scale needs images with labels of at least two classes that have prototypes"
        raise ValueError(msg)
    names = np.flatnonzero(held)
    given = np.searchsorted(names, classes[used])
    cosine = images[used].astype(np.float64) @ prototypes[names].T
    doubtless = max(int(_CERTAIN_SHARE * len(given) / len(names)), 1)
    confusion = np.full((len(names), len(names)), 1.0 / len(names))
    for at in range(len(names)):
        lead = cosine[:, at] - np.delete(cosine, at, axis=1).max(axis=1)
        nearest = np.argsort(-lead, kind="stable")[:doubtless]
        confusion[at] += np.bincount(given[nearest], minlength=len(names))
    confusion /= confusion.sum(axis=1, keepdims=True)
    likelihoods = [_log_likelihood(scale * cosine, confusion[:, given].T) for scale in scales]
    return scales[int(np.argmax(likelihoods))]


@dataclass(frozen=True)
class PrototypeVerdict:
    """What the prototypes say of every sample.

    Attributes:
        score: (n,) float64 in [0, 1], how well the sample fits its class; NaN where null.
        clean: (n,) bool, score at least 1 / C.
        relabel: (n,) int64, another class that exceeds the bound; -1 where none does.
        reason: (n,) int8, position in `REASONS` of why the score is null; 0 where it is not.
    """

    score: Floats
    clean: Mask
    relabel: Counts
    reason: NDArray[np.int8]


def judge(
    images: Embeddings,
    classes: Counts,
    prototypes: Floats,
    predicted: Floats | None = None,
    mixing: float = MIXING,
) -> PrototypeVerdict:
    """The verdict of visual prototypes and a classifier together.

    score = mixing x predicted[class] + (1 - mixing) x softmax(cosine / .1)[class]; C in the rule is
    the number of classes that have a prototype.

    prototypes: (C, d) from `visual_prototypes`; predicted: (n, C) rows summing to 1, such as
    `class_probabilities` of text prototypes; without it the prototypes alone decide.
    """
    held = _present(prototypes)
    together = class_probabilities(images, prototypes)
    if predicted is not None:
        together = mixing * predicted + (1.0 - mixing) * together
    reason = np.zeros(len(images), dtype=np.int8)
    reason[np.isnan(together).any(axis=1)] = REASONS.index("no_embedding")
    reason[~held[np.maximum(classes, 0)]] = REASONS.index("class_without_prototype")
    reason[classes < 0] = REASONS.index("no_class")
    known = reason == 0
    score = np.where(known, together[np.arange(len(images)), np.maximum(classes, 0)], np.nan)
    filled = np.where(np.isnan(together), -1.0, together)
    best = np.argmax(filled, axis=1)
    exceeds = known & (filled.max(axis=1, initial=-1.0) > RELABEL) & (best != classes)
    clean = known & (score >= 1.0 / max(int(held.sum()), 1))
    return PrototypeVerdict(score, clean, np.where(exceeds, best, -1), reason)


def _present(rows: Embeddings) -> Mask:
    """(n,) bool, True for the rows whose numbers are all finite."""
    found: Mask = np.isfinite(rows.sum(axis=1, dtype=np.float64))
    return found


def _log_likelihood(logits: Floats, given_if_true: Floats) -> float:
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    share = (weights * given_if_true).sum(axis=1) / weights.sum(axis=1)
    return float(np.log(np.maximum(share, 1e-300)).sum())


def _unit(rows: Embeddings) -> Floats:
    """Rows of length 1; NaN where a row is zero or not finite."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    found = np.full(rows.shape, np.nan)
    np.divide(rows, length, out=found, where=np.isfinite(length) & (length > 1e-12))
    return found
