"""How far a picture lies from others of its class, relative to how far these lie from one another.

Ours, after the local outlier factor (Breunig et al. 2000) and kNN distances in deep features (Sun et
al. 2022, "Out-of-distribution detection with deep nearest neighbors"): with s the mean cosine of a
picture with its k nearest references of the class, itself left out, the score is (1 - s) / (1 - the
median of s over the class's references): 1 is typical, high is an outlier. The median's distance
counts as at least .001, which is near what half precision tells apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from filters.core.uids import uid_fraction, uid_places
from transforms.clustering import SHAPE_STEP, Floats, padded, round_up

CLASS_REFERENCES = 2000
LEAST_DISTANCE = 1e-3

Labels = NDArray[np.int64]
Uids = NDArray[np.uint64]


def class_references(labels: Labels, uids: Uids, seed: int, most: int = CLASS_REFERENCES) -> Labels:
    """The rows with the smallest hash of each class, at most so many, sorted by class, then hash.

    labels: (n,) int64, -1 for none; uids: (n, 2) uint64. Returns: (m,) int64 places.
    """
    order = np.lexsort((uids[:, 1], uids[:, 0], uid_fraction(uids, seed), labels))
    sorted_labels = labels[order]
    rank = np.arange(len(order)) - np.searchsorted(sorted_labels, sorted_labels)
    found: Labels = order[(sorted_labels >= 0) & (rank < most)].astype(np.int64)
    return found


@dataclass(frozen=True)
class ClassDensity:
    """References sorted by class, to compare with.

    Attributes:
        images: (m, d) float32 unit rows; labels: (m,) int64, ascending; uids: (m, 2) uint64.
        neighbours: how many are looked at (k).
    """

    images: Floats
    labels: Labels
    uids: Uids
    neighbours: int

    def medians(self, classes: int) -> NDArray[np.float64]:
        """(classes,) float64: the median of s over each class's references; NaN with fewer than two."""
        found = np.full(classes, np.nan)
        with _one_thread():
            for label in np.unique(self.labels).tolist():
                rows = self._of(label)
                likeness = self._likeness(label, self.images[rows], self.uids[rows])
                found[label] = np.nan if np.isnan(likeness).any() else np.median(likeness)
        return found

    def scores(
        self, images: Floats, labels: Labels, uids: Uids, medians: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """(n,) float32, at least 0; NaN without label, or where the class has no other reference.

        images: (n, d) float32 unit rows; labels: (n,) int64, -1 for none.
        """
        found = np.full(len(labels), np.nan, np.float32)
        with _one_thread():
            for label in np.unique(labels[labels >= 0]).tolist():
                if np.isfinite(medians[label]):
                    rows = np.flatnonzero(labels == label)
                    distance = 1 - self._likeness(label, images[rows], uids[rows])
                    found[rows] = np.maximum(distance, 0) / max(1 - medians[label], LEAST_DISTANCE)
        return found

    def _of(self, label: int) -> slice:
        """Where a class's references stand."""
        first, last = np.searchsorted(self.labels, [label, label + 1]).tolist()
        return slice(first, last)

    def _likeness(self, label: int, images: Floats, uids: Uids) -> NDArray[np.float64]:
        """The mean cosine with the nearest references of a class: (n,); NaN where there is no other."""
        theirs = self._of(label)
        count = theirs.stop - theirs.start
        own = uid_places(uids, self.uids[theirs])
        known = padded(self.images[theirs], round_up(count))
        found = np.full(len(images), np.nan)
        # Few rows of a class come at once, so blocks are small; of one shape, as `clustering` says why.
        for start in range(0, len(images), SHAPE_STEP):
            rows = slice(start, min(start + SHAPE_STEP, len(images)))
            products = (padded(images[rows], SHAPE_STEP) @ known.T)[: rows.stop - start, :count]
            itself = np.flatnonzero(own[rows] >= 0)
            products[itself, own[rows][itself]] = -np.inf
            found[rows] = _mean_of_greatest(products, self.neighbours)
        return found


def _one_thread() -> threadpool_limits:
    """The products are so small that a second thread costs more in waiting than it does in work."""
    return threadpool_limits(1, user_api="blas")


def _mean_of_greatest(products: Floats, wanted: int) -> NDArray[np.float64]:
    """The mean of each line's greatest cosines, -inf for none: (n,); NaN where there is none."""
    last = products.shape[1]
    wanted = min(wanted, last)
    greatest = np.sort(
        np.partition(products, last - wanted, axis=1)[:, last - wanted :] if wanted else products
    )
    there = np.isfinite(greatest)
    many = there.sum(axis=1)
    total = np.clip(greatest, -1, 1).sum(axis=1, where=there, dtype=np.float64)
    return np.where(many > 0, total / np.maximum(many, 1), np.nan)
