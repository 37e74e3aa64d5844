"""Survivors of earlier runs: new rows are compared with them, and nothing decided changes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from filters.core.decide import Step
from filters.core.errors import RecipeError, StoreError
from filters.drop_near_duplicates import DropNearDuplicates
from tests.relating import cut, relate, scope_of
from tests.transforms.relations.test_near_duplicates import pool
from transforms.clustering import unit_rows
from transforms.deciding import DecidePart, decide_part
from transforms.relating import Scope
from transforms.states import Finished, State, save_state

ABOVE = 0.93


def decided(
    folder: Path, rule: DropNearDuplicates, parts: list[dict[str, Any]]
) -> tuple[Finished, list[dict[str, list[Any]]]]:
    """Relates and decides; returns the finished step and the relation columns."""
    scope, found = scope_of(folder, rule, parts)
    relate(scope, found)
    step = Step("step", rule, rule.start())
    config = replace(scope.config, steps=(step,))
    for part in found:
        decide_part(config, part)
    columns = [scope.store.read_part(scope.group, part.part).to_pydict() for part in found]
    return finished(scope, found), columns


def finished(scope: Scope, parts: list[DecidePart]) -> Finished:
    told = [{"part": part.part, "rows": part.rows} for part in parts]
    return Finished(scope.store, "l", "step", [], scope.group, "embeddings/e", told)


def empty_like(state: Path, other: Path) -> Path:
    """A state with the same clusters and no survivors."""
    other.mkdir()
    about = json.loads((state / "state.json").read_text())
    (other / "state.json").write_text(json.dumps({**about, "batches": []}))
    (other / "centroids.npy").write_bytes((state / "centroids.npy").read_bytes())
    return other


@pytest.mark.parametrize("probe", [1, 2])
def test_one_batch_on_an_empty_state_is_the_one_shot_result(tmp_path: Path, probe: int) -> None:
    parts = cut(pool(300), np.array_split(np.arange(300), 2))
    rule = DropNearDuplicates(cosine_above=ABOVE, clusters=4, probe=probe)
    done, whole = decided(tmp_path / "whole", rule, parts)
    save_state(done, str(tmp_path / "state"))
    empty = empty_like(tmp_path / "state", tmp_path / "empty")
    _, again = decided(tmp_path / "again", rule.model_copy(update={"state": str(empty)}), parts)
    assert again == whole


def test_a_second_batch_follows_the_rule_of_one_after_the_other(tmp_path: Path) -> None:
    rows = pool(500, seed=2)
    old, new = cut(rows, [range(300)]), cut(rows, [range(300, 400), range(400, 500)])
    rule = DropNearDuplicates(cosine_above=ABOVE, clusters=3)
    done, first = decided(tmp_path / "first", rule, old)
    about = save_state(done, str(tmp_path / "state"))
    kept = [
        at for at in range(300) if first[0]["compared"][at] and not first[0]["nearest_cosine"][at] > ABOVE
    ]
    assert sum(batch["rows"] for batch in about["batches"]) == len(kept)
    _, second = decided(tmp_path / "second", rule.model_copy(update={"state": str(tmp_path / "state")}), new)
    vectors, _ = unit_rows(np.array(rows["vectors"]))
    found = {name: second[0][name] + second[1][name] for name in second[0]}
    clusters = {at: first[0]["cluster_id"][at] for at in kept}
    alive = [at for at in range(200) if found["compared"][at]]
    order = {at: (found["centroid_cosine"][at], rows["uid"][300 + at]) for at in alive}
    older = 0
    for at in alive:
        known = [other for other in kept if clusters[other] == found["cluster_id"][at]]
        known += [
            300 + other
            for other in alive
            if order[other] < order[at] and found["cluster_id"][other] == found["cluster_id"][at]
        ]
        cosines = vectors[known] @ vectors[300 + at]
        best = max([0.0, *cosines.tolist()])
        assert found["nearest_cosine"][at] == pytest.approx(best, abs=3e-6)
        near = {rows["uid"][known[place]] for place in np.flatnonzero(cosines > best - 3e-6)}
        assert found["duplicate_of"][at] in (near if best > 0 else {None})
        older += bool(near & {rows["uid"][other] for other in kept})
    assert older > 30


def test_a_state_grows_and_one_decision_counts_once(tmp_path: Path) -> None:
    rule = DropNearDuplicates(cosine_above=ABOVE, clusters=3)
    done, _ = decided(tmp_path / "a", rule, cut(pool(200, seed=3), [range(100), range(100, 200)]))
    target = str(tmp_path / "state")
    about = save_state(done, target)
    assert save_state(done, target) == about
    assert save_state(replace(done, parts=done.parts[:0]), target) == about
    with_state = rule.model_copy(update={"state": target})
    new, _ = decided(tmp_path / "b", with_state, cut(pool(100, seed=4), [range(100)]))
    new.store.folder.fs.mv(
        new.store.folder.path("ledger/l"), new.store.folder.path("ledger/m"), recursive=True
    )
    grown = save_state(replace(new, ledger="m"), target)
    assert [batch["ledger"] for batch in grown["batches"]] == ["l", "m"]
    assert State.at(target).identity != ""
    sizes = []
    for cluster in range(3):
        with State.at(target).survivors(cluster) as records:
            sizes.append(len(records))
    assert sum(sizes) == sum(batch["rows"] for batch in grown["batches"])


def test_what_a_later_step_dropped_had_survived(tmp_path: Path) -> None:
    done, _ = decided(tmp_path, DropNearDuplicates(cosine_above=1, clusters=1), [pool(20, seed=5)])
    table = done.store.read_part("ledger/l", "p0")
    kept = table["verdict"].cast(pa.string()).to_pylist().count("keep")
    assert len(done.survivors("p0")[0]) == kept
    blamed = table.set_column(
        table.column_names.index("dropped_by"), "dropped_by", pa.array(["later"] * 20)
    ).set_column(table.column_names.index("verdict"), "verdict", pa.array(["drop"] * 20))
    done.store.write_part("ledger/l", "p0", blamed, marker={})
    assert len(done.survivors("p0")[0]) == 0
    assert len(replace(done, later=["later"]).survivors("p0")[0]) == kept


def test_a_state_that_does_not_fit_says_so(tmp_path: Path) -> None:
    rule = DropNearDuplicates(cosine_above=ABOVE, clusters=3, state=str(tmp_path / "none"))
    with pytest.raises(RecipeError, match=r"holds no state \(no state.json\): make one with `curate state`"):
        decided(tmp_path / "a", rule, [pool(50)])
    done, _ = decided(tmp_path / "b", DropNearDuplicates(cosine_above=ABOVE, clusters=3), [pool(50)])
    save_state(done, str(tmp_path / "state"))
    other, _ = decided(tmp_path / "c", DropNearDuplicates(cosine_above=ABOVE, clusters=2), [pool(50)])
    with pytest.raises(StoreError, match="has other clusters or embeddings than the step step"):
        save_state(other, str(tmp_path / "state"))
    about = json.loads((tmp_path / "state/state.json").read_text())
    (tmp_path / "state/state.json").write_text(json.dumps({**about, "embeddings": "embeddings/x/img"}))
    fits = DropNearDuplicates(cosine_above=ABOVE, state=str(tmp_path / "state"))
    with pytest.raises(RecipeError, match="compare embeddings of one encoder, under one name"):
        decided(tmp_path / "d", fits, [pool(50)])
    (tmp_path / "state/state.json").write_text(json.dumps({**about, "curate_state": 9}))
    with pytest.raises(RecipeError, match="is a state of version 9, this Curate reads 1"):
        decided(tmp_path / "e", fits, [pool(50)])
