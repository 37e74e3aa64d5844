"""Semantic deduplication: the published rule, whatever the parts, lots, blocks and tiles."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from filters.core.errors import StoreError
from filters.core.uids import format_uids
from filters.drop_near_duplicates import DropNearDuplicates
from tests.relating import compared, cut, relate, scope_of
from transforms.clustering import unit_rows
from transforms.relating import find_relation

WIDTH = 16


def pool(count: int, *, seed: int = 0) -> dict[str, Any]:
    """Rows around a few centres, so that many are near each other; a signal with gaps."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(6, WIDTH))
    vectors = centres[generator.integers(0, 6, count)] + 0.3 * generator.normal(size=(count, WIDTH))
    uids = generator.integers(0, 2**64, (count, 2), dtype=np.uint64)
    score = np.where(generator.random(count) < 0.1, np.nan, generator.random(count))
    return {
        "uid": format_uids(uids),
        "clip_cosine": score,
        "vectors": unit_rows(vectors.astype(np.float32))[0].astype(np.float16),
        "failure": [None if good else "timeout" for good in generator.random(count) < 0.95],
    }


def by_uid(parts: Sequence[dict[str, Any]], found: Sequence[dict[str, list[Any]]]) -> dict[str, Any]:
    return {
        uid: tuple(written[name][at] for name in sorted(written))
        for part, written in zip(parts, found, strict=True)
        for at, uid in enumerate(part["uid"])
    }


def order_of(keep: str, rows: dict[str, Any], cosine: np.ndarray[Any, Any], seed: int) -> list[Any]:
    if keep == "farthest":
        return [(-(np.float32(1) - value), uid) for value, uid in zip(cosine, rows["uid"], strict=True)]
    if keep == "nearest":
        return [(np.float32(1) - value, uid) for value, uid in zip(cosine, rows["uid"], strict=True)]
    score = np.nan_to_num(rows["clip_cosine"], nan=-np.inf).astype(np.float32)
    del seed
    return [(-value, uid) for value, uid in zip(score, rows["uid"], strict=True)]


@pytest.mark.parametrize("keep", ["farthest", "nearest", "best"])
@pytest.mark.parametrize("probe", [1, 2])
def test_the_nearest_earlier_row_of_the_cluster_as_by_brute_force(
    tmp_path: Path, keep: str, probe: int
) -> None:
    rows = pool(400)
    by = {"by": "clip_cosine"} if keep == "best" else {}
    rule = DropNearDuplicates(cosine_above=0.9, clusters=5, keep=keep, probe=probe, **by)
    scope, parts = scope_of(tmp_path, rule, [rows])
    relate(scope, parts)
    found = scope.store.read_part(scope.group, "p0").to_pydict()
    centroids = np.load(scope.folder.path("artefacts/r-centroids.npy"))
    assert centroids.shape == (5, WIDTH)
    alive = np.array([failure is None for failure in rows["failure"]])
    assert found["compared"] == alive.tolist()
    vectors, _ = unit_rows(np.array(rows["vectors"]))
    products = vectors @ centroids.T
    probed = np.argsort(-products, axis=1, kind="stable")[:, :probe]
    own = np.array([value or 0 for value in found["centroid_cosine"]], np.float32)
    assert np.allclose(own[alive], products.max(axis=1)[alive], atol=1e-6)
    assert [int(cluster) for cluster in probed[alive, 0]] == [
        cluster for cluster in found["cluster_id"] if cluster is not None
    ]
    order = order_of(keep, rows, own, 0)
    for j in np.flatnonzero(alive):
        earlier = [
            i
            for i in np.flatnonzero(alive)
            if order[i] < order[j] and set(probed[i].tolist()) & set(probed[j].tolist())
        ]
        cosines = vectors[earlier] @ vectors[j]
        best = max([0.0, *cosines.tolist()])
        assert found["nearest_cosine"][j] == pytest.approx(best, abs=3e-6)
        if best > 0:
            near = [rows["uid"][earlier[at]] for at in np.flatnonzero(cosines > best - 3e-6)]
            assert found["duplicate_of"][j] in near
        else:
            assert found["duplicate_of"][j] is None


@pytest.mark.parametrize("probe", [1, 2])
def test_nothing_depends_on_shards_lots_blocks_or_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, probe: int
) -> None:
    rows = pool(600, seed=3)
    rule = DropNearDuplicates(cosine_above=0.9, clusters=8, probe=probe, training_samples=300)
    whole = by_uid([rows], compared(tmp_path / "whole", rule, [rows]))
    monkeypatch.setattr("transforms.exchange.LOT_ROWS_AT_LEAST", 50)
    monkeypatch.setattr("transforms.exchange.BLOCK_BYTES_AT_LEAST", 1000)
    monkeypatch.setattr("transforms.exchange.RANGE_BYTES_AT_LEAST", 100)
    shuffled = np.random.default_rng(1).permutation(600)
    for name, pieces in {
        "three": np.array_split(shuffled, 3),
        "seven": [*np.array_split(np.arange(600), 6), np.arange(0)],
        "swapped": [np.arange(300, 600), np.arange(300)],
    }.items():
        parts = cut(rows, pieces)
        found = compared(tmp_path / name, rule, parts, workers=len(pieces), seed=len(pieces))
        assert by_uid(parts, found) == whole


@pytest.mark.parametrize("hot", [64, 100])
def test_a_hot_cluster_in_tiles_is_the_same_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hot: int
) -> None:
    rows = pool(700, seed=5)
    rows["vectors"][100:400] = rows["vectors"][7]  # copies of one icon
    rule = DropNearDuplicates(cosine_above=0.9, clusters=4)
    parts = cut(rows, np.array_split(np.arange(700), 3))
    whole = compared(tmp_path / "whole", rule, parts)
    monkeypatch.setattr("transforms.relations.near_duplicates.NearDuplicates.hot_rows", hot)
    monkeypatch.setattr("transforms.comparing.HOT_TILES", 3)
    scope, decided = scope_of(tmp_path / "tiled", rule, parts)
    relate(scope, decided)
    tiled = [scope.store.read_part(scope.group, part.part).to_pydict() for part in decided]
    assert tiled == whole


def test_what_crosses_an_engine_is_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transforms.exchange.LOT_ROWS_AT_LEAST", 50)
    rows = pool(600, seed=3)
    rule = DropNearDuplicates(cosine_above=0.9, clusters=8)
    scope, parts = scope_of(tmp_path, rule, cut(rows, np.array_split(np.arange(600), 6)), workers=2)
    relation = find_relation(scope)
    crossing = 0
    for stage in relation.stages:
        for task in relation.waiting(stage, parts):
            crossing += len(pickle.dumps(task))
            relation.perform(stage, task)
    assert crossing / 600 < 20  # bytes for each row; an embedding alone has 32


def test_an_object_store_gives_what_a_folder_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = cut(pool(300, seed=11), np.array_split(np.arange(300), 3))
    rule = DropNearDuplicates(cosine_above=0.9, clusters=4, probe=2)
    monkeypatch.setattr("transforms.relations.near_duplicates.NearDuplicates.hot_rows", 120)
    local = compared(tmp_path, rule, parts)
    assert compared(f"memory://{tmp_path.name}", rule, parts, workers=2) == local


def test_rows_without_a_direction_are_not_compared_and_change_no_neighbour(tmp_path: Path) -> None:
    rows = pool(120, seed=7)
    rows["failure"] = [None] * 120
    rule = DropNearDuplicates(cosine_above=0.9, clusters=1)
    clean = compared(tmp_path / "clean", rule, cut(rows, [range(100)]))[0]
    rows["vectors"][100:110] = 0
    rows["vectors"][110:, 3] = np.nan
    spoilt = compared(tmp_path / "spoilt", rule, [rows])[0]
    assert spoilt["compared"] == [True] * 100 + [False] * 20
    assert spoilt["nearest_cosine"][100:] == [None] * 20
    assert {name: values[:100] for name, values in spoilt.items()} == clean


def test_lengths_do_not_matter(tmp_path: Path) -> None:
    rows = pool(80, seed=8)
    rule = DropNearDuplicates(cosine_above=0.9, clusters=2)
    unit = compared(tmp_path / "unit", rule, [rows])[0]
    scaled = compared(tmp_path / "scaled", rule, [{**rows, "vectors": rows["vectors"] * np.float16(4)}])[0]
    assert scaled == unit


def test_identical_rows_leave_the_smallest_uid(tmp_path: Path) -> None:
    rows = pool(50, seed=9)
    rows["vectors"][:] = rows["vectors"][0]
    rows["failure"] = [None] * 50
    (found,) = compared(tmp_path, DropNearDuplicates(cosine_above=0.9, clusters=3), [rows])
    smallest = min(rows["uid"])
    assert [uid for uid, value in zip(rows["uid"], found["nearest_cosine"], strict=True) if value == 0] == [
        smallest
    ]
    assert {uid for uid in found["duplicate_of"] if uid} == {smallest}
    assert set(found["nearest_cosine"]) == {0.0, 1.0}


def test_more_clusters_than_rows_and_no_rows(tmp_path: Path) -> None:
    rows = pool(5, seed=1)
    rows["failure"] = [None] * 5
    rule = DropNearDuplicates(cosine_above=0.9, clusters=50)
    (found,) = compared(tmp_path / "few", rule, [rows])
    assert found["nearest_cosine"] == [0.0] * 5
    dead = {**rows, "failure": ["timeout"] * 5}
    empty = {name: values[:0] for name, values in rows.items()}
    found = compared(tmp_path / "none", rule, [dead, empty])
    assert found[0]["nearest_cosine"] == [None] * 5
    assert found[1]["nearest_cosine"] == []


def test_embeddings_of_two_encoders_are_an_error(tmp_path: Path) -> None:
    rows = pool(40, seed=2)
    narrow = {**pool(40, seed=3), "vectors": np.ones((40, 8), np.float16)}
    with pytest.raises(StoreError, match="embeddings clip_image"):
        compared(tmp_path, DropNearDuplicates(cosine_above=0.9, clusters=2), [rows, narrow])


def test_embeddings_that_do_not_match_the_part_are_an_error(tmp_path: Path) -> None:
    rows = pool(40, seed=2)
    with pytest.raises(StoreError, match=r"embeddings/e/p0.npy has shape \(39, 16\).*measure it again"):
        compared(
            tmp_path,
            DropNearDuplicates(cosine_above=0.9, clusters=2),
            [{**rows, "vectors": rows["vectors"][:39]}],
        )
