"""Samples to look at: kept, dropped for each reason, and nearest to each filter's bound."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curate.query import Decision, run_sql
from curate.report.cuts import Bound, bounds
from filters.core.decide import Step, columns_read
from transforms.deciding import DecideConfig, DecidePart, flat, read_columns
from transforms.measure import find_measure
from transforms.samples import COLUMNS as SAMPLE_COLUMNS


@dataclass(frozen=True, order=True)
class Place:
    """A row of the pool."""

    shard: str
    row: int


@dataclass(frozen=True)
class Group:
    """Samples under one heading.

    Attributes:
        kind: "kept", "stopped" or "borderline"; filter: empty for kept ones.
        inside: of a borderline group, True for the side that passes the filter.
        values: what the filter compared, one for each place of a borderline group.
        total: samples of this kind in the pool; 0 where that was not counted.
    """

    kind: str
    filter: str
    verdict: str
    places: tuple[Place, ...]
    total: int = 0
    bound: Bound | None = None
    inside: bool = False
    values: tuple[float, ...] = ()


def verdict_groups(connection: duckdb.DuckDBPyConnection, steps: Sequence[Step], wanted: int) -> list[Group]:
    """Kept samples, then those that each filter stopped, in order; the smallest uids of each."""
    found = run_sql(
        connection,
        "SELECT verdict, dropped_by, count(*) AS rows, "  # noqa: S608  (a number of ours)
        f'min(struct_pack(uid := uid, shard := shard, at := "row"), {int(wanted)}) AS places '
        "FROM samples WHERE verdict <> 'failed' GROUP BY ALL",
    ).to_pylist()
    order = {step.name: number for number, step in enumerate(steps)}
    found.sort(key=lambda item: (order.get(item["dropped_by"], -1), item["verdict"]))
    return [
        Group(
            kind="kept" if item["verdict"] == "keep" else "stopped",
            filter=item["dropped_by"] or "",
            verdict=item["verdict"],
            places=tuple(Place(place["shard"], place["at"]) for place in item["places"]),
            total=item["rows"],
        )
        for item in found
    ]


@dataclass(frozen=True, order=True)
class _Near:
    """A candidate for a borderline group; smaller is nearer, ties go to the smaller uid."""

    distance: float
    uid: str
    place: Place
    value: float


@dataclass(frozen=True)
class _Side:
    """One side of one bound of the step with this number."""

    number: int
    bound: Bound
    inside: bool


def borderline_groups(decision: Decision, steps: Sequence[Step], wanted: int) -> list[Group]:
    """The samples nearest to each numeric bound that reached its filter: stopped ones, passed ones.

    Reads the columns of those filters once, part by part.
    """
    sides = [
        _Side(number, bound, inside)
        for number, step in enumerate(steps)
        for bound in bounds(step)
        for inside in (False, True)
    ]
    nearest: dict[_Side, list[_Near]] = {side: [] for side in sides}
    judged = [step for step in steps if bounds(step)]
    config = decide_config(decision, steps)
    for part in decided_parts(decision) if judged else ():
        columns = read_columns(config, part, ["row", *columns_read(judged)], judged)
        reached = _reached(decision, part, steps)
        shard = _uri(decision, part)
        for step in judged:
            values = compared_values(step, columns)
            if values is None:
                continue
            for side in (side for side in sides if steps[side.number] is step):
                chosen = _candidates(side, values, reached, wanted)
                found = _nearest(side, values, chosen, columns, shard, wanted)
                nearest[side] = heapq.nsmallest(wanted, [*nearest[side], *found])
    return [_group(steps, side, found) for side, found in nearest.items() if found]


def _group(steps: Sequence[Step], side: _Side, found: Iterable[_Near]) -> Group:
    found = list(found)
    return Group(
        kind="borderline",
        filter=steps[side.number].name,
        verdict="",
        places=tuple(near.place for near in found),
        bound=side.bound,
        inside=side.inside,
        values=tuple(near.value for near in found),
    )


def decided_parts(decision: Decision) -> list[DecidePart]:
    """The parts of a decision that have rows, in pool order."""
    parts = decision.manifest["parts"]
    return [DecidePart(part["part"], part["number"], part["rows"]) for part in parts if part["rows"]]


def _uri(decision: Decision, part: DecidePart) -> str:
    return str(next(item["uri"] for item in decision.manifest["parts"] if item["part"] == part.part))


def decide_config(decision: Decision, steps: Sequence[Step]) -> DecideConfig:
    """How this decision was taken, to read its columns again."""
    manifest = decision.manifest
    writers = {column.name: manifest["samples"] for column in SAMPLE_COLUMNS}
    for item in manifest["measures"]:
        for column in find_measure(item["kind"]).model_construct().columns(item["name"]):
            writers.setdefault(column.name, item["group"])
    ledger = f"ledger/{decision.ledger}"
    return DecideConfig(decision.store, writers, tuple(steps), ledger, dict(manifest["relations"]))


def _reached(decision: Decision, part: DecidePart, steps: Sequence[Step]) -> NDArray[np.int64]:
    """(n,) number of the filter that stopped each row; their count for kept rows, -1 for failed."""
    table = decision.store.read_part(f"ledger/{decision.ledger}", part.part, ["verdict", "dropped_by"])
    names = pa.array([step.name for step in steps], pa.string())
    stopped = pc.fill_null(pc.index_in(flat(table["dropped_by"]), value_set=names), len(steps))
    failed = pc.equal(flat(table["verdict"]), "failed").to_numpy(zero_copy_only=False)
    result: NDArray[np.int64] = np.where(failed, -1, stopped.to_numpy(zero_copy_only=False))
    return result


def compared_values(step: Step, columns: dict[str, pa.Array]) -> NDArray[np.float64] | None:
    """(n,) what the step compares with its bound, NaN where it can't; None for texts."""
    judgement = step.judge(columns)
    if isinstance(judgement.value, pa.Array):
        return None
    values = np.asarray(judgement.value, dtype=np.float64)
    result: NDArray[np.float64] = np.where(judgement.null | ~np.isfinite(values), np.nan, values)
    return result


def _candidates(
    side: _Side, values: NDArray[np.float64], reached: NDArray[np.int64], wanted: int
) -> NDArray[np.int64]:
    """Rows on this side of the bound, the nearest `wanted` and all that are as near as the last."""
    with np.errstate(invalid="ignore"):
        above = (
            values >= side.bound.value
            if side.inside == (side.bound.sign == "≥")
            else values <= side.bound.value
        )
    here = reached > side.number if side.inside else reached == side.number
    rows = np.flatnonzero(above & here)
    distance = np.abs(values[rows] - side.bound.value)
    if len(rows) > wanted:
        rows = rows[distance <= np.partition(distance, wanted - 1)[wanted - 1]]
    return rows


def _nearest(  # noqa: PLR0913, PLR0917  (all of one part)
    side: _Side,
    values: NDArray[np.float64],
    rows: NDArray[np.int64],
    columns: dict[str, pa.Array],
    shard: str,
    wanted: int,
) -> list[_Near]:
    uids = columns["uid"].take(pa.array(rows)).to_pylist()
    places = columns["row"].take(pa.array(rows)).to_pylist()
    found = [
        _Near(float(abs(values[row] - side.bound.value)), uid, Place(shard, place), float(values[row]))
        for row, uid, place in zip(rows, uids, places, strict=True)
    ]
    return heapq.nsmallest(wanted, found)
