"""DataComp metadata: Parquet with scores, npz with embeddings, and no picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.pools import metadata_shard
from tests.transforms.reading import measure, named, shards_of
from transforms.measuring import ShardReport
from transforms.pool import PoolOptions, Shard
from transforms.samples import samples_measure
from transforms.store import Store

COLUMNS = named("datacomp_columns")
EMBEDDINGS = named("datacomp_embeddings", "clip", model="b32")
QUICK = PoolOptions(retry_seconds=(0.0,))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.at(str(tmp_path / "store"))


def npz(path: Path, rows: int = 3, **more: Any) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    arrays = {}
    for name, width in (("b32_img", 512), ("b32_txt", 512), ("l14_img", 768), ("l14_txt", 768)):
        values = generator.normal(size=(rows, width))
        arrays[name] = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float16)
    arrays |= more
    np.savez(path, **arrays)
    return arrays


def run(store: Store, path: Path, *measures: Any) -> tuple[Shard, ShardReport]:
    (shard,) = shards_of(path)
    (report,) = measure(store, [shard], *measures, options=QUICK)
    return shard, report


def samples_of(store: Store, shard: Shard) -> pa.Table:
    return store.read_part(samples_measure(QUICK).group, shard.part)


def test_scores_sizes_and_embeddings_are_taken_over(store: Store, tmp_path: Path) -> None:
    rows = [{"clip_b32_similarity_score": 0.25, "original_width": 10}, {}, {"text": "ünï"}]
    path = metadata_shard(tmp_path / "0.parquet", rows)
    arrays = npz(tmp_path / "0.npz")
    shard, report = run(store, path, COLUMNS, EMBEDDINGS)
    assert (report.rows, report.failed_rows, report.failure, report.measured) == (
        *(3, 0, None),
        ("clip", "datacomp_columns", "samples"),
    )
    assert store.read_part(COLUMNS.group, shard.part).to_pylist()[0] == {
        "width": 10,
        "height": 300,
        "clip_b32_cosine": 0.25,
        "clip_l14_cosine": pytest.approx(0.3),
    }
    for kind in ("img", "txt"):
        found = store.read_array(EMBEDDINGS.embeddings(kind, shard.part))
        assert found.dtype == np.float16
        assert np.array_equal(found, arrays[f"b32_{kind}"])
    norms = store.read_part(EMBEDDINGS.group, shard.part)["clip_norm"].to_numpy()
    assert np.allclose(norms, 1, atol=1e-3)
    samples = samples_of(store, shard).to_pylist()
    assert [row["uid"] for row in samples] == [f"{at:032x}" for at in range(3)]
    assert (samples[2]["caption"], samples[2]["row"], samples[2]["shard"]) == ("ünï", 2, str(path))
    assert (samples[2]["image_bytes"], samples[2]["sample_offset"]) == (None, 2)


def test_a_null_text_is_a_row_that_failed(store: Store, tmp_path: Path) -> None:
    path = metadata_shard(tmp_path / "0.parquet", [{}, {"text": None}])
    shard, report = run(store, path, COLUMNS)
    assert (report.rows, report.failed_rows) == (2, 1)
    assert samples_of(store, shard)["failure"].to_pylist() == [None, "missing_caption"]
    failures = store.read_part(f"failures/{samples_measure(QUICK).folder}", shard.part).to_pylist()
    assert [(row["row"], row["code"], row["offset"]) for row in failures] == [(1, "missing_caption", 1)]


def test_columns_that_are_missing_are_null(store: Store, tmp_path: Path) -> None:
    pq.write_table(pa.table({"uid": ["0" * 32], "text": ["x"]}), tmp_path / "0.parquet")
    shard, report = run(store, tmp_path / "0.parquet", COLUMNS)
    assert report.failure is None
    row = dict.fromkeys(("width", "height", "clip_b32_cosine", "clip_l14_cosine"))
    assert store.read_part(COLUMNS.group, shard.part).to_pylist() == [row]
    assert samples_of(store, shard)["url"].to_pylist() == [None]


def test_other_number_types_become_ours(store: Store, tmp_path: Path) -> None:
    table = {"uid": ["F" * 32], "text": ["x"], "original_width": pa.array([640], pa.int64())}
    embeddings = np.eye(1, 512, dtype=np.float32)
    np.savez(tmp_path / "0.npz", b32_img=embeddings, b32_txt=embeddings)
    pq.write_table(pa.table(table), tmp_path / "0.parquet")
    shard, _ = run(store, tmp_path / "0.parquet", COLUMNS, EMBEDDINGS)
    assert store.read_part(COLUMNS.group, shard.part).schema.field("width").type == pa.int32()
    assert store.read_array(EMBEDDINGS.embeddings("img", shard.part)).dtype == np.float16
    assert samples_of(store, shard)["uid"].to_pylist() == ["f" * 32]


def broken(store: Store, path: Path, *measures: Any) -> tuple[str | None, str]:
    shard, report = run(store, path, *measures)
    assert not report.complete
    failures = store.read_part(f"failures/{samples_measure(QUICK).folder}", shard.part).to_pylist()
    assert [(row["row"], row["code"]) for row in failures] == [(None, report.failure)]
    return report.failure, report.detail


def test_embeddings_without_an_npz_can_not_be_had(store: Store, tmp_path: Path) -> None:
    path = metadata_shard(tmp_path / "0.parquet", [{}])
    assert run(store, path, COLUMNS)[1].failure is None  # nobody asks for them
    code, detail = broken(store, path, EMBEDDINGS)
    assert (code, detail) == (
        "shard_unreadable",
        "SkipShard: no .npz beside the Parquet file, and so no embeddings",
    )


def test_an_npz_with_other_rows_is_refused(store: Store, tmp_path: Path) -> None:
    path = metadata_shard(tmp_path / "0.parquet", [{}, {}])
    npz(tmp_path / "0.npz", rows=3)
    code, detail = broken(store, path, EMBEDDINGS)
    assert (code, detail) == ("shard_unreadable", "SkipShard: b32_img has 3 rows, the Parquet file 2")


@pytest.mark.parametrize("content", [b"", b"no npz at all", b"PK\x03\x04 broken"])
def test_a_broken_npz_is_unreadable(store: Store, tmp_path: Path, content: bytes) -> None:
    path = metadata_shard(tmp_path / "0.parquet", [{}])
    (tmp_path / "0.npz").write_bytes(content)
    code, detail = broken(store, path, EMBEDDINGS)
    assert code == "shard_unreadable"
    assert "the .npz beside the Parquet file has no b32 embeddings" in detail


def test_an_npz_without_the_model_is_unreadable(store: Store, tmp_path: Path) -> None:
    path = metadata_shard(tmp_path / "0.parquet", [{}])
    np.savez(tmp_path / "0.npz", l14_img=np.ones((1, 768)))
    assert "has no b32 embeddings" in broken(store, path, EMBEDDINGS)[1]


@pytest.mark.parametrize("uid", [None, "", "xyz", "g" * 32])
def test_a_uid_that_is_none_makes_the_shard_unreadable(store: Store, tmp_path: Path, uid: str | None) -> None:
    path = metadata_shard(tmp_path / "0.parquet", [{}, {"uid": uid}])
    code, detail = broken(store, path, COLUMNS)
    assert code == "shard_unreadable"
    assert "a uid is 32 hex digits" in detail


def test_missing_columns_are_named(store: Store, tmp_path: Path) -> None:
    pq.write_table(pa.table({"uid": ["0" * 32], "words": ["x"]}), tmp_path / "1.parquet")
    metadata_shard(tmp_path / "0.parquet", [{}])
    reports = measure(store, shards_of(tmp_path), COLUMNS, options=QUICK)
    assert [(report.complete, report.detail) for report in reports] == [
        (True, ""),
        (False, "SkipShard: DataComp metadata without text"),
    ]


def test_a_missing_shard_is_recorded_and_found_again(store: Store, tmp_path: Path) -> None:
    metadata_shard(tmp_path / "0.parquet", [{}])
    shards = shards_of(tmp_path / "{0..1}.parquet")
    reports = measure(store, shards, COLUMNS, options=QUICK)
    assert [(report.failure, report.complete) for report in reports] == [
        (None, True),
        ("shard_missing", False),
    ]
    metadata_shard(tmp_path / "1.parquet", [{}, {}])
    again = measure(store, shards_of(tmp_path / "{0..1}.parquet"), COLUMNS, options=QUICK)
    assert [(report.rows, report.measured) for report in again] == [
        (1, ()),
        (2, ("datacomp_columns", "samples")),
    ]


def test_a_truncated_parquet_is_unreadable(store: Store, tmp_path: Path) -> None:
    metadata_shard(tmp_path / "0.parquet", [{}])
    path = metadata_shard(tmp_path / "1.parquet", [{}])
    path.write_bytes(path.read_bytes()[:-20])
    reports = measure(store, shards_of(tmp_path), COLUMNS, options=QUICK)
    assert [report.failure for report in reports] == [None, "shard_unreadable"]


def test_captions_are_measured_as_in_any_pool(store: Store, tmp_path: Path) -> None:
    path = metadata_shard(tmp_path / "0.parquet", [{"text": "four words are here"}, {"text": None}])
    facts = named("caption_facts")
    shard, _ = run(store, path, COLUMNS, facts)
    assert store.read_part(facts.group, shard.part)["caption_words"].to_pylist() == [4, None]
