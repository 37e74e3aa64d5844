"""How many samples Density-Based Pruning keeps of each cluster.

Abbas et al. 2024, "Effective pruning of web-scale datasets based on complexity of concept
clusters". A cluster is complex when its members lie far from its centroid and its centroid far from
its neighbours; complex clusters keep more. What we do differently: the quadratic programme that
fits the targets to the clusters' sizes is solved in closed form, and the quotas are integers
that sum to exactly the number wanted; the original's solver and rounding miss it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from filters.core.errors import InvariantBroken

DISTANCE_UNIT = 2.0**-30  # distances are summed as integers, so that no order of rows shows
_CELLS_AT_ONCE = 2**24

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


def distance_sums(cosine: NDArray[np.float32], cluster: NDArray[np.int32], clusters: int) -> Counts:
    """The sum of the distances 1 - cosine of each cluster's members, in units of 2^-30.

    Sums of parts add up to the sum of the whole, bit for bit, in any order.

    cosine: (n,) float32 to the own centroid, finite; cluster: (n,) int32 in [0, clusters).
    Returns: (clusters,) int64, at least 0.
    """
    distances = np.maximum(1.0 - cosine.astype(np.float64), 0.0)
    sums = np.zeros(clusters, dtype=np.int64)
    np.add.at(sums, cluster, np.round(distances / DISTANCE_UNIT).astype(np.int64))
    return sums


def intra_distances(sums: Counts, sizes: Counts) -> Floats:
    """The mean distance of each cluster's members to its centroid (d_intra).

    sums: (k,) int64 from `distance_sums`; sizes: (k,) int64 numbers of members.
    Returns: (k,) float64 in [0, 2]; NaN for an empty cluster.
    """
    means = np.full(len(sizes), np.nan)
    np.divide(sums * DISTANCE_UNIT, sizes, out=means, where=sizes > 0)
    return means


def inter_distances(centroids: NDArray[np.float32], neighbours: int = 20) -> Floats:
    """The mean distance 1 - cosine of each centroid to its nearest other centroids (d_inter).

    A centroid leaves itself out by its id, not as its first neighbour, because an identical one may
    come first. Takes k^2 d multiply-adds, and memory for 2^24 products.

    centroids: (k, d) float32 unit rows; neighbours: at least 1; k - 1 where there are fewer.
    Returns: (k,) float64 in [0, 2]; 0 where there is no other centroid.
    Raises: ValueError where a centroid is not finite or neighbours is below 1.
    """
    if neighbours < 1 or not np.isfinite(centroids).all():
        msg = f"d_inter needs finite centroids and at least 1 neighbour, not {neighbours}"
        raise ValueError(msg)
    count = len(centroids)
    nearest = min(neighbours, count - 1)
    distances = np.zeros(count)
    if nearest < 1:
        return distances
    step = max(_CELLS_AT_ONCE // count, 1)
    for start in range(0, count, step):
        cosine = centroids[start : start + step] @ centroids.T
        lines = np.arange(len(cosine))
        cosine[lines, start + lines] = -np.inf
        # Sorted, so that the sum does not depend on how the partition left them.
        best = np.sort(np.partition(cosine, count - nearest, axis=1)[:, count - nearest :], axis=1)
        distances[start : start + step] = np.maximum(1.0 - best.astype(np.float64), 0.0).mean(axis=1)
    return distances


def complexities(intra: Floats, inter: Floats) -> Floats:
    """C_j = d_inter(j) d_intra(j), each taken as at least 0; NaN where one of them is NaN.

    intra, inter: (k,) float64. Returns: (k,) float64.
    """
    return np.maximum(intra, 0.0) * np.maximum(inter, 0.0)


def quotas(
    complexity: Floats, sizes: Counts, total: int, *, temperature: float, balance: float = 0.0
) -> Counts:
    """How many samples each cluster keeps; they sum to exactly `total`.

    Targets are softmax(complexity / temperature) x total over the clusters that have members. The
    quotas are nearest to them, in squares, between the bounds: at most the size, at least
    min(m, size - 1) with m = 1, or with a balance m = floor(total / k x balance). What a full
    cluster can't take goes to the others in equal parts, not in proportion. Rounded by largest
    remainder, equal ones to the lowest id. Where the lower bounds exceed `total`, the largest of
    them are lowered to one level.

    complexity: (k,) float64; what is not finite counts as the mean of the finite ones.
    sizes: (k,) int64, at least 0. balance: in [0, 1].
    Returns: (k,) int64 in [0, sizes]; 0 for an empty cluster.
    Raises: ValueError where total is negative or more than there are, or an option out of range.
    """
    available = int(sizes.sum())
    if not 0 <= total <= available:
        msg = f"{total} samples can't be kept: the clusters hold {available}; keep between 0 and all of them"
        raise ValueError(msg)
    if not (temperature > 0 and 0 <= balance <= 1):
        msg = f"temperature must be above 0 and balance in [0, 1], but they are {temperature} and {balance}"
        raise ValueError(msg)
    kept = np.zeros(len(sizes), dtype=np.int64)
    filled = sizes > 0
    if not filled.any():
        return kept
    least = int(total / len(sizes) * balance) if balance else 1
    upper = sizes[filled]
    lower = _fitting(np.minimum(least, upper - 1), total)
    targets = _softmax(complexity[filled], temperature) * total
    kept[filled] = _whole(bounded(targets, lower, upper, total), upper, total)
    return kept


def bounded(targets: Floats, lower: Counts, upper: Counts, total: int) -> Floats:
    """clip(targets + shift, lower, upper), with the one shift for which they sum to total.

    The exact minimum of sum (x - target)^2 with that sum between the bounds. The sum rises with the
    shift in straight pieces that bend where a cluster leaves its lower or reaches its upper bound.
    O(k log k).

    targets: (k,) float64; lower <= upper: (k,) int64, with sum(lower) <= total <= sum(upper); k at
    least 1.
    Returns: (k,) float64.
    """
    rises, stops = lower - targets, upper - targets
    bends = np.concatenate([rises, stops])
    order = np.argsort(bends, kind="stable")
    bends = bends[order]
    slopes = np.cumsum(np.where(order < len(targets), 1, -1))
    sums = int(lower.sum()) + np.concatenate([[0.0], np.cumsum(slopes[:-1] * np.diff(bends))])
    after = min(max(int(np.searchsorted(sums, total)), 1), len(bends) - 1)
    free = (rises <= bends[after - 1]) & (stops >= bends[after]) & (lower < upper)
    if free.any():
        full = ~free & (stops <= bends[after - 1])
        fixed = int(upper[full].sum()) + int(lower[~free & ~full].sum())
        # From the clusters themselves, because the running sums have gathered rounding errors.
        shift = (total - fixed - float(targets[free].sum())) / int(free.sum())
    else:
        shift = float(bends[after])
    return np.clip(targets + shift, lower, upper)


def _softmax(complexity: Floats, temperature: float) -> Floats:
    finite = np.isfinite(complexity)
    middle = float(complexity[finite].mean()) if finite.any() else 0.0
    known = np.where(finite, complexity, middle)
    weights = np.exp((known - known.max()) / temperature)
    share: Floats = weights / weights.sum()
    return share


def _fitting(lower: Counts, total: int) -> Counts:
    """The lower bounds, cut at the highest level at which they sum to at most total."""
    if int(lower.sum()) <= total:
        return lower
    ascending = np.sort(lower)
    below = np.concatenate([[0], np.cumsum(ascending)[:-1]])
    above = np.arange(len(lower), 0, -1)
    # Cut at the i-th smallest bound, they sum to below[i] + above[i] x bound; the first that is too
    # much lies above the level.
    first = int(np.argmax(below + above * ascending > total))
    return np.minimum(lower, (total - int(below[first])) // int(above[first]))


def _whole(values: Floats, upper: Counts, total: int) -> Counts:
    """Integers by largest remainder: at most upper, summing to total; equal remainders to the lowest id."""
    kept = np.minimum(np.floor(values + 1e-9).astype(np.int64), upper)
    spare = np.flatnonzero(kept < upper)
    # Rounded, so that noise in the last bits breaks no tie.
    remainders = np.round((values - kept)[spare], 9)
    missing = max(total - int(kept.sum()), 0)
    kept[spare[np.argsort(-remainders, kind="stable")[:missing]]] += 1
    if int(kept.sum()) != total:
        msg = f"quotas sum to {int(kept.sum())} instead of {total}: a fault of ours"
        raise InvariantBroken(msg)
    return kept
