"""Tag samples with how well image and caption agree, in a few equal steps that the pool sets."""

from __future__ import annotations

from fractions import Fraction
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from filters.core import selection
from filters.core.declaration import (
    Accumulator,
    Artefact,
    Columns,
    FittedFilter,
    Judgement,
    OnNull,
    missing,
    numbers,
    require_number,
)
from filters.core.levels import Levels, equal_width

ENDS = ("low", "high")


class AlignmentLevels(FittedFilter):
    """Keep every sample, tagged with the step of its score: `alignment_level`, higher agrees better.

    Noise-aware captioning (NoC, Kang et al. 2023, arXiv 2212.13563) conditions a captioner on how
    well image and caption agree instead of dropping what agrees less: eight levels of equal width
    between the lowest and the highest cosine. Here the ends are percentiles of the pool, exact and
    frozen with the decision, so that one outlier does not shift every level; what lies beyond them
    has level 0 or the last one. `outside: 0` takes the extremes as published.

    The level stands in the ledger and in the json of kept samples. A missing score has none, where
    the original gives NaN the highest; and where the scores are all equal no sample has one, with
    the reason as the bound. A score on an edge belongs to the upper level, compared as float32. For
    published edges, or edges of your own, use the measure `alignment_level`.
    """

    shorthand: ClassVar[str] = "levels"
    tags: ClassVar[tuple[str, ...]] = ("alignment_level",)

    levels: int = Field(default=8, ge=2, le=127, description="How many steps.")
    by: str = Field(
        default="clip_cosine", description="The signal column, greater where image and caption match."
    )
    outside: float = Field(
        default=0.001, ge=0, lt=0.5, description="Share of the scores below the lowest edge, and above."
    )
    of: Literal["survivors", "pool"] = Field(
        default="pool",
        description="Place the edges by the samples that reached this filter, or by every sample read.",
    )
    only_tag: Literal[True] = Field(default=True, description="Always: this filter drops nothing.")
    on_null: OnNull = Field(default="keep", description="Without effect: a sample without a level stays.")

    def population(self) -> Literal["survivors", "pool"]:
        return self.of

    def reads(self) -> tuple[str, ...]:
        return (self.by,)

    def check(self, types: dict[str, pa.DataType]) -> None:
        require_number(self.by, types[self.by])

    def start(self) -> Artefact:
        return {"complete": False, **{end: {"prefix": []} for end in ENDS}}

    def accumulate(self, artefact: Artefact, columns: Columns) -> Accumulator:
        scores = _float32(columns[self.by])
        finite = np.isfinite(scores)
        keys = selection.order_keys(scores)[finite]
        sizes = [len(scores), np.count_nonzero(~missing(scores)), len(keys)]
        counts = {end: selection.count_digit(artefact[end]["prefix"], keys, None) for end in ENDS}
        return {"sizes": np.array(sizes, np.int64), **counts}

    def merge(self, left: Accumulator, right: Accumulator) -> Accumulator:
        return {name: left[name] + right[name] for name in left}

    def advance(self, artefact: Artefact, total: Accumulator | None) -> Artefact:
        rows, scored, finite = (0, 0, 0) if total is None else (int(size) for size in total["sizes"])
        found = {**artefact, "rows": rows, "scored": scored}
        if total is None or finite == 0:
            return self._ended(found, None, None)
        beyond = int(Fraction(str(self.outside)) * finite)
        wanted = {"low": finite - beyond, "high": beyond + 1}
        for end in ENDS:
            chosen = artefact[end] if artefact[end]["prefix"] else selection.begin(wanted[end])
            found[end] = selection.fix_digit(chosen, total[end])
        if len(found["low"]["prefix"]) < selection.SCORE_DIGITS:
            return found
        low, high = (selection.bound_score(found[end]) for end in ENDS)
        return self._ended(found, low, high)

    def _ended(self, artefact: Artefact, low: float | None, high: float | None) -> Artefact:
        """The artefact with its edges, or with the reason why there are none."""
        reason, edges = None, None
        if low is None or high is None:
            reason = "no sample has a finite score"
        elif low == high:
            reason = "the scores are all equal, or nearly"
        else:
            edges = list(equal_width(low, high, self.levels).edges)
        kept = {name: artefact[name] for name in ("rows", "scored")}
        return {"complete": True, **kept, "low": low, "high": high, "edges": edges, "reason": reason}

    def judge(self, columns: Columns, artefact: Artefact) -> Judgement:
        scores = _float32(columns[self.by])
        levels = np.full(len(scores), np.nan)
        words = f"no levels of {self.by}: {artefact['reason']}"
        if artefact["edges"] is not None:
            levels = numbers(Levels(tuple(artefact["edges"])).of(scores).cast(pa.float64()))
            ends = f"from {artefact['low']:.4g} to {artefact['high']:.4g}"
            words = f"{self.levels} levels of {self.by} {ends}"
        null = np.isnan(levels)
        return Judgement(~null, null, levels, words, {"alignment_level": levels})


def _float32(column: pa.Array) -> NDArray[np.float32]:
    """The scores as float32, in which they are ranked and compared; NaN where there is none."""
    values = numbers(column)
    with np.errstate(over="ignore"):
        return np.where(missing(values), np.nan, values).astype(np.float32)
