"""Where a filter cuts: its bounds as numbers, as places on a signal's axis, and in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from curate.query import Decision
from filters.core.decide import Step
from filters.core.declaration import Columns, Filter, FittedFilter, Judgement
from transforms.deciding import flat

Sign = Literal["≥", "≤"]
# Columns that break ties or name the row; no filter's bound stands on their axis.
_IDENTITY = ("uid", "shard_number", "row")


@dataclass(frozen=True)
class Bound:
    """A number that a filter compares its value with; `sign` is what a kept sample fulfils."""

    value: float
    sign: Sign


@dataclass(frozen=True)
class Cut:
    """A bound as a place on one signal's axis."""

    filter: str
    column: str
    bound: Bound


def bounds(step: Step) -> list[Bound]:
    """The numbers that the step's value is compared with; none where the rule has no such number."""
    found: list[Bound] = []
    signs: tuple[tuple[str, Sign], ...] = (("at_least", "≥"), ("at_most", "≤"))
    for field, sign in signs:
        value = _number(getattr(step.rule, field, None))
        if value is not None:
            found.append(Bound(value, sign))
    fitted = _number((step.artefact or {}).get("bound"))
    if fitted is not None:
        found.append(Bound(fitted, "≥"))
    return found


def cuts(step: Step, types: Mapping[str, pa.DataType]) -> list[Cut]:
    """The step's bounds on the axes of the numeric signals that it compares with them.

    types: the numeric signals. A rule may compare something it computes from the columns, such
    as a ratio of sides: then its bound has no place on their axes, which judging a few made-up
    rows around the bound shows.
    """
    plain = [name for name in step.rule.reads() if name not in _IDENTITY]
    numeric = [name for name in plain if name in types]
    found = [_named_cut(step, field, numeric) for field in type(step.rule).model_fields]
    drawn = [cut for cut in found if cut is not None]
    if numeric == plain and numeric and step.rule.relation is None:
        shown = {name: types[name] for name in numeric}
        for bound in bounds(step):
            seen = _confirmed(step, bound, shown)
            if seen is not None:
                drawn += [Cut(step.name, name, seen) for name in numeric]
    return drawn


def bound_words(decision: Decision, step: Step, types: Mapping[str, pa.DataType]) -> str:
    """The step's bound as it says it itself, or its options where it can't be asked."""
    columns: Columns = {
        name: pa.nulls(0, types.get(name, pa.int64() if name in _IDENTITY[1:] else pa.string()))
        for name in step.rule.reads()
    }
    parts = [part["part"] for part in decision.manifest["parts"] if part["rows"]]
    if step.rule.relation is not None:
        if not parts:
            return _options_in_words(step)
        table = decision.store.read_part(decision.manifest["relations"][step.name], parts[0]).slice(0, 0)
        columns.update({step.column(name): flat(table[name]) for name in table.column_names})
    try:
        return step.judge(columns).bound
    except (ValueError, KeyError, TypeError, pa.ArrowException):
        # A filter need not promise to judge columns without rows; its options say the same.
        return _options_in_words(step)


def _options_in_words(step: Step) -> str:
    given = step.rule.model_dump(mode="json", exclude=set(Filter.model_fields), exclude_defaults=True)
    return ", ".join(f"{name}: {value}" for name, value in given.items())


def _number(value: Any) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value):
        return float(value)
    return None


def _named_cut(step: Step, field: str, numeric: list[str]) -> Cut | None:
    """`min_probability` cuts the one column read that ends with `_probability`."""
    kind, _, what = field.partition("_")
    value = _number(getattr(step.rule, field))
    matching = [name for name in numeric if what and name.endswith(f"_{what}")]
    if kind not in ("min", "max") or value is None or len(matching) != 1:
        return None
    return Cut(step.name, matching[0], Bound(value, "≥" if kind == "min" else "≤"))


def _confirmed(step: Step, bound: Bound, types: Mapping[str, pa.DataType]) -> Bound | None:
    """The bound with the sign that the rule shows around it; None where it does not turn there."""
    whole = all(pa.types.is_integer(kind) for kind in types.values())
    gap = 1.0 if whole else max(abs(bound.value) * 1e-3, 1e-6)
    try:
        judged = _probe(step, bound.value + gap * np.array([-1, 0, 1]), types)
    except (ValueError, KeyError, TypeError, pa.ArrowException):
        return None  # the rule can't judge made-up rows: better no line than a wrong one
    below, at, above = (bool(one) for one in judged)
    if isinstance(step.rule, FittedFilter):
        # At the bound itself ties decide.
        return None if below == above else Bound(bound.value, "≥" if above else "≤")
    outside = below if bound.sign == "≥" else above
    return bound if at and not outside else None


def _probe(
    step: Step, values: np.ndarray[Any, Any], types: Mapping[str, pa.DataType]
) -> np.ndarray[Any, Any]:
    """What the rule says of made-up rows that hold these values in every signal it reads."""
    made: Columns = {
        "uid": pa.array(["0" * 32] * len(values)),
        "shard_number": pa.array(np.zeros(len(values), np.int32)),
        "row": pa.array(np.arange(len(values), dtype=np.int32)),
    }
    for name, kind in types.items():
        # A selection tells 16-bit, 32-bit and 64-bit scores apart, a plain bound does not.
        exact = isinstance(step.rule, FittedFilter)
        made[name] = pa.array(values).cast(kind, safe=False) if exact else pa.array(values)
    judgement: Judgement = step.judge({name: made[name] for name in step.rule.reads()})
    return np.asarray(judgement.passes & ~judgement.null)
