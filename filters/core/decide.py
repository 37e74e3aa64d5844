"""The decision: every row's verdict from its columns and an ordered list of filters.

Pure functions over Arrow columns; `transforms` reads the columns, fits what must be fitted and
writes the ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from filters.core.declaration import (
    Artefact,
    Columns,
    Filter,
    FittedFilter,
    Judgement,
    RelationalFilter,
    RowFilter,
)

Verdict = Literal["keep", "drop", "quarantine", "failed"]
VERDICTS: tuple[Verdict, ...] = ("keep", "drop", "quarantine", "failed")
# A struct needs a field to be stored; a recipe without filters has no votes.
NO_VOTES = pa.struct([("none", pa.bool_())])
_KEEP, _DROP, _QUARANTINE, _FAILED = range(4)


@dataclass(frozen=True)
class Step:
    """One filter of a recipe, at its place.

    Attributes:
        name: unique in the recipe; the filter's name, or the name the recipe gives it.
        rule: the filter.
        artefact: what a fitted filter judges with; None for the others.
    """

    name: str
    rule: Filter
    artefact: Artefact | None = None

    def column(self, relation_column: str) -> str:
        """The name under which a relation's column for this step stands among the columns."""
        return f"{self.name}/{relation_column}"

    def judge(self, columns: Columns) -> Judgement:
        """What the filter says of every row; columns hold its `reads` and relation columns."""
        if isinstance(self.rule, FittedFilter):
            if self.artefact is None:
                msg = f"filter {self.name} is not fitted yet"
                raise ValueError(msg)
            return self.rule.judge(columns, self.artefact)
        if isinstance(self.rule, RelationalFilter):
            plain = {name: columns[self.column(name)] for name in self.rule.relation_reads}
            return self.rule.judge({**columns, **plain})
        return cast("RowFilter", self.rule).judge(columns)


def columns_read(steps: Sequence[Step]) -> list[str]:
    """The signal columns that the steps need to judge, sorted, without relation columns."""
    return sorted({name for step in steps for name in step.rule.reads()})


def survivors(columns: Columns, steps: Sequence[Step]) -> NDArray[np.bool_]:
    """True for the rows that pass every step; columns must hold `failure`."""
    alive = _readable(columns)
    for step in steps:
        judgement = step.judge(columns)
        stays = judgement.passes & ~judgement.null
        if step.rule.on_null == "keep":
            stays |= judgement.null
        alive &= stays
    return alive


def decide(columns: Columns, steps: Sequence[Step]) -> pa.Table:
    """The ledger: one row for each input row, in the same order.

    columns: `uid`, `failure` and everything that the steps read.
    Returns: uid; verdict; dropped_by (the filter that dropped or quarantined the row);
    value or value_text and bound (what that filter compared); votes (a struct of one nullable
    bool for each step: True to keep, False to drop, null where it could not be evaluated);
    weight (how often the sample is in the subset: 1 or 0); duplicate_of (uid).
    """
    verdicts = np.where(_readable(columns), _KEEP, _FAILED).astype(np.int8)
    blamed = np.full(len(verdicts), -1, dtype=np.int16)
    value = np.full(len(verdicts), np.nan, dtype=np.float64)
    texts: dict[int, pa.Array] = {}
    votes = []
    bounds = []
    for number, step in enumerate(steps):
        judgement = step.judge(columns)
        votes.append(pa.array(judgement.passes, mask=judgement.null))
        bounds.append(judgement.bound)
        _settle(verdicts, blamed, number, step.rule.on_null, judgement)
        here = blamed == number
        if isinstance(judgement.value, pa.Array):
            texts[number] = judgement.value
        elif here.any():
            np.copyto(value, judgement.value, where=here, casting="unsafe")
    names = [step.name for step in steps]
    return pa.table(
        {
            "uid": columns["uid"],
            "verdict": _labels(verdicts, VERDICTS),
            "dropped_by": _labels(blamed, names),
            "value": pa.array(value, from_pandas=True),
            "value_text": _texts(blamed, texts),
            "bound": _labels(blamed, bounds),
            "votes": pa.StructArray.from_arrays(votes, names=names)
            if votes
            else pa.nulls(len(verdicts), NO_VOTES),
            "weight": pa.array((verdicts == _KEEP).astype(np.int32)),
            "duplicate_of": _duplicates(columns, steps, blamed),
        }
    )


def _readable(columns: Columns) -> NDArray[np.bool_]:
    result: NDArray[np.bool_] = pc.is_null(columns["failure"]).to_numpy(zero_copy_only=False)
    return result


def _settle(
    verdicts: NDArray[np.int8],
    blamed: NDArray[np.int16],
    number: int,
    on_null: str,
    judgement: Judgement,
) -> None:
    """Gives the rows still alive that this step stops their verdict, in place."""
    alive = verdicts == _KEEP
    stopped = alive & ~judgement.passes & ~judgement.null
    verdicts[stopped] = _DROP
    blamed[stopped] = number
    if on_null != "keep" and judgement.null.any():
        unknown = alive & judgement.null
        verdicts[unknown] = _DROP if on_null == "drop" else _QUARANTINE
        blamed[unknown] = number


def _labels(codes: NDArray[np.integer], labels: Sequence[str]) -> pa.DictionaryArray:
    negative = codes < 0
    indices = pa.array(codes, mask=negative) if negative.any() else pa.array(codes)
    return pa.DictionaryArray.from_arrays(indices, pa.array(labels, pa.string()))


def _texts(blamed: NDArray[np.int16], texts: dict[int, pa.Array]) -> pa.Array:
    result = pa.nulls(len(blamed), pa.string())
    for number, values in texts.items():
        here = pa.array(blamed == number)
        result = pc.if_else(here, values.cast(pa.string()), result)
    return result


def _duplicates(columns: Columns, steps: Sequence[Step], blamed: NDArray[np.int16]) -> pa.Array:
    result = pa.nulls(len(blamed), pa.string())
    for number, step in enumerate(steps):
        name = step.column("duplicate_of")
        if name in columns:
            here = pa.array(blamed == number)
            result = pc.if_else(here, columns[name].cast(pa.string()), result)
    return result
