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
    Numbers,
    RowFilter,
)
from filters.core.tags import tag_columns

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

    def view(self, columns: Columns) -> Columns:
        """The columns with this step's relation columns under the names that its rule reads."""
        return {**columns, **{name: columns[self.column(name)] for name in self.rule.relation_reads}}

    def judge(self, columns: Columns) -> Judgement:
        """What the filter says of every row; columns hold its `reads` and relation columns."""
        if isinstance(self.rule, FittedFilter):
            if self.artefact is None:
                msg = f"filter {self.name} is not fitted yet"
                raise ValueError(msg)
            return self.rule.judge(self.view(columns), self.artefact)
        return cast("RowFilter", self.rule).judge(self.view(columns))


def columns_read(steps: Sequence[Step]) -> list[str]:
    """The signal columns that the steps need to judge, sorted, without relation columns."""
    return sorted({name for step in steps for name in step.rule.reads()})


def survivors(columns: Columns, steps: Sequence[Step]) -> NDArray[np.bool_]:
    """True for the rows that pass every step; columns must hold `failure`."""
    alive = _readable(columns)
    for step in steps:
        if step.rule.only_tag:
            continue
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
    weight (how often the sample is in the subset: 1 or 0); duplicate_of (uid); and the tags that
    the steps state.
    """
    verdicts = np.where(_readable(columns), _KEEP, _FAILED).astype(np.int8)
    blamed = np.full(len(verdicts), -1, dtype=np.int16)
    value = np.full(len(verdicts), np.nan, dtype=np.float64)
    texts: dict[int, pa.Array] = {}
    votes = []
    bounds = []
    stated: dict[str, list[Numbers]] = {}
    for number, step in enumerate(steps):
        judgement = step.judge(columns)
        votes.append(pa.array(judgement.passes, mask=judgement.null))
        bounds.append(judgement.bound)
        for name in step.rule.tags:
            stated.setdefault(name, []).append(judgement.tags[name])
        if not step.rule.only_tag:
            _settle(verdicts, blamed, number, step.rule.on_null, judgement)
        if isinstance(judgement.value, pa.Array):
            texts[number] = judgement.value
        else:
            here = np.flatnonzero(blamed == number)
            value[here] = judgement.value[here]
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
            **tag_columns(stated),
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
    # Rows alive hold 0 and -1, so adding sets them: many times faster than masked assignment.
    alive = verdicts == _KEEP
    stopped = alive & ~(judgement.passes | judgement.null)
    verdicts += stopped.view(np.int8) * np.int8(_DROP)
    blamed += stopped.view(np.int8) * np.int16(number + 1)
    if on_null != "keep" and judgement.null.any():
        unknown = alive & judgement.null
        verdicts += unknown.view(np.int8) * np.int8(_DROP if on_null == "drop" else _QUARANTINE)
        blamed += unknown.view(np.int8) * np.int16(number + 1)


def _labels(codes: NDArray[np.integer], labels: Sequence[str]) -> pa.DictionaryArray:
    negative = codes < 0
    indices = pa.array(codes, mask=negative) if negative.any() else pa.array(codes)
    return pa.DictionaryArray.from_arrays(indices, pa.array(labels, pa.string()))


def _texts(blamed: NDArray[np.int16], texts: dict[int, pa.Array]) -> pa.Array:
    """The text that each row's filter compared; only the texts that stand in the ledger are copied."""
    result = pa.nulls(len(blamed), pa.string())
    for number, values in texts.items():
        here = blamed == number
        if here.any():
            result = _overlay(here, values, result)
    return result


def _overlay(here: NDArray[np.bool_], values: pa.Array, below: pa.Array) -> pa.Array:
    """Values as text where `here` holds, `below` elsewhere."""
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if below.null_count == len(below):
        return pc.if_else(pa.array(here), values, pa.scalar(None, values.type)).cast(pa.string())
    return pc.if_else(pa.array(here), values.cast(pa.string()), below)


def _duplicates(columns: Columns, steps: Sequence[Step], blamed: NDArray[np.int16]) -> pa.Array:
    result = pa.nulls(len(blamed), pa.string())
    for number, step in enumerate(steps):
        name = step.column("duplicate_of")
        if name in columns:
            result = _overlay(blamed == number, columns[name], result)
    return result
