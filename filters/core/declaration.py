"""What a filter is: a frozen pydantic model that reads columns and returns a judgement.

A filter lives in one module named after its recipe key. Its docstring, its fields' descriptions
and its `reads` are its documentation; nothing else in the project names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

Columns: TypeAlias = "dict[str, pa.Array]"
Numbers: TypeAlias = "NDArray[np.float32] | NDArray[np.float64] | NDArray[np.int64]"
Artefact: TypeAlias = "dict[str, Any]"
Accumulator: TypeAlias = "dict[str, NDArray[Any]]"
OnNull = Literal["quarantine", "drop", "keep"]


@dataclass(frozen=True)
class Judgement:
    """What one filter says of every row it was shown.

    Attributes:
        passes: (n,) bool, True where the rule holds; its value under `null` does not matter.
        null: (n,) bool, True where the rule could not be evaluated.
        value: what was compared with the bound; (n,) numbers, or n strings.
        bound: the bound in words, such as "at least 200".
        tags: name -> (n,) numbers that the ledger keeps whatever the verdict; NaN for none. They
            are those that the filter's `tags` declares.
    """

    passes: NDArray[np.bool_]
    null: NDArray[np.bool_]
    value: Numbers | pa.Array
    bound: str
    tags: Mapping[str, Numbers] = field(default_factory=dict)


class Filter(BaseModel):
    """A rule over columns. Subclass `RowFilter`, `FittedFilter` or `RelationalFilter`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    # The field that `- min_side_pixels: 200` fills; None where options must be named.
    shorthand: ClassVar[str | None] = None
    # The module of `transforms.relations` that compares the rows alive before this filter; the
    # columns it writes, row-aligned; and the options they depend on: others can change without
    # comparing again.
    relation: ClassVar[str | None] = None
    relation_reads: ClassVar[tuple[str, ...]] = ()
    relation_options: ClassVar[tuple[str, ...]] = ()
    # What every judgement says beside the vote: names of `filters.core.tags.TAGS`.
    tags: ClassVar[tuple[str, ...]] = ()
    # Options that came when decisions were stored already: at their defaults they don't count in
    # a decision's name, so that earlier decisions are found again.
    added_options: ClassVar[tuple[str, ...]] = ("only_tag",)

    only_tag: bool = Field(
        default=False, description="Vote and tag, but drop nothing: verdicts are as without this filter."
    )
    on_null: OnNull = Field(
        default="quarantine",
        description="Verdict of a row whose value is missing.",
    )

    def reads(self) -> tuple[str, ...]:
        """The signal columns that the rule needs."""
        raise NotImplementedError

    def embeddings(self) -> tuple[str, ...]:
        """The embeddings that the relation compares, such as clip_image."""
        return ()

    def measures(self) -> Mapping[str, Mapping[str, Any]]:
        """Measures that the rule brings with it: name -> options, as a recipe writes them."""
        return {}

    def check(self, types: dict[str, pa.DataType]) -> None:
        """Raises ValueError where a column that the rule reads has a type it can't judge."""

    def located(self, folder: Path) -> Self:  # noqa: ARG002  (most filters name no file)
        """The rule with relative paths of files made relative to the recipe's folder."""
        return self

    def identity(self) -> dict[str, Any]:
        """What its decision depends on, as JSON values: its options; of files their content."""
        return self.model_dump(mode="json")


class RowFilter(Filter):
    """A rule that needs the row's own columns only."""

    def judge(self, columns: Columns) -> Judgement:
        """The judgement of every row; pure, and each row independent of the others."""
        raise NotImplementedError


class FittedFilter(Filter):
    """A rule that first makes passes over the survivors' columns, then judges row by row.

    The artefact is a small JSON object. `start` makes it, each pass refines it with what
    `accumulate` counted, until `complete` holds. Accumulators are added up by `merge` in any
    order, so they hold integers only.
    """

    def population(self) -> Literal["survivors", "pool"]:
        """Which rows the fit sees: those still alive at this filter, or every row read."""
        return "survivors"

    def fit_reads(self) -> tuple[str, ...]:
        """The columns that the passes need."""
        return self.reads()

    def start(self) -> Artefact:
        """The artefact before the first pass."""
        raise NotImplementedError

    def start_on(self, pool_rows: int) -> Artefact:  # noqa: ARG002  (most fits need their population alone)
        """As `start`, told how many rows were read, failed ones and those dropped before included."""
        return self.start()

    def accumulate(self, artefact: Artefact, columns: Columns) -> Accumulator:
        """What one batch of the population contributes to this pass."""
        raise NotImplementedError

    def merge(self, left: Accumulator, right: Accumulator) -> Accumulator:
        """Both contributions as one; associative and commutative."""
        raise NotImplementedError

    def advance(self, artefact: Artefact, total: Accumulator | None) -> Artefact:
        """The artefact after a pass; `total` is None where the population is empty."""
        raise NotImplementedError

    def complete(self, artefact: Artefact) -> bool:
        """True when the artefact can judge."""
        return bool(artefact.get("complete"))

    def judge(self, columns: Columns, artefact: Artefact) -> Judgement:
        """The judgement of every row by the finished artefact."""
        raise NotImplementedError


class RelationalFilter(RowFilter):
    """A rule over columns that compare survivors; rows that were not compared are null."""

    relation: ClassVar[str]


def numbers(column: pa.Array) -> Numbers:
    """The column as numpy, nulls as NaN; zero-copy where there are none.

    float16 becomes float32: otherwise a bound would be rounded to float16 before it is compared.
    """
    if pa.types.is_float16(column.type):
        column = column.cast(pa.float32())
    elif column.null_count and not pa.types.is_floating(column.type):
        column = column.cast(pa.float64())
    result: Numbers = column.to_numpy(zero_copy_only=False)
    return result


def require_number(name: str, column_type: pa.DataType) -> None:
    """Raises ValueError unless the column holds numbers."""
    if not (pa.types.is_floating(column_type) or pa.types.is_integer(column_type)):
        msg = f"column {name!r} holds {column_type}, but this filter needs numbers"
        raise ValueError(msg)


def missing(values: Numbers) -> NDArray[np.bool_]:
    """True where a value is NaN."""
    if np.issubdtype(values.dtype, np.floating):
        result: NDArray[np.bool_] = np.isnan(values)
        return result
    return np.zeros(len(values), dtype=np.bool_)


def within(column: pa.Array, at_least: float | None, at_most: float | None) -> Judgement:
    """The judgement of a rule that asks for a value between two inclusive bounds.

    float32 columns are compared in float32, so that a stored 0.28 is at least 0.28.
    """
    values = numbers(column)
    null = missing(values)
    passes = ~null
    with np.errstate(invalid="ignore", over="ignore"):
        if at_least is not None:
            passes &= values >= at_least
        if at_most is not None:
            passes &= values <= at_most
    return Judgement(passes, null, values, bounds_in_words(at_least, at_most))


def check_bounds(at_least: float | None, at_most: float | None) -> None:
    """Raises ValueError where a rule has no bound, or bounds that nothing can meet."""
    if at_least is None and at_most is None:
        msg = "give at_least, at_most or both"
        raise ValueError(msg)
    if at_least is not None and at_most is not None and at_least > at_most:
        msg = f"at_least {at_least:.12g} is above at_most {at_most:.12g}: nothing would be kept"
        raise ValueError(msg)


def bounds_in_words(at_least: float | None, at_most: float | None) -> str:
    """The two bounds as a person would say them."""
    said = []
    if at_least is not None:
        said.append(f"at least {at_least:.12g}")
    if at_most is not None:
        said.append(f"at most {at_most:.12g}")
    return " and ".join(said) or "any"
