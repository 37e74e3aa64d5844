"""Labels beside those of their neighbours: kNN agreement, and how credible a label is.

Zhu, Dong and Liu 2022, "Detecting corrupted labels without training a model to predict" (SimiFeat):
the k nearest rows, the row itself among them, vote for their labels with weights 1 -
distance, the row with the distance 2 d_1 - d_2 that its two nearest neighbours extrapolate to; the
votes are normalised to length 1. By vote a label is wrong when another has more votes; by rank,
-log(votes of the label + 1e-8) orders the rows.

What we do differently: nothing is drawn at random, there is one round, negative weights count as 0,
and a label that ties with another is right. Only the scores are here, not the thresholds by class
that the authors estimate from a noise transition matrix.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from transforms.clustering import Embeddings, Floats, unit_rows
from transforms.noise.nearest import NearestRows, Neighbours

VOTERS = 10  # the row itself is one of them
_TINY = 1e-8

Labels = NDArray[np.int64]


class Agreement(NamedTuple):
    """How the neighbours' labels agree with a row's own; rows without a label have NaN and False.

    Attributes:
        outvoted: (n,) bool: another label has more votes (SimiFeat's mv).
        margin: (n,) float32 in [-1, 1]: votes of the strongest other label less those of the own.
        rank: (n,) float32 in [0, 18.5]: -log of the own label's votes; high is suspicious.
    """

    outvoted: NDArray[np.bool_]
    margin: Floats
    rank: Floats


def neighbours_among(
    embeddings: Embeddings, k: int, *, exact: bool = True, device: str = "auto"
) -> tuple[Neighbours, NDArray[np.bool_]]:
    """The k nearest other rows of each row, and which rows have a direction at all.

    embeddings: (n, d) float16 or float32, in the order of their uids, which breaks ties. Rows
    without a direction have no neighbours and are nobody's.
    """
    vectors, usable = unit_rows(embeddings)
    rows = np.flatnonzero(usable)
    found = NearestRows(vectors[rows], exact=exact, device=device).search(
        vectors[rows], k, np.arange(len(rows))
    )
    place = np.full((len(usable), k), -1, np.int64)
    cosine = np.zeros((len(usable), k), np.float32)
    cosine[rows] = found.cosine
    if len(rows):
        place[rows] = np.where(found.place >= 0, rows[found.place], -1)
    return Neighbours(cosine, place), usable


def votes(near: Neighbours, labels: Labels, own: Labels, classes: int) -> NDArray[np.float32]:
    """The votes of the neighbours and of the row itself, normalised to length 1.

    near: k - 1 neighbours of each of n rows without the row itself; labels: (m,) int64 of the rows
    searched in; own: (n,) int64; both in [0, classes), or -1 for no label, which votes for nothing.
    Returns: (n, classes) float32 in [0, 1]; zeros where nothing votes.
    Raises: ValueError for labels outside of the classes.
    """
    for some in (labels, own):
        if some.size and (some.min() < -1 or some.max() >= classes):
            msg = f"labels lie in [0, {classes}), or are -1 for none, but got {some.min()} to {some.max()}"
            raise ValueError(msg)
    there = near.place >= 0
    distances = np.where(there, 1 - near.cosine.astype(np.float64), np.inf)
    cast = np.zeros((len(own), classes))
    rows = np.arange(len(own))
    if len(labels):
        for column in range(near.place.shape[1]):
            label = np.where(there[:, column], labels[near.place[:, column]], -1)
            weight = np.maximum(near.cosine[:, column], 0)
            cast[rows[label >= 0], label[label >= 0]] += weight[label >= 0]
    cast[rows[own >= 0], own[own >= 0]] += _own_weight(distances)[own >= 0]
    lengths = np.sqrt(np.square(cast).sum(axis=1, keepdims=True))
    normalised: NDArray[np.float64] = cast / np.maximum(lengths, _TINY)
    return normalised.astype(np.float32)


def agreement(cast: Floats, own: Labels) -> Agreement:
    """How the votes of `votes` agree with the rows' own labels.

    cast: (n, classes) float32; own: (n,) int64, -1 for no label.
    """
    rows, labelled = np.arange(len(own)), own >= 0
    label = np.maximum(own, 0)
    mine = cast[rows, label]
    others = cast.copy()
    others[rows, label] = 0
    margin = others.max(axis=1, initial=0) - mine
    rank = -np.log(mine.astype(np.float64) + _TINY)
    return Agreement(
        labelled & (margin > 0),
        np.where(labelled, margin, np.nan).astype(np.float32),
        np.where(labelled, np.maximum(rank, 0), np.nan).astype(np.float32),
    )


def credibility(near: Neighbours, shares: Floats, own: Floats) -> Floats:
    """How alike a row's distribution over labels and its neighbours' mean distribution are.

    Ours: 1 less the Jensen-Shannon divergence in bits, the mean weighted with the neighbours'
    cosines where these are positive. For labels pass rows of zeros with a single 1.

    near: of n rows; shares: (m, classes) float32 of the rows searched in, own: (n, classes) float32;
    each row sums to 1, or is NaN where there is none.
    Returns: (n,) float32 in [0, 1], high for rows to believe; NaN where the row or all of its
    neighbours have no distribution.
    """
    mean = np.zeros(own.shape)
    total = np.zeros(len(own))
    stated = ~np.isnan(shares.sum(axis=1))
    for column in range(near.place.shape[1] if len(shares) else 0):
        place = near.place[:, column]
        weight = np.where((place >= 0) & stated[place], np.maximum(near.cosine[:, column], 0), 0)
        mean += weight[:, None] * np.where(stated[place, None], shares[place], 0)
        total += weight
    good = (total > 0) & np.isfinite(own).all(axis=1)
    mean[good] /= total[good, None]
    found = np.full(len(own), np.nan, np.float32)
    one, other = own[good].astype(np.float64), mean[good]
    middle = (one + other) / 2
    found[good] = np.clip(1 - (_relative(one, middle) + _relative(other, middle)) / 2, 0, 1)
    return found


def _own_weight(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 - (2 d_1 - d_2), not below 0; with fewer than two neighbours 1 - d_1, with none 1."""
    padding = np.full((len(distances), 2), np.inf)
    nearest = np.sort(np.hstack([distances, padding]), axis=1)[:, :2]
    first = np.where(np.isfinite(nearest[:, 0]), nearest[:, 0], 0)
    second = np.where(np.isfinite(nearest[:, 1]), nearest[:, 1], first)
    weights: NDArray[np.float64] = np.maximum(1 - (2 * first - second), 0)
    return weights


def _relative(one: NDArray[np.float64], middle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Kullback-Leibler divergence in bits; middle is positive where one is."""
    ratio = np.divide(one, middle, out=np.ones_like(one), where=one > 0)
    divergence: NDArray[np.float64] = (one * np.log2(ratio)).sum(axis=1)
    return divergence
