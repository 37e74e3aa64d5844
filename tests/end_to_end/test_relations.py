"""Comparing survivors from shards to verdicts: the same on every engine, order and partition."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.demo.pool import write_pool
from tests.pools import metadata_shard
from tests.running import ask, curate, files_of, plan_of

DEMO_MODEL = Path(__file__).parents[2] / "curate" / "demo" / "model"
RECIPE = f"""\
name: compare
measures: {{clip: {{model: 'local-dir:{DEMO_MODEL}'}}}}
filters:
  - drop_exact_duplicates: pixels
  - drop_copies: {{method: pdq, flips: true, at_most_bits: 20}}
  - drop_near_duplicates: {{cosine_above: 0.9, clusters: 3, probe: 2}}
  - prune_clusters: {{keep: 0.6, clusters: 4}}
output: {{shards: false, report: false}}
max_failed_fraction: 1
"""
METADATA = """\
name: compare
pool: {format: datacomp}
measures: {b32: {measure: datacomp_embeddings, model: b32}}
filters:
  - drop_near_duplicates: {embedding: b32_image, cosine_above: 0.87, clusters: 5}
  - prune_clusters: {embedding: b32_image, keep: 0.5, clusters: 4}
output: {report: false}
"""


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's pool: drawn pictures, many of them copies of others."""
    folder = tmp_path_factory.mktemp("compare")
    write_pool(folder, samples=240, shards=3)
    return folder / "shards"


def verdicts(store: Path) -> dict[str, Any]:
    rows = ask(store, "SELECT key, verdict, dropped_by, value, duplicate_of FROM samples")
    return {row["key"]: tuple(row.values()) for row in rows}


def test_two_workers_write_the_bytes_of_one(tmp_path: Path, shards: Path) -> None:
    one = curate(RECIPE, shards, tmp_path / "one", workers=1)
    two = curate(RECIPE, shards, tmp_path / "two", workers=2)
    assert one.counts == two.counts
    assert one.counts["keep"] > 0
    assert all(one.manifest["dropped_by"].values())
    ours, theirs = files_of(tmp_path / "one"), files_of(tmp_path / "two")
    compared = [
        name for name in ours if name.startswith(("ledger/", "artefacts/")) or name.endswith(".parquet")
    ]
    assert {name: ours[name] for name in compared} == {name: theirs[name] for name in compared}


def test_the_order_of_shards_changes_no_verdict(tmp_path: Path, shards: Path) -> None:
    curate(RECIPE, shards, tmp_path / "one")
    for old, new in (("00000", "9"), ("00001", "5"), ("00002", "7")):
        (tmp_path / "pool").mkdir(exist_ok=True)
        shutil.copy2(shards / f"{old}.tar", tmp_path / "pool" / f"{new}.tar")
    curate(RECIPE, tmp_path / "pool", tmp_path / "other", workers=2)
    assert verdicts(tmp_path / "other") == verdicts(tmp_path / "one")


def test_another_threshold_compares_nothing_again(tmp_path: Path, shards: Path) -> None:
    said: list[str] = []
    curate(RECIPE, shards, tmp_path / "store", said=said)
    assert "comparing survivors for drop_near_duplicates" in said
    groups = sorted(path.name for path in (tmp_path / "store/relations").iterdir())
    said.clear()
    looser = RECIPE.replace("cosine_above: 0.9", "cosine_above: 0.99").split("  - prune_clusters")[0]
    result = curate(looser, shards, tmp_path / "store", said=said)
    assert [text for text in said if "comparing" in text] == []
    assert sorted(path.name for path in (tmp_path / "store/relations").iterdir()) == groups
    assert set(result.manifest["relations"].values()) <= {f"relations/{name}" for name in groups}
    said.clear()
    target = RECIPE.replace("cosine_above: 0.9", "target_keep: 0.5").split("  - prune_clusters")[0]
    result = curate(target, shards, tmp_path / "store", said=said)
    assert [text for text in said if "comparing" in text] == []
    artefact = result.manifest["artefacts"]["drop_near_duplicates"]
    stopped = result.manifest["dropped_by"]["drop_near_duplicates"]
    assert artefact["compared"] - stopped >= artefact["wanted"]


def test_a_pool_cut_into_other_shards_has_the_same_verdicts(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(5, 512))
    vectors = centres[generator.integers(0, 5, 240)] + 0.4 * generator.normal(size=(240, 512))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    uids = [f"{word:032x}" for word in generator.permutation(10**6)[:240]]
    kept = []
    for name, pieces in (("two", 2), ("seven", 7)):
        for number, rows in enumerate(np.array_split(np.arange(240), pieces)):
            metadata_shard(tmp_path / name / f"{number:05d}.parquet", [{"uid": uids[row]} for row in rows])
            arrays = {"b32_img": vectors[rows], "b32_txt": vectors[rows]}
            np.savez(tmp_path / name / f"{number:05d}.npz", **arrays)
        result = curate(METADATA, tmp_path / name, tmp_path / f"store-{name}", workers=2)
        assert all(result.manifest["dropped_by"].values())
        rows = ask(
            tmp_path / f"store-{name}", "SELECT uid, verdict, dropped_by, value FROM samples ORDER BY uid"
        )
        kept.append([tuple(row.values()) for row in rows])
    assert kept[0] == kept[1]


def test_embeddings_that_nothing_writes_are_refused_before_any_work(tmp_path: Path, shards: Path) -> None:
    from filters.core.errors import MissingSignal

    with pytest.raises(MissingSignal, match="drop_near_duplicates compares the embeddings 'dino_image'"):
        plan_of(RECIPE.replace("{cosine_above", "{embedding: dino_image, cosine_above"), shards, tmp_path)
    bare = "name: bare\nfilters: [{drop_near_duplicates: 0.9}]\n"
    with pytest.raises(MissingSignal, match=r"add to `measures`: `clip: \{measure: clip"):
        plan_of(bare, shards, tmp_path)
