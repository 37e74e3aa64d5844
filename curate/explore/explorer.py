"""Fast answers about one decision: which samples meet conditions, counted, sorted and read.

Columns are held in memory as numpy arrays, so that an answer over ten million rows takes a fraction
of a second; texts are read from the store for the rows that are shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.explain import stored_steps
from curate.explore.columns import Columns, Labels
from curate.explore.conditions import Condition
from curate.explore.histograms import Binned, binned
from curate.explore.order import first_sorted, nth_rows
from curate.explore.rows import RowReader
from curate.query import Decision
from filters.core.decide import Step
from filters.core.errors import QueryError

Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]

MOST_PAGE = 1000


@dataclass(frozen=True)
class Histogram:
    """How a column's values are spread.

    Attributes:
        edges: (bins + 1,) float64; counts: (bins,) int64 of the rows that meet the conditions;
        missing: of these without a value; whole: (bins,) int64 of all rows.
    """

    column: str
    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    missing: int
    whole: NDArray[np.int64]


class Explorer:
    """One decision, opened for looking around; safe to use from several threads."""

    def __init__(self, decision: Decision, most_bytes: int | None = None) -> None:
        self.decision = decision
        self.columns = Columns(decision) if most_bytes is None else Columns(decision, most_bytes)
        self.reader = RowReader(self.columns)

    @property
    def rows(self) -> int:
        """All rows of the decision."""
        return self.columns.rows

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """The filters of the decision, ready to judge."""
        return stored_steps(self.decision.manifest)

    # --- which rows

    def mask(self, conditions: Iterable[Condition], *, without: str | None = None) -> Mask | None:
        """The rows that meet all conditions: (n,) bool; None where there is no condition.

        without: a column whose own conditions are left out, as for its histogram.
        Raises: QueryError for an unknown column, or a condition that does not fit its type.
        """
        found: Mask | None = None
        for condition in conditions:
            if condition.column != without:
                one = self._met(condition)
                found = one if found is None else found & one
        return found

    def _met(self, condition: Condition) -> Mask:
        return self.columns.mask(condition.model_dump_json(), lambda: self._compared(condition))

    def _compared(self, condition: Condition) -> Mask:
        name = condition.column
        if condition.missing is not None:
            missing = self._missing(name)
            return missing if condition.missing else ~missing
        if condition.one_of is not None:
            labels = self.columns.categories(name)
            wanted = [code for code, label in enumerate(labels.labels) if label in condition.one_of]
            found: Mask = np.isin(labels.codes, np.array(wanted, labels.codes.dtype), kind="table")
            return found
        values = self.columns.numbers(name)
        # Scalars take the column's precision, as they do where filters compare.
        inside = [] if condition.at_least is None else [values >= condition.at_least]
        inside += [] if condition.at_most is None else [values <= condition.at_most]
        return inside[0] if len(inside) == 1 else inside[0] & inside[1]

    def _missing(self, name: str) -> Mask:
        if self.columns.place(name).kind == "number":
            return np.isnan(self.columns.numbers(name))
        missing: Mask = self.columns.categories(name).codes < 0
        return missing

    def matching(self, mask: Mask | None) -> int:
        """How many rows a mask holds."""
        return self.rows if mask is None else int(np.count_nonzero(mask))

    # --- counted

    def histogram(self, column: str, conditions: Iterable[Condition] = ()) -> Histogram:
        """The histogram of a column over the rows that meet the conditions on the other columns."""
        bins = self.binned(column)
        mask = self.mask(conditions, without=column)
        whole, missing = self.columns.held(("counts", column), lambda: bins.count(None))
        counts = whole
        if mask is not None:
            counts, missing = bins.count(mask)
        return Histogram(column, bins.edges, counts, missing, whole)

    def binned(self, column: str) -> Binned:
        """The column in bins."""
        return self.columns.held(("bins", column), lambda: binned(self.columns.numbers(column)))

    def facets(
        self, column: str, conditions: Iterable[Condition] = (), most: int = 50
    ) -> list[tuple[str, int, int]]:
        """The most frequent texts of a column: text, rows that meet the conditions, all rows."""
        labels = self.columns.categories(column)
        counts = count_labels(labels, self.mask(conditions, without=column))
        whole = count_labels(labels, None)
        order = np.lexsort((np.arange(len(whole)), -whole, -counts))[:most]
        return [(labels.labels[at], int(counts[at]), int(whole[at])) for at in order]

    # --- read

    def page(
        self,
        conditions: Iterable[Condition] = (),
        *,
        sort: str | None = None,
        descending: bool = False,
        offset: int = 0,
        limit: int = 50,
    ) -> tuple[int, Rows]:
        """Which rows stand on a page, and how many meet the conditions in all.

        sort: a column of numbers; rows without a value come last, equal ones in the pool's order.
        Returns: how many match, and (at most limit,) int64 row numbers.
        """
        if offset < 0 or not 0 <= limit <= MOST_PAGE:
            msg = f"a page has 0 to {MOST_PAGE} rows from an offset of 0 or more, not {limit} from {offset}"
            raise QueryError(msg)
        mask = self.mask(conditions)
        matching = self.matching(mask)
        end = min(offset + limit, matching)
        if offset >= end:
            return matching, np.empty(0, np.int64)
        if sort is None:
            return matching, nth_rows(mask, offset, end)
        rows = first_sorted(self.columns.numbers(sort), mask, end, descending=descending)
        return matching, rows[offset:]

    def find(self, name: str) -> list[int]:
        """The rows with this uid or key, in the pool's order; empty where there is none."""
        return self.reader.find(name)

    def read(self, rows: Sequence[int] | Rows) -> list[dict[str, Any]]:
        """The samples of some rows: what a list shows of them."""
        return self.reader.read(rows)


def count_labels(labels: Labels, mask: Mask | None) -> NDArray[np.int64]:
    """Rows of each label: (labels,) int64; rows without one are not counted."""
    codes = labels.codes if mask is None else labels.codes[mask]
    counted = np.bincount(codes.astype(np.int64) + 1, minlength=len(labels.labels) + 1)
    return counted[1:].astype(np.int64)
