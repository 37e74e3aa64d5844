"""What another recipe would decide over what is stored, and how two decisions differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.explore.explorer import Explorer, Rows
from curate.recipe import parse_recipe
from filters.core.catalogue import nearest
from filters.core.decide import Step
from filters.core.declaration import FittedFilter
from filters.core.errors import QueryError
from transforms.deciding import DecideConfig, DecidePart, accumulate_part, decide_table

MOST_CHANGES = 20
EXAMPLES = 8


@dataclass(frozen=True)
class PredictedStep:
    """What would reach a filter and pass it; `exact` where nothing it depends on was guessed."""

    name: str
    reaching: int
    passing: int
    exact: bool


@dataclass(frozen=True)
class Change:
    """Samples that fare differently: how they did, how they would, how many, and some of them."""

    before: str
    after: str
    samples: int
    rows: Rows


@dataclass(frozen=True)
class Prediction:
    """What a recipe would keep.

    Attributes:
        kept: samples that it would keep; now: that the decision keeps.
        notes: what could not be known without a run.
    """

    kept: int
    now: int
    steps: tuple[PredictedStep, ...]
    changes: tuple[Change, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """Two decisions over the same samples: what they keep, and what they treat differently."""

    kept: int
    other: int
    same: int
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Fates:
    """What becomes of each row: (n,) codes of `names`, such as "kept" or "dropped by language"."""

    codes: NDArray[np.int32]
    names: tuple[str, ...]

    @property
    def kept(self) -> int:
        """Rows that are kept."""
        return int(np.count_nonzero(self.codes == self.names.index("kept")))


def predict(explorer: Explorer, text: str) -> Prediction:
    """What this recipe would decide: exactly for row filters and fitted ones, over what is measured.

    A filter that compares samples keeps what was compared when the decision was taken; one that
    compared nothing yet is left out, and a note says so. Nothing is written.
    Raises: RecipeError for a recipe that is wrong; QueryError for a column that is not measured.
    """
    config, notes, guessed = _configured(explorer, parse_recipe(text, "recipe").steps)
    parts = [DecidePart(part["part"], part["number"], part["rows"]) for part in explorer.columns.parts]
    ready: list[Step] = []
    for step in config.steps:
        ready.append(_fitted(config, step, ready, parts) if isinstance(step.rule, FittedFilter) else step)
    config = replace(config, steps=tuple(ready))
    after = _decided(config, parts)
    before = fates(explorer)
    reaching = explorer.rows - int(np.count_nonzero(after.codes == after.names.index("failed")))
    steps = []
    exact = True
    for step in ready:
        exact = exact and step.name not in guessed
        stopped = [at for at, name in enumerate(after.names) if name.endswith(f" by {step.name}")]
        passing = reaching - int(np.isin(after.codes, stopped).sum())
        steps.append(PredictedStep(step.name, reaching, passing, exact))
        reaching = passing
    return Prediction(after.kept, before.kept, tuple(steps), _changes(before, after), tuple(notes))


def compare(explorer: Explorer, other: Explorer) -> Comparison:
    """How two decisions over the same parts differ.

    Raises: QueryError where they are about other samples.
    """
    names = [[part["part"] for part in one.columns.parts] for one in (explorer, other)]
    if names[0] != names[1]:
        msg = (
            f"{explorer.decision.ledger} and {other.decision.ledger} are about other shards: "
            "only decisions over the same pool can be compared"
        )
        raise QueryError(msg)
    before, after = fates(explorer), fates(other)
    changes = _changes(before, after)
    table = np.array([before.names.index(name) if name in before.names else -1 for name in after.names])
    same = int(np.count_nonzero(before.codes == table[after.codes])) if explorer.rows else 0
    return Comparison(before.kept, after.kept, same, changes)


def fates(explorer: Explorer) -> Fates:
    """What became of each row in a decision."""
    if not explorer.rows:
        return Fates(np.empty(0, np.int32), ("kept", "failed"))
    verdicts = explorer.columns.categories("verdict")
    filters = explorer.columns.categories("dropped_by")
    return _fates(verdicts.codes, verdicts.labels, filters.codes, filters.labels)


def _fates(
    verdict: NDArray[np.integer[Any]],
    verdicts: Sequence[str],
    by: NDArray[np.integer[Any]],
    filters: Sequence[str],
) -> Fates:
    words = {"keep": "kept", "drop": "dropped", "quarantine": "quarantined", "failed": "failed"}
    width = len(filters) + 1
    names = [words[one] + (f" by {name}" if name else "") for one in verdicts for name in ("", *filters)]
    missing = [name for name in ("kept", "failed") if name not in names]
    codes = verdict.astype(np.int32) * np.int32(width) + by + np.int32(1)
    return Fates(codes.astype(np.int32), (*names, *missing))


def _configured(explorer: Explorer, steps: Sequence[Step]) -> tuple[DecideConfig, list[str], set[str]]:
    """How to decide by other steps over what the decision has; notes, and steps that are guessed."""
    manifest = explorer.decision.manifest
    writers = {"uid": manifest["samples"], "failure": manifest["samples"]}
    for name, place in explorer.columns.places.items():
        if "/" not in name and place.field is None and not place.group.startswith("ledger/"):
            writers[name] = place.group
    old = {step.name: step for step in explorer.steps}
    chosen: list[Step] = []
    notes: list[str] = []
    guessed: set[str] = set()
    relations: dict[str, str] = {}
    changed = False
    for step in steps:
        known = old.get(step.name)
        if step.rule.relation is not None:
            if step.name not in manifest["relations"] or known is None or not _compares_alike(known, step):
                notes.append(f"{step.name} compares samples: what it would drop is known after a run")
                changed = True
                continue
            relations[step.name] = manifest["relations"][step.name]
            if changed:
                guessed.add(step.name)
                notes.append(
                    f"{step.name} is judged by what was compared before the change; "
                    "what it never compared counts as kept"
                )
        changed = changed or known is None or known.rule != step.rule
        _check_columns(step, writers)
        rule = step.rule.model_copy(update={"on_null": "keep"}) if step.name in guessed else step.rule
        chosen.append(Step(step.name, rule))
    return DecideConfig(explorer.decision.store, writers, tuple(chosen), "", relations), notes, guessed


def _compares_alike(one: Step, other: Step) -> bool:
    """True where two rules of one name need the same comparison."""
    if type(one.rule) is not type(other.rule):
        return False
    return all(getattr(one.rule, name) == getattr(other.rule, name) for name in one.rule.relation_options)


def _check_columns(step: Step, writers: dict[str, str]) -> None:
    for name in step.rule.reads():
        if name not in writers and name != "shard_number":
            msg = f"filter {step.name} reads {name!r}, which is not measured here; {nearest(name, writers)}"
            raise QueryError(msg)


def _fitted(config: DecideConfig, step: Step, before: Sequence[Step], parts: Sequence[DecidePart]) -> Step:
    """The step fitted to what would reach it."""
    rule = step.rule
    if not isinstance(rule, FittedFilter):
        raise TypeError(step.name)
    artefact = rule.start()
    while not rule.complete(artefact):
        ready = replace(step, artefact=artefact)
        counted = [accumulate_part(config, part, before, ready) for part in parts]
        artefact = rule.advance(artefact, reduce(rule.merge, counted) if counted else None)
    return replace(step, artefact=artefact)


def _decided(config: DecideConfig, parts: Sequence[DecidePart]) -> Fates:
    filters = [step.name for step in config.steps]
    verdicts = ("keep", "drop", "quarantine", "failed")
    codes, by = [np.empty(0, np.int32)], [np.empty(0, np.int32)]
    for part in parts:
        table = decide_table(config, part)
        codes.append(table["verdict"].combine_chunks().indices.to_numpy().astype(np.int32))
        stopped = table["dropped_by"].combine_chunks().indices.fill_null(-1)
        by.append(stopped.to_numpy().astype(np.int32))
    return _fates(np.concatenate(codes), verdicts, np.concatenate(by), filters)


def _changes(before: Fates, after: Fates) -> tuple[Change, ...]:
    """The most frequent ways in which fates differ."""
    pairs = before.codes.astype(np.int64) * len(after.names) + after.codes
    found, counts = np.unique(pairs, return_counts=True)
    changes = []
    for at in np.lexsort((found, -counts)):
        one, other = before.names[found[at] // len(after.names)], after.names[found[at] % len(after.names)]
        if one != other:
            rows = np.flatnonzero(pairs == found[at])[:EXAMPLES]
            changes.append(Change(one, other, int(counts[at]), rows))
        if len(changes) == MOST_CHANGES:
            break
    return tuple(changes)
