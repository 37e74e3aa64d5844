"""Which labels of a whole pool are issues, found part by part: `find_issues` of confident learning.

`filters.core.confident` says how many rows of each cell are taken: a cell is a given label and
another class, or on the diagonal a given label alone. Here each part names the lowest rows of each
cell, the lists are cut to as many as the joint says, and the last one of each cell is its bound:
uids break ties, so nothing depends on parts or their order. Copies with one uid are judged alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from filters.core.confident import Counts, Labels, Mask, Probabilities, Rule, leaving_one

Records: TypeAlias = NDArray[np.void]
# cell: given x classes + other; value: what is lowest first.
RECORD = np.dtype([("cell", "<i4"), ("value", "<f8"), ("uid", "<u8", (2,))])


def quotas(joint: Counts, rule: Rule) -> Counts:
    """How many rows of each cell are taken; (K, K) int64, zeros for `confident_learning`.

    joint: (K, K) int64 from `calibrated_joint`. The diagonal is for `prune_by_class`: the lowest
    self-confidences of a label, as many as the joint counts as other classes.
    """
    found = leaving_one(joint)
    others = found.sum(axis=1) - found.diagonal()
    if rule in ("prune_by_class", "confident_learning"):
        found[:] = 0
    np.fill_diagonal(found, others if rule in ("prune_by_class", "both") else 0)
    return found


def candidates(
    labels: Labels, probabilities: Probabilities, uids: NDArray[np.uint64], wanted: Counts
) -> Records:
    """The rows of a part that may be taken, as many of each cell as are wanted in all.

    labels: (n,) -1 for none; uids: (n, 2) uint64; wanted: (K, K) from `quotas`.
    """
    found = [np.zeros(0, RECORD)]
    for given in np.unique(labels[labels >= 0]):
        rows, cells = np.flatnonzero(labels == given), np.flatnonzero(wanted[given])
        values = _values(probabilities[rows], int(given))[:, cells]
        last = np.minimum(wanted[given, cells], len(rows)) - 1
        row, cell = np.nonzero(values <= np.sort(values, axis=0)[last, np.arange(len(cells))])
        records = np.zeros(len(row), RECORD)
        records["cell"] = int(given) * len(wanted) + cells[cell]
        records["value"], records["uid"] = values[row, cell], uids[rows[row]]
        found.append(records)
    return lowest(np.concatenate(found), wanted)


def lowest(records: Records, wanted: Counts) -> Records:
    """As many records of each cell as are wanted, in the order of cell, value and uid."""
    uid = records["uid"]
    ordered = records[np.lexsort((uid[:, 1], uid[:, 0], records["value"], records["cell"]))]
    rank = np.arange(len(ordered)) - np.searchsorted(ordered["cell"], ordered["cell"])
    taken: Records = ordered[rank < wanted.ravel()[ordered["cell"]]]
    return taken


@dataclass(frozen=True)
class Bounds:
    """The last row of each cell that is taken.

    Attributes:
        values: (K, K) float64, minus infinity where none is; uids: (K, K, 2) uint64.
    """

    values: NDArray[np.float64]
    uids: NDArray[np.uint64]

    @classmethod
    def of(cls, records: Records, classes: int) -> Bounds:
        """The bounds of what `lowest` took of the whole pool; also of some cells alone."""
        values = np.full(classes * classes, -np.inf)
        uids = np.zeros((classes * classes, 2), np.uint64)
        last = np.flatnonzero(np.diff(records["cell"], append=-1))
        values[records["cell"][last]] = records["value"][last]
        uids[records["cell"][last]] = records["uid"][last]
        return cls(values.reshape(classes, classes), uids.reshape(classes, classes, 2))

    def taken(self, labels: Labels, probabilities: Probabilities, uids: NDArray[np.uint64]) -> Mask:
        """The rows within the bound of the label's own cell, and those within that of any other.

        Returns: (2, n) bool: by class and by cell; False without a label.
        """
        found = np.zeros((2, len(labels)), np.bool_)
        for given in np.unique(labels[labels >= 0]):
            rows = np.flatnonzero(labels == given)
            values, bound = _values(probabilities[rows], int(given)), self.values[given]
            below = values < bound
            high, low = (uids[rows, word][:, None] for word in (0, 1))
            last_high, last_low = self.uids[given].T
            below |= (values == bound) & ((high < last_high) | ((high == last_high) & (low <= last_low)))
            found[0, rows] = below[:, given]
            below[:, given] = False
            found[1, rows] = below.any(axis=1)
        return found


def issues(  # noqa: PLR0913  (what decides: the row, and the rule)
    labels: Labels,
    probabilities: Probabilities,
    uids: NDArray[np.uint64],
    *,
    rule: Rule,
    confident: NDArray[np.int32],
    bounds: Bounds,
) -> Mask:
    """The rows of a part whose label is probably wrong: those of `find_issues` over the whole pool.

    confident: (n,) int32 from `confident_classes`. Returns: (n,) bool; False without a label.
    """
    other = (labels >= 0) & (np.argmax(probabilities, axis=1) != labels)
    if rule == "confident_learning":
        counted: Mask = other & (confident >= 0) & (confident != labels)
        return counted
    by_class, by_cell = bounds.taken(labels, probabilities, uids)
    chosen = {"prune_by_class": by_class, "prune_by_noise_rate": by_cell, "both": by_class & by_cell}[rule]
    return np.asarray(other & chosen)


def _values(probabilities: Probabilities, given: int) -> NDArray[np.float64]:
    """What is low where the label is suspicious: its probability, and its lead over each other class."""
    own = probabilities[:, given].astype(np.float64)
    values: NDArray[np.float64] = own[:, None] - probabilities
    values[:, given] = own
    return values
