"""The index says what it is over and how good it is; one over other parts is not used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.encoder_of import find_embedding
from curate.search.engine import SearchEngine
from curate.search.index import Settings, build_index, read_index
from filters.core.errors import StoreError
from tests.pools import write_tar
from tests.running import curate, files_of
from tests.search.conftest import METADATA, PICTURES, all_embeddings, embedded_shard, opened

LISTS = Settings(exact_below=1000, questions=40)


@pytest.fixture
def store(embedded: Path, tmp_path: Path) -> Path:
    """A copy of the larger store, to write to."""
    shutil.copytree(embedded, tmp_path / "store")
    return tmp_path / "store"


def built(store: Path | str, settings: Settings | None = None, name: str = "clip_image") -> dict[str, Any]:
    decision = opened(store)
    return build_index(decision, find_embedding(decision, name), [].append, settings)


def test_below_a_million_rows_the_index_is_a_manifest_alone(store: Path) -> None:
    found = built(store)
    assert (found["kind"], found["rows"], found["embedded"], found["width"]) == ("exact", 2100, 2097, 32)
    assert [path.name for path in store.glob("index/*/img/*")] == ["manifest.json"]
    decision = opened(store)
    assert read_index(decision, find_embedding(decision)) == (found, "")
    assert SearchEngine(decision).notes == ()


def test_lists_reach_the_recall_with_questions_of_both_kinds(store: Path) -> None:
    found = built(store, LISTS)
    assert found["kind"] == "ivf"
    assert found["lists"] == round(4 * 2097**0.5)
    assert found["recall"].keys() == {"clip_image", "clip_text"}
    assert min(found["recall"].values()) >= 0.95
    assert found["probed"] < found["lists"]
    decision = opened(store)
    engine, rows = SearchEngine(decision), all_embeddings(decision)
    hits = 0
    for at in range(100, 150):
        exact, _ = engine.vectors.nearest(rows[at], 10)
        mine = engine.by_vector(rows[at], 10)
        hits += len(set(engine.samples.uids(exact)) & set(mine["uid"].to_pylist()))
        assert mine["cosine"].to_pylist() == sorted(mine["cosine"].to_pylist(), reverse=True)
    assert hits / 500 > 0.9


def test_the_same_store_gives_the_same_index(store: Path) -> None:
    built(store, LISTS)
    before = files_of(store)
    shutil.rmtree(store / "index")
    built(store, LISTS)
    assert files_of(store) == before


def test_an_unreachable_recall_takes_every_list_and_is_told(store: Path) -> None:
    found = built(store, Settings(exact_below=1000, recall=1.01, questions=5))
    assert found["probed"] == found["lists"]
    assert 0.9 <= min(found["recall"].values()) <= 1


def test_a_new_index_takes_the_place_of_the_old_one(store: Path) -> None:
    first = built(store, LISTS)
    second = built(store, Settings(exact_below=1000, questions=3))
    assert first["file"] != second["file"]
    assert [path.name for path in store.glob("index/*/img/*.faiss")] == [second["file"]]
    built(store)
    assert not list(store.glob("index/*/img/*.faiss"))


def test_an_index_over_other_parts_is_stale_and_search_goes_without_it(
    embedded: Path, tmp_path: Path
) -> None:
    shutil.copytree(embedded.parent, tmp_path / "grown")
    pool, store = tmp_path / "grown" / "pool", tmp_path / "grown" / "store"
    curate(METADATA, pool, store)  # the pool has moved: other parts
    built(store, LISTS)
    embedded_shard(pool / "00003.parquet", 3)
    curate(METADATA, pool, store)
    decision = opened(store)
    manifest, note = read_index(decision, find_embedding(decision))
    assert manifest is None
    assert "is stale: it is over 3 parts with 2,100 rows" in note
    assert "over 4 with 2,800" in note
    assert "`curate index" in note
    engine = SearchEngine(decision)
    assert engine.notes == (note,)
    rows = all_embeddings(decision)
    assert engine.by_vector(rows[2200], 1)["row"].to_pylist() == [100]
    built(store, LISTS)
    assert SearchEngine(opened(store)).notes == ()


def test_without_an_index_search_says_so_and_works(embedded: Path) -> None:
    engine = SearchEngine(opened(embedded))
    assert "has no index" in engine.notes[0]
    assert engine.by_vector(all_embeddings(engine.decision)[0], 3).num_rows == 3


def test_an_index_of_another_version_is_not_used(store: Path) -> None:
    built(store)
    (path,) = store.glob("index/*/img/manifest.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "curate_index": 0}))
    assert "another version" in SearchEngine(opened(store)).notes[0]


@pytest.mark.parametrize("content", [None, b"", b"nonsense" * 100])
def test_damaged_lists_are_told(store: Path, content: bytes | None) -> None:
    built(store, LISTS)
    (path,) = store.glob("index/*/img/*.faiss")
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    engine = SearchEngine(opened(store))
    with pytest.raises(StoreError, match=r"can't read the index .*: run `curate index"):
        engine.by_vector(all_embeddings(engine.decision)[0], 3)


def test_a_condition_holds_in_lists_and_finds_as_many_as_there_are(store: Path) -> None:
    built(store, LISTS)
    engine = SearchEngine(opened(store))
    rows = all_embeddings(engine.decision)
    wide = engine.by_vector(rows[0], 20, '"row" % 2 = 0')
    assert wide.num_rows == 20
    assert all(row % 2 == 0 for row in wide["row"].to_pylist())
    # Too few rows for lists: they are all looked at.
    numbers = engine.matching('"row" < 20')
    exact, _ = engine.vectors.nearest(rows[0], 100, numbers)
    narrow = engine.by_vector(rows[0], 100, '"row" < 20')
    assert narrow["uid"].to_pylist() == engine.samples.uids(exact)
    assert narrow.num_rows == 57


def test_lists_are_read_where_the_store_is_no_local_folder(embedded: Path) -> None:
    curate(METADATA, embedded.parent / "pool", "memory://searched/store")
    found = built("memory://searched/store", LISTS)
    decision = opened("memory://searched/store")
    engine = SearchEngine(decision)
    assert engine.index == found
    rows = engine.vectors.take(np.array([50]))
    assert engine.by_vector(rows[0], 5)["row"].to_pylist()[0] == 50


def test_widths_that_codes_do_not_divide_are_indexed_too(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    embedded_shard(tmp_path / "pool" / "0.parquet", 0, 300)
    wide = generator.standard_normal((300, 6))
    unit = (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(np.float16)
    np.savez(tmp_path / "pool" / "0.npz", b32_img=unit, b32_txt=unit)
    curate(METADATA, tmp_path / "pool", tmp_path / "store")
    found = built(tmp_path / "store", Settings(exact_below=100, questions=20))
    assert found["kind"] == "ivf"
    assert min(found["recall"].values()) >= 0.95


def test_the_index_of_no_rows_is_exact(tmp_path: Path) -> None:
    write_tar(tmp_path / "pool" / "0.tar", [])
    curate(PICTURES, tmp_path / "pool", tmp_path / "store")
    found = built(tmp_path / "store")
    assert (found["kind"], found["rows"], found["parts"]) == ("exact", 0, [])
