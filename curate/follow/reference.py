"""What drift is measured with: how the signals of shards are distributed, and how far rows lie out.

A calibration's reference has the borders of the bins and its own counts; the facts of a shard are
counts in the same bins.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curate.plan import Plan
from filters.core.declaration import numbers
from filters.core.drift import KeptRate, bin_edges, count_bins
from filters.core.uids import parse_uids, uid_fraction
from transforms.deciding import flat

SAMPLE_ROWS = 200_000  # of a pool; a quantile of so many is off by .4 % of the rows at most (Massart)
FAR_SHARE = 0.01  # rows of the calibration that count as far from all centroids
SEED = 7


def measure_reference(plan: Plan, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The reference, from a decided pool: kept rate, distributions of signals, reach of clusters.

    Values are those of at most about SAMPLE_ROWS rows, drawn by the hash of their uids.
    """
    share = SAMPLE_ROWS / max(1, manifest["rows"])
    values: dict[str, list[NDArray[Any]]] = {}
    cosines: dict[str, list[NDArray[Any]]] = {}
    for part in manifest["parts"]:
        rows = _readable(plan, manifest, part["part"], share)
        for name, column in _signals(plan, part["part"]):
            values.setdefault(name, []).append(numbers(column)[rows])
        for step, column in _cosines(plan, manifest, part["part"]):
            cosines.setdefault(step, []).append(numbers(column)[rows])
    signals = {}
    for name, found in values.items():
        whole = np.concatenate(found)
        edges = bin_edges(whole)
        signals[name] = {"edges": edges, "counts": count_bins(whole, edges)}
    kept = KeptRate.of([(part["verdicts"].get("keep", 0), part["rows"]) for part in manifest["parts"]])
    near = {step: _least_cosine(np.concatenate(found)) for step, found in cosines.items()}
    return {
        "kept": {"kept": kept.kept, "rows": kept.rows, "spread": kept.spread},
        "signals": signals,
        "least_centroid_cosine": {step: least for step, least in near.items() if least is not None},
    }


def shard_facts(
    plan: Plan, manifest: Mapping[str, Any], part: str, reference: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What a shard's rows say of drift, and how many failed of what.

    manifest: says where the shard's relations lie. reference: of the calibration; without one only
        failures are counted.
    """
    samples = plan.store.read_part(plan.samples.group, part, ["failure"])
    codes = flat(samples["failure"]).drop_null().to_pylist()
    facts: dict[str, Any] = {"failures": dict(sorted(Counter(codes).items()))}
    if reference is None:
        return facts
    rows = _readable(plan, manifest, part, 1.0)
    facts["signals"] = {
        name: count_bins(numbers(column)[rows], reference["signals"][name]["edges"])
        for name, column in _signals(plan, part)
        if name in reference["signals"]
    }
    facts["far"] = {}
    for step, column in _cosines(plan, manifest, part):
        least = reference["least_centroid_cosine"].get(step)
        if least is not None:
            compared = numbers(column.drop_null())
            facts["far"][step] = [int(np.count_nonzero(compared < least)), len(compared)]
    return facts


def _readable(plan: Plan, manifest: Mapping[str, Any], part: str, share: float) -> NDArray[np.intp]:
    """The rows that did not fail, or the share of them that the hash of their uids draws."""
    table = plan.store.read_part(manifest["samples"], part, ["uid", "failure"])
    good = flat(table["failure"]).is_null().to_numpy(zero_copy_only=False)
    if share < 1:
        uids = pc.fill_null(flat(table["uid"]), "0" * 32)
        good &= uid_fraction(parse_uids(uids), SEED) < share
    return np.flatnonzero(good)


def _signals(plan: Plan, part: str) -> Iterator[tuple[str, pa.Array]]:
    """The numeric columns of the shard's measures."""
    for measure in plan.measures:
        names = [column.name for column in measure.columns() if _numeric(column.type)]
        if names:
            table = plan.store.read_part(measure.group, part, names)
            yield from ((name, flat(table[name])) for name in names)


def _cosines(plan: Plan, manifest: Mapping[str, Any], part: str) -> Iterator[tuple[str, pa.Array]]:
    """Of each step that has clusters, the rows' cosine to their centroid."""
    for step, group in manifest["relations"].items():
        table = plan.store.read_part(group, part)
        if "centroid_cosine" in table.column_names:
            yield step, flat(table["centroid_cosine"])


def _numeric(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _least_cosine(cosines: NDArray[Any]) -> float | None:
    """Below this cosine a row is far from all centroids; None where none was compared."""
    known = cosines[~np.isnan(cosines)]
    return float(np.quantile(known, FAR_SHARE)) if len(known) else None
