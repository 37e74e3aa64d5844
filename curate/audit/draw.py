"""Which samples a person looks at: a stratified random draw with known probabilities.

Strata are what was decided (kept, or stopped by which filter and how), whether the filter's value
lies near its bound, and whether the sample is of a rare cluster. Within a stratum every sample has
the same probability, rows drawn / rows there: a simple random sample (Cochran 1977, "Sampling
Techniques", chapters 2 and 5), taken as the smallest of random numbers that a hash gives.

Pure functions over columns; `curate.audit.frame` reads them from a store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from filters.core.errors import QueryError
from filters.core.uids import uid_fraction

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]
Group: TypeAlias = tuple[str, str]  # the filter that stopped samples, "" for none, and their verdict

LEAST = 2  # drawn of each stratum that has so many; fewer tell nothing of its spread
BORDERLINE_WEIGHT = 2.0
RARE_BIT, BORDERLINE_BIT = 1, 2
FLAGS = 4  # codes of a group: its number x 4 + the two bits
# What is given up, in this order, where the budget is too small for all strata.
_GIVEN_UP = (0, RARE_BIT, RARE_BIT | BORDERLINE_BIT)
_CANDIDATE = np.dtype([("order", "f8"), ("part", "i8"), ("row", "i8")])


@dataclass(frozen=True)
class Stratum:
    """Samples that are drawn with one probability.

    Attributes:
        dropped_by: the filter that stopped them; empty for kept ones.
        rows: how many there are; drawn: how many of them are looked at.
    """

    dropped_by: str
    verdict: str
    borderline: bool
    rare: bool
    rows: int
    drawn: int

    @property
    def name(self) -> str:
        """What it holds, in words: "drop by min_entropy, borderline, rare cluster"."""
        said = [f"{self.verdict} by {self.dropped_by}" if self.dropped_by else self.verdict]
        said += ["borderline"] * self.borderline + ["rare cluster"] * self.rare
        return ", ".join(said)

    @property
    def probability(self) -> float:
        """Of each of its samples to be drawn, in (0, 1]."""
        return self.drawn / self.rows


@dataclass(frozen=True)
class Drawn:
    """One drawn row of the pool; part: the number of its shard."""

    stratum: Stratum
    part: int
    row: int


class Candidates:
    """How many samples each stratum has, and its `budget` first in a random order.

    What is added may come in any order and number of pieces: the result is the same. Holds at most
    `budget` rows for each stratum, however large the pool.
    """

    def __init__(self, groups: Sequence[Group], budget: int, seed: int) -> None:
        self.groups = tuple(groups)
        self.budget = budget
        self.rows: Integers = np.zeros(FLAGS * len(groups), np.int64)
        self._seed = seed
        self._first: dict[int, NDArray[Any]] = {}

    def add(self, codes: Integers, uids: NDArray[np.uint64], part: int, rows: Integers) -> None:
        """Counts rows of one part, and keeps those that may be drawn.

        codes: (n,) int64, number of the group x 4 + BORDERLINE_BIT + RARE_BIT; uids: (n, 2) uint64;
        rows: (n,) int64, each row's place in the part.
        """
        self.rows += np.bincount(codes, minlength=len(self.rows))
        # Copies of one content have one uid; their place is mixed in, so that each has its own chance.
        mixed = uids.copy()
        mixed[:, 1] ^= (np.uint64(part) << np.uint64(32)) | rows.astype(np.uint64)
        found = np.empty(len(codes), _CANDIDATE)
        found["order"], found["part"], found["row"] = uid_fraction(mixed, self._seed), part, rows
        for code in np.unique(codes):
            self._first[int(code)] = self._smallest(int(code), found[codes == code])

    def first(self, codes: Sequence[int]) -> NDArray[Any]:
        """The `budget` first candidates of these strata together: `order`, `part` and `row` of each."""
        found = [self._first[code] for code in codes if code in self._first]
        return _in_order(np.concatenate(found))[: self.budget]

    def _smallest(self, code: int, found: NDArray[Any]) -> NDArray[Any]:
        if len(found) > self.budget:
            last = np.partition(found["order"], self.budget - 1)[self.budget - 1]
            found = found[found["order"] <= last]
        if code in self._first:
            found = np.concatenate([self._first[code], found])
        return _in_order(found)[: self.budget]


def draw(candidates: Candidates) -> list[Drawn]:
    """The drawn rows, in the order in which they are looked at.

    Every stratum with rows has at least 2 (or all it has); of the rest a stratum gets a share by the
    square root of its size, between equal numbers, best for the filters, and equal probabilities,
    best for the whole (Bankier 1988, "Power allocations", The American Statistician 42), and a
    borderline one twice as much. Rare clusters, then borderline strata are given up where the budget
    can't cover them. Whoever stops early has seen about the same share of every stratum, each at
    least once if so many were seen, the borderline ones before the others.

    Raises: QueryError where no row can be drawn, or the budget is too small for what was decided.
    """
    strata, members = _strata(candidates)
    sizes = np.array([stratum.rows for stratum in strata], np.int64)
    weights = np.sqrt(sizes) * [BORDERLINE_WEIGHT if stratum.borderline else 1.0 for stratum in strata]
    counts = allocate(sizes, weights, candidates.budget)
    found = []
    for number, (stratum, codes, count) in enumerate(zip(strata, members, counts, strict=True)):
        drawn = replace(stratum, drawn=int(count))
        for place, one in enumerate(candidates.first(codes)[:count]):
            key = (place / int(count), not stratum.borderline, float(one["order"]), number)
            found.append((key, Drawn(drawn, int(one["part"]), int(one["row"]))))
    return [drawn for _, drawn in sorted(found, key=lambda item: item[0])]


def allocate(sizes: Integers, weights: Floats, budget: int) -> Integers:
    """How many to draw of each stratum: (S,) int64, at most its size, together at most the budget.

    Each has 2 or all it has; then one after the other goes where weight / (drawn + 1) is greatest
    (D'Hondt's rule), the first of equals. sizes: (S,) int64; weights: (S,) float64 > 0.
    """
    drawn = np.minimum(sizes, LEAST)
    for _ in range(min(budget, int(sizes.sum())) - int(drawn.sum())):
        drawn[np.argmax(np.where(drawn < sizes, weights / (drawn + 1), -1.0))] += 1
    return drawn


def _strata(candidates: Candidates) -> tuple[list[Stratum], list[list[int]]]:
    """The finest strata that the budget covers, and the codes that each is made of."""
    if not candidates.rows.any():
        msg = "there is no sample to look at: every one of the pool failed, or it has none"
        raise QueryError(msg)
    codes = np.arange(len(candidates.rows))
    for given_up in _GIVEN_UP:
        merged = codes & ~given_up
        sizes = np.bincount(merged, weights=candidates.rows, minlength=len(codes)).astype(np.int64)
        needed = int(np.minimum(sizes, LEAST).sum())
        if needed <= candidates.budget:
            present = [int(code) for code in np.flatnonzero(sizes)]
            strata = [_stratum(candidates, code, int(sizes[code])) for code in present]
            return strata, [np.flatnonzero(merged == code).tolist() for code in present]
    msg = (
        f"a budget of {candidates.budget} is too small: it takes {needed} to look at {LEAST} samples of "
        f"each of {np.count_nonzero(sizes)} kinds (kept, and stopped by each filter); raise --budget"
    )
    raise QueryError(msg)


def _stratum(candidates: Candidates, code: int, rows: int) -> Stratum:
    dropped_by, verdict = candidates.groups[code // FLAGS]
    return Stratum(dropped_by, verdict, bool(code & BORDERLINE_BIT), bool(code & RARE_BIT), rows, 0)


def _in_order(found: NDArray[Any]) -> NDArray[Any]:
    return found[np.lexsort((found["row"], found["part"], found["order"]))]
