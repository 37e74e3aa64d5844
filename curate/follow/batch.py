"""One batch of a continuous run: its shards measured, compared, decided, written, and committed.

    follow/<ledger>/batch.json           the shards of the batch under way; written before any work
    follow/<ledger>/facts/<part>.json    what drift is measured with
    follow/<ledger>/memory/<step>/       what the step has kept so far, see `transforms.memory`

The manifest of the ledger, replaced once all else is written, is the only commit. A batch that was
killed is done again with the same shards, the same numbers and so the same bytes. What is remembered
of a batch is added when the next one needs it, from the committed ledger alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from curate.follow.calibration import Calibration, read_calibration
from curate.follow.ledger import Ledger, committed_batches
from curate.follow.reference import shard_facts
from curate.pipeline import Flow
from curate.plan import with_shards
from curate.run import (
    add_up,
    decide_config,
    layout_of,
    make_manifest,
    measure_lacking,
    readable_parts,
    write_config,
)
from filters.core.decide import Step
from transforms.deciding import DecideConfig, DecidePart, PartCounts
from transforms.fingerprints import fingerprint
from transforms.memory import Memory
from transforms.pool import Shard
from transforms.relating import Relation, find_relation
from transforms.relating import Scope as RelationScope
from transforms.states import passed_step
from transforms.storage import Folder
from transforms.writing import plan_shards


def run_batch(flow: Flow, calibration: Calibration, shards: Sequence[Shard]) -> dict[str, Any]:
    """Takes a batch to its commit; returns the new manifest. The caller holds the store's lock.

    flow: its plan's shards do not matter. shards: in the order of their arrival; a batch that was
        begun before goes on with its own, and its own calibration.
    """
    ledger = Ledger(flow.plan.store.folder, flow.plan.continuous_id)
    before = ledger.manifest()
    batch = committed_batches(before) + 1
    begun = ledger.begun()
    if begun is None:
        described = [
            {"uri": one.uri, "part": one.part, "format": one.format, "size": one.size} for one in shards
        ]
        content = {"batch": batch, "calibration": calibration.number, "shards": described}
        ledger.folder.write_json(ledger.file("batch.json"), content)
    else:
        storage = flow.plan.recipe.file.pool.storage_options
        shards = [Shard(number=at, options=storage, **one) for at, one in enumerate(begun["shards"])]
        if begun["calibration"]:
            calibration = read_calibration(flow.plan.store, ledger.name, begun["calibration"])
    flow = replace(flow, plan=with_shards(flow.plan, shards))
    parts, failed = readable_parts(flow.plan, measure_lacking(flow), _decided(before))
    config = decide_config(flow.plan, ledger.name)
    config = _prepare(flow, _Place(ledger, batch, calibration, before), config, parts)
    counts = flow.decide(config, parts) if parts else []
    found = make_manifest(flow.plan, config, counts, failed)
    found = _joined(before, found, batch, calibration.number)
    for part in parts:
        facts = shard_facts(flow.plan, found, part.part, calibration.reference)
        facts["calibration"] = calibration.number
        ledger.folder.write_json(ledger.file(f"facts/{part.part}.json"), facts)
    found["follow"]["curated"] = _write(flow, found, counts, _curated(before))
    ledger.folder.write_json(f"ledger/{ledger.name}/manifest.json", found)
    return found


def _decided(manifest: Mapping[str, Any] | None) -> int:
    return 0 if manifest is None else len(manifest["parts"])


def _curated(manifest: Mapping[str, Any] | None) -> int:
    return 0 if manifest is None else int(manifest["follow"]["curated"])


# --- comparing


@dataclass(frozen=True)
class _Place:
    """Where a batch stands; before: what was committed before it."""

    ledger: Ledger
    batch: int
    calibration: Calibration
    before: Mapping[str, Any] | None


def _prepare(flow: Flow, place: _Place, config: DecideConfig, parts: Sequence[DecidePart]) -> DecideConfig:
    """Brings every step to where it can judge: with the calibration's artefacts, survivors compared."""
    ready: list[Step] = []
    for step in config.steps:
        if step.rule.relation is not None:
            group = f"relations/{fingerprint(['continuous', place.ledger.name, step.name])}"
            config = replace(config, relations={**config.relations, step.name: group})
            scope = RelationScope(
                config,
                tuple(ready),
                step.name,
                step.rule,
                group,
                sum(part.rows for part in parts),
                flow.engine.workers,
                place.batch,
                place.calibration.centroids(step.name),
            )
            _relate(flow, place, scope, parts)
        ready.append(place.calibration.applied(step))
    return replace(config, steps=tuple(ready))


def _relate(flow: Flow, place: _Place, scope: RelationScope, parts: Sequence[DecidePart]) -> None:
    """Compares the batch's survivors with what was kept before, and with one another."""
    if find_relation(scope).remembers:
        name = f"{scope.folder.url}/{place.ledger.file(f'memory/{scope.name}')}"
        scope = replace(scope, memory=Folder(name, scope.folder.options))
        _remember(flow, place, find_relation(scope))
    relation = find_relation(scope)
    if parts and not relation.complete():
        flow.say(f"comparing survivors for {scope.name}")
        flow.relate(relation, parts)
    if scope.centroids is not None and _calibrated_by(place.before) != place.calibration.number:
        # Reports and the explorer look for a relation's clusters under its own name.
        shown = f"artefacts/{scope.group.rpartition('/')[2]}-centroids.npy"
        scope.folder.write_array(shown, scope.store.read_array(scope.centroids))


def _calibrated_by(manifest: Mapping[str, Any] | None) -> int | None:
    return None if manifest is None else int(manifest["follow"]["calibration"])


def _remember(flow: Flow, place: _Place, relation: Relation) -> None:
    """Adds to the memory what the committed batches have kept and it does not hold yet."""
    scope = relation.scope
    if scope.memory is None:
        raise TypeError(scope.name)
    memory = Memory(scope.memory)
    # Clusters of another calibration: everything is sorted anew.
    identity = fingerprint([scope.group, scope.centroids, type(relation).version])
    last = memory.begin(identity, relation.remembered_keys(), relation.remembered_type) or 0
    missing: dict[int, list[DecidePart]] = {}
    for part in place.before["parts"] if place.before is not None else ():
        if part["batch"] > last:
            one = DecidePart(part["part"], part["number"], part["rows"])
            missing.setdefault(part["batch"], []).append(one)
    names = [step.name for step in flow.plan.recipe.steps]
    later = names[names.index(scope.name) + 1 :]
    for batch, parts in sorted(missing.items()):
        found = []
        for part in parts:
            decided = scope.store.read_part(scope.config.ledger, part.part, ["verdict", "dropped_by"])
            found.append(relation.remembered(part, np.flatnonzero(passed_step(decided, later))))
        records = np.concatenate([some for some, _ in found])
        keys = np.concatenate([some for _, some in found])
        # By uid within a key, so that neither shards nor their order show.
        order = np.lexsort((records["uid"][:, 1], records["uid"][:, 0]))
        memory.add(batch, records[order], keys[order])


# --- committing


def _joined(
    before: Mapping[str, Any] | None, found: dict[str, Any], batch: int, calibration: int
) -> dict[str, Any]:
    """The manifest of all that was decided, now with this batch."""
    for part in found["parts"]:
        part["batch"], part["calibration"] = batch, calibration
    for lost in found["failed_shards"]:
        lost["batch"] = batch
    follow = {"batches": batch, "calibration": calibration}
    if before is None:
        return {**found, "follow": follow}
    tried = {part["uri"] for part in found["parts"]} | {lost["shard"] for lost in found["failed_shards"]}
    overlap = np.array(before["overlap"], np.int64) + np.array(found["overlap"], np.int64)
    return {
        **found,
        "rows": before["rows"] + found["rows"],
        "verdicts": add_up([before["verdicts"], found["verdicts"]]),
        "dropped_by": add_up([before["dropped_by"], found["dropped_by"]]),
        "overlap": overlap.tolist(),
        "parts": [*before["parts"], *found["parts"]],
        "failed_shards": [
            *(lost for lost in before["failed_shards"] if lost["shard"] not in tried),
            *found["failed_shards"],
        ],
        "follow": follow,
    }


def _write(flow: Flow, manifest: Mapping[str, Any], counts: Sequence[PartCounts], first: int) -> int:
    """Writes the batch's curated shards behind those that are there; returns how many there are then."""
    plan, output = flow.plan, flow.plan.recipe.file.output
    if not output.shards or not plan.has_images:
        return first
    config = write_config(plan, manifest)
    size = output.samples_per_shard
    folder, name = plan.store.folder, f"{config.target}/layout.json"
    shards = {shard.part: shard for shard in plan.shards}
    found = [replace(one, number=one.number + first) for one in plan_shards(counts, shards, size)]
    layout = folder.read_json(name) if folder.exists(name) else layout_of(output)
    # A tar that is not full counts like one that has lost the rest: so all places follow from the
    # layout, for `curate remove` too.
    removed = {at: many for at, many in layout.get("removed", {}).items() if int(at) < first}
    removed |= {str(one.number): size - one.samples for one in found if one.samples < size}
    folder.write_json(name, {**layout, "removed": removed})
    if found:
        flow.say(f"writing {len(found)} curated shards")
        flow.write(config, found)
    return first + len(found)
