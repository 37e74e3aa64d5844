"""Why one sample was kept or dropped, read by its place: no column is scanned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from curate.explain import (
    LIKENESS,
    Explanation,
    Membership,
    Original,
    likeness_words,
    related,
    steps_of,
    vote_of,
)
from curate.explore.explorer import Explorer, count_labels
from filters.core.decide import Step
from filters.core.declaration import Columns
from filters.core.tags import declared_tags
from transforms.deciding import flat


def explain_row(explorer: Explorer, row: int) -> Explanation:
    """The explanation of a row of the decision, by its number: the same that `curate explain` gives."""
    decision = explorer.decision
    manifest = decision.manifest
    part = explorer.columns.parts[int(np.searchsorted(explorer.columns.bounds, row, side="right")) - 1]
    steps = steps_of(decision, part)
    relations = {step.name: manifest["relations"][step.name] for step in steps if step.rule.relation}
    groups = [*decision.groups(), f"ledger/{decision.ledger}"]
    read = explorer.reader
    tables = read.each(lambda group: read.row(row, group), [*groups, *relations.values()])
    columns: Columns = {}
    for table in tables[: len(groups)]:
        for name in table.column_names:
            columns.setdefault(name, flat(table[name]))
    sample = {name: column[0].as_py() for name, column in columns.items()}
    if sample["failure"] is not None:
        return Explanation(sample, ())
    for step, table in zip(relations, tables[len(groups) :], strict=True):
        columns |= {f"{step}/{name}": flat(table[name]) for name in table.column_names}
    columns["shard_number"] = pa.array([part["number"]], pa.int32())
    compared = [step for step in steps if step.name in relations]
    originals = [_original(explorer, step, columns, sample) for step in compared]
    clusters = [_membership(explorer, step, columns) for step in compared]
    return Explanation(
        sample,
        tuple(vote_of(step, columns, sample) for step in steps),
        tuple(one for one in originals if one is not None),
        tuple(one for one in clusters if one is not None),
        {name: sample[name] for name in declared_tags(step.rule for step in steps) if name in sample},
    )


def _original(explorer: Explorer, step: Step, columns: Columns, sample: dict[str, Any]) -> Original | None:
    """The earlier sample that this one was compared with."""
    uid = related(step, columns, "duplicate_of")
    if uid is None:
        return None
    rows = explorer.reader.of_uids([uid]).get(uid, [])
    place = (sample["shard"], sample["row"])
    others = [one for one in explorer.read(rows) if (one["shard"], one["row"]) != place]
    # A uid may stand in the pool twice: the one that the step let through comes first.
    others.sort(key=lambda one: one["dropped_by"] == step.name)
    said = {name: related(step, columns, name) for name in LIKENESS}
    found = others[0] if others else {"uid": uid}
    return Original(step.name, found, likeness_words(said), decided=sample["dropped_by"] == step.name)


def _membership(explorer: Explorer, step: Step, columns: Columns) -> Membership | None:
    """The cluster that the step put the sample in."""
    cluster = related(step, columns, "cluster_id")
    if cluster is None:
        return None
    labels = explorer.columns.clusters(f"{step.name}/cluster_id")
    code = labels.labels.index(str(cluster))
    kept = explorer.columns.held(("kept in", step.name), lambda: count_labels(labels, _kept(explorer)))
    samples = explorer.columns.held(("samples in", step.name), lambda: count_labels(labels, None))
    about = {"cluster_id": cluster, "samples": int(samples[code]), "kept": int(kept[code])}
    return Membership(step.name, {**about, "kept_share": about["kept"] / about["samples"]})


def _kept(explorer: Explorer) -> Any:
    verdicts = explorer.columns.categories("verdict")
    return (
        verdicts.codes == verdicts.labels.index("keep") if "keep" in verdicts.labels else verdicts.codes < -1
    )
