"""The rows of a decision as an audit draws them: read part by part, whatever the size of the pool.

Borderline is a matter of rank, since values of different filters have different units: the fifth of
what a filter stopped that lies nearest to its bound, and as many of the kept samples. Distances are
counted in bins, as the first 16 bits of the number (so told apart to 3 %): integers that add up in
any order, and small however many samples there are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curate.audit.draw import BORDERLINE_BIT, FLAGS, RARE_BIT, Candidates, Floats, Group, Integers
from curate.query import Decision, connect, run_sql
from curate.report.cuts import bounds
from curate.report.examples import compared_values, decide_config, decided_parts
from filters.core.decide import Step, columns_read
from filters.core.uids import parse_uids
from transforms.deciding import DecideConfig, DecidePart, flat, read_columns

NEAR_SHARE = 0.2  # of what a filter stopped
RARE_SHARE = 0.1  # of all samples in clusters, which the rarest clusters hold together at most
_BITS = 16
_STOPS = ("drop", "quarantine")


def collect(decision: Decision, steps: Sequence[Step], budget: int, seed: int) -> Candidates:
    """Every readable row of the decision in its stratum; failed rows can't be looked at.

    Reads the ledger and the columns of filters with numeric bounds twice, one part at a time.
    """
    config, parts = decide_config(decision, steps), decided_parts(decision)
    near = _nearness(config, parts)
    rare = rare_clusters(decision)
    found = Candidates(groups_of(steps), budget, seed)
    for part in parts:
        groups = _groups(config, part)
        codes = groups * FLAGS
        codes += BORDERLINE_BIT * _borderline(groups, _distances(config, part), near)
        codes += RARE_BIT * rare.holds(decision, part)
        readable = groups >= 0
        rows = np.flatnonzero(readable)
        table = decision.store.read_part(decision.manifest["samples"], part.part, ["uid"])
        uids = parse_uids(flat(table["uid"]).filter(pa.array(readable)))
        found.add(codes[rows], uids, part.number, rows)
    return found


def groups_of(steps: Sequence[Step]) -> list[Group]:
    """What can have been decided: kept, then stopped by each filter and how, in the recipe's order."""
    return [("", "keep"), *((step.name, verdict) for step in steps for verdict in _STOPS)]


def _groups(config: DecideConfig, part: DecidePart) -> Integers:
    """(n,) the number of each row's group in `groups_of`; -1 for failed rows."""
    table = config.store.read_part(config.ledger, part.part, ["verdict", "dropped_by"])
    verdicts = flat(table["verdict"])
    names = pa.array([step.name for step in config.steps], pa.string())
    stopped = pc.fill_null(pc.index_in(flat(table["dropped_by"]), value_set=names), -1)
    held = pc.equal(verdicts, "quarantine").to_numpy(zero_copy_only=False)
    numbers = 1 + 2 * stopped.to_numpy(zero_copy_only=False).astype(np.int64) + held
    readable = pc.not_equal(verdicts, "failed").to_numpy(zero_copy_only=False)
    kept = pc.equal(verdicts, "keep").to_numpy(zero_copy_only=False)
    result: Integers = np.where(kept, 0, np.where(readable, numbers, -1))
    return result


def _distances(config: DecideConfig, part: DecidePart) -> dict[int, Floats]:
    """Number of each step with bounds -> (n,) how far its value is from the nearest; infinite if unknown."""
    judged = [step for step in config.steps if bounds(step)]
    if not judged:
        return {}
    columns = read_columns(config, part, columns_read(judged), judged)
    found: dict[int, Floats] = {}
    for number, step in enumerate(config.steps):
        values = compared_values(step, columns) if step in judged else None
        if values is not None:
            apart = [np.abs(values - bound.value) for bound in bounds(step)]
            found[number] = np.nan_to_num(np.min(apart, axis=0), nan=np.inf)
    return found


@dataclass(frozen=True)
class _Near:
    """The last bin that is near a step's bound, of what it stopped and of what was kept; -1: none."""

    stopped: int
    kept: int


def _nearness(config: DecideConfig, parts: Sequence[DecidePart]) -> dict[int, _Near]:
    """Number of each step with bounds -> what is near them."""
    counted: dict[int, Integers] = {}
    for part in parts:
        groups = _groups(config, part)
        for number, distance in _distances(config, part).items():
            into = counted.setdefault(number, np.zeros((2, 1 << _BITS), np.int64))
            for side, here in enumerate((stopped_by(groups, number), groups == 0)):
                into[side] += np.bincount(distance_bins(distance[here]), minlength=1 << _BITS)
    found = {}
    for number, (stopped, kept) in counted.items():
        wanted = math.ceil(NEAR_SHARE * int(stopped.sum()))
        found[number] = _Near(last_near(stopped, wanted), last_near(kept, wanted))
    return found


def stopped_by(groups: Integers, step: int) -> NDArray[np.bool_]:
    """(n,) whether the step of this number stopped the row; groups as `groups_of` numbers them."""
    result: NDArray[np.bool_] = (groups > 0) & ((groups - 1) // len(_STOPS) == step)
    return result


def distance_bins(distances: Floats) -> Integers:
    """(n,) int64 in [0, 65536): the bins of these distances (n,), at least 0, perhaps infinite.

    The sign, exponent and first bits of a non-negative double are ordered as it is.
    """
    return (np.abs(distances).view(np.uint64) >> np.uint64(63 - _BITS)).astype(np.int64)


def last_near(counts: Integers, wanted: int) -> int:
    """The last bin of the nearest `wanted` or somewhat more; -1 where there is none.

    Equal distances stay together; where more than half of all lie in one bin they are not told
    apart from the rest. counts: (bins,) int64; infinite distances, in the last bins, are never near.
    """
    finite = int(distance_bins(np.array([np.inf]))[0])
    together = np.cumsum(counts[:finite])
    if wanted == 0 or together[-1] == 0:
        return -1
    edge = min(int(np.searchsorted(together, wanted)), int(np.searchsorted(together, together[-1])))
    if 2 * together[edge] <= counts.sum():
        return edge
    # The bin before, if any row is that near: bins without rows have the same sum as it.
    return edge - 1 if edge and together[edge - 1] else -1


def _borderline(groups: Integers, distances: dict[int, Floats], near: dict[int, _Near]) -> Integers:
    """(n,) 1 for what lies near the bound of the filter that stopped it, kept: near any."""
    found = np.zeros(len(groups), np.bool_)
    for number, distance in distances.items():
        bins = distance_bins(distance)
        found |= stopped_by(groups, number) & (bins <= near[number].stopped)
        found |= (groups == 0) & (bins <= near[number].kept)
    return found.astype(np.int64)


@dataclass(frozen=True)
class RareClusters:
    """The clusters of one step that hold few samples; step: None where the recipe has no clusters."""

    step: str | None
    clusters: Integers

    def holds(self, decision: Decision, part: DecidePart) -> Integers:
        """(n,) 1 for the rows of a part in one of them; rows in no cluster are not rare."""
        if self.step is None:
            return np.zeros(part.rows, np.int64)
        group = decision.manifest["relations"][self.step]
        column = flat(decision.store.read_part(group, part.part, ["cluster_id"])["cluster_id"])
        inside = pc.is_in(column, value_set=pa.array(self.clusters).cast(column.type))
        result: Integers = inside.to_numpy(zero_copy_only=False).astype(np.int64)
        return result


def rare_clusters(decision: Decision) -> RareClusters:
    """The smallest clusters of the recipe's first step with clusters, which saw the most samples."""
    table = run_sql(connect(decision), "SELECT step, cluster_id, samples FROM clusters")
    if table.num_rows == 0:
        return RareClusters(None, np.empty(0, np.int64))
    step = table["step"][0].as_py()
    table = table.filter(pc.equal(table["step"], step))
    sizes = table["samples"].to_numpy().astype(np.int64)
    return RareClusters(step, table["cluster_id"].to_numpy().astype(np.int64)[smallest(sizes)])


def smallest(sizes: Integers) -> NDArray[np.bool_]:
    """(K,) bool: the smallest that together hold at most a tenth; equal sizes stay together."""
    values, many = np.unique(sizes, return_counts=True)
    rare = values[np.cumsum(values * many) <= RARE_SHARE * sizes.sum()]
    return np.isin(sizes, rare)
