"""What moving a threshold would do, before anything is run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from curate.explore.conditions import Condition
from curate.explore.explorer import Explorer, Mask, Rows, count_labels
from filters.core.catalogue import nearest
from filters.core.decide import Step
from filters.core.declaration import FittedFilter
from filters.core.errors import QueryError

MOST_CONCEPTS = 12


@dataclass(frozen=True)
class Loss:
    """What a cut takes from one concept: samples that reach it, and those that pass."""

    concept: str
    before: int
    after: int


@dataclass(frozen=True)
class Cut:
    """What would pass.

    Attributes:
        reaching: samples that everything else keeps; passing: those that the cut lets through too.
        now: those that pass as the recipe ran.
        concepts: the ones that lose most samples by the cut; empty where the decision has none.
        inside, outside: row numbers nearest to the bounds, on either side of them.
        approximate: other filters whose own bounds, or comparisons, depend on what reaches them: they
            are left as they were, and samples that they never compared count as kept by them.
    """

    reaching: int
    passing: int
    now: int
    concepts: tuple[Loss, ...]
    inside: Rows
    outside: Rows
    approximate: tuple[str, ...]


def cut(
    explorer: Explorer,
    bound: Condition,
    *,
    step: str | None = None,
    conditions: Iterable[Condition] = (),
    examples: int = 12,
) -> Cut:
    """What passes where `bound` takes the place of a filter, or comes after all of them.

    step: the filter that it replaces; None to add it to the recipe.
    conditions: the samples that are looked at.
    Raises: QueryError for an unknown filter or column.
    """
    steps = explorer.steps
    others = [one for one in steps if one.name != step]
    if step is not None and len(others) == len(steps):
        msg = f"no filter {step!r} in this recipe; {nearest(step, [one.name for one in steps])}"
        raise QueryError(msg)
    reaching = alive(explorer, others)
    asked = explorer.mask(conditions)
    reaching = reaching if asked is None else reaching & asked
    inside = explorer.mask([bound])
    passing = reaching if inside is None else reaching & inside
    before = explorer.matching(reaching)
    after = explorer.matching(passing)
    now = before
    if step is not None:
        now = explorer.matching(reaching & _kept_by(explorer, next(one for one in steps if one.name == step)))
    near, far = _around(explorer, bound, reaching, passing, examples)
    fitted = tuple(one.name for one in others if _depends(one))
    return Cut(before, after, now, _losses(explorer, reaching, passing), near, far, fitted)


def alive(explorer: Explorer, steps: Sequence[Step]) -> Mask:
    """The readable rows that the stored votes of these steps keep: (n,) bool."""

    def kept() -> Mask:
        found = explorer.columns.categories("failure").codes < 0
        for step in steps:
            found &= _kept_by(explorer, step)
        return found

    return explorer.columns.mask(f"kept by {[step.name for step in steps]}", kept)


def concept_column(explorer: Explorer) -> str | None:
    """The column that says which concept a sample shows: of a measure of concepts, else a cluster."""
    for item in explorer.decision.manifest["measures"]:
        name = f"{item['name']}_top"
        if item["kind"] == "concepts" and name in explorer.columns.places:
            return name
    return next((name for name in explorer.columns.places if name.endswith("/cluster_id")), None)


def _kept_by(explorer: Explorer, step: Step) -> Mask:
    """The rows that a step's stored vote keeps; those that it could not judge by its `on_null`.

    A comparison has no vote on samples that an earlier filter stopped: were that filter moved, they
    might be kept, so they count as kept here.
    """
    if step.rule.only_tag:
        return np.ones(explorer.rows, np.bool_)
    votes = explorer.columns.categories(f"votes.{step.name}")
    keep = votes.labels.index("true") if "true" in votes.labels else None
    found = np.zeros(explorer.rows, np.bool_) if keep is None else votes.codes == keep
    if step.rule.on_null == "keep":
        found |= votes.codes < 0
    if step.rule.relation is not None:
        stoppers = explorer.columns.categories("dropped_by")
        others = [code for code, label in enumerate(stoppers.labels) if label != step.name]
        found |= (votes.codes < 0) & np.isin(stoppers.codes, others)
    return found


def _depends(step: Step) -> bool:
    """True for a filter whose bound, or whose columns, depend on what reaches it."""
    return step.rule.relation is not None or (
        isinstance(step.rule, FittedFilter) and step.rule.population() == "survivors"
    )


def _losses(explorer: Explorer, reaching: Mask, passing: Mask) -> tuple[Loss, ...]:
    name = concept_column(explorer)
    if name is None:
        return ()
    cluster = name.endswith("/cluster_id")
    labels = explorer.columns.clusters(name) if cluster else explorer.columns.categories(name)
    before, after = count_labels(labels, reaching), count_labels(labels, passing)
    lost = before - after
    order = [at for at in np.lexsort((np.arange(len(lost)), -lost))[:MOST_CONCEPTS] if lost[at] > 0]
    prefix = "cluster " if cluster else ""
    return tuple(Loss(prefix + labels.labels[at], int(before[at]), int(after[at])) for at in order)


def _around(
    explorer: Explorer, bound: Condition, reaching: Mask, passing: Mask, examples: int
) -> tuple[Rows, Rows]:
    """The rows nearest to a bound that pass, and that don't; none where the bound is no number."""
    ends = [end for end in (bound.at_least, bound.at_most) if end is not None]
    nothing = np.empty(0, np.int64)
    if not ends or examples == 0:
        return nothing, nothing
    values, bins = explorer.columns.numbers(bound.column), explorer.binned(bound.column)
    found: list[Rows] = []
    for side in (passing, reaching & ~passing):
        near = nothing
        for end in ends:
            # Bins first: the nearest rows lie in the bins around the bound, which are few.
            place = int(np.searchsorted(bins.edges[1:-1].astype(values.dtype), end, side="right"))
            near = np.concatenate([near, _near_bin(bins.codes, bins.bins, side, place, examples)])
        near = np.unique(near)
        distance = np.min([np.abs(values[near].astype(np.float64) - end) for end in ends], axis=0)
        found.append(near[np.argsort(distance, kind="stable")[:examples]])
    return found[0], found[1]


def _near_bin(codes: np.ndarray, bins: int, side: Mask, place: int, wanted: int) -> Rows:
    """The rows of a side in the bins around a place, widened until there are enough."""
    reach = 0
    while True:
        low, high = place - reach, place + reach
        rows = np.flatnonzero((codes >= max(low, 0)) & (codes <= min(high, bins - 1)) & side)
        if len(rows) >= wanted or (low <= 0 and high >= bins - 1):
            return rows
        reach = 2 * reach + 1
