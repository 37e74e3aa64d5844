"""`curate.open`: a store asked from a program."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import curate
from curate.client import CuratedStore
from filters.core.errors import PoolError, QueryError, StoreError
from tests.compared import HOSTILE, MODEL, compared_pool
from tests.pools import broken_pool, metadata_shard, photo, sample, write_tar
from tests.running import EVERYDAY
from tests.running import curate as run

RECIPE = f"""\
name: asked
pool: {{retry_seconds: []}}
measures: {{clip: {{model: "local-dir:{MODEL}"}}}}
filters:
  - min_side_pixels: 30
output: {{report: false, shards: false}}
max_failed_fraction: 1
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("asked")
    compared_pool(folder / "pool")
    run(RECIPE, folder / "pool", folder / "store")
    return folder


@pytest.fixture(scope="module")
def store(folder: Path) -> CuratedStore:
    return curate.open(folder / "store")


def test_importing_curate_is_quick_and_loads_no_client() -> None:
    code = "import sys, curate; print(curate.__version__, 'duckdb' in sys.modules, 'pyarrow' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split() == [curate.__version__, "False", "False"]


def test_a_store_says_what_it_is(store: CuratedStore) -> None:
    assert repr(store).endswith(": 22 of 26 samples kept>")
    assert store.decisions() == [store.decision.ledger]


def test_a_question_is_answered_as_a_table(store: CuratedStore) -> None:
    found = store.query("SELECT verdict, count(*) AS n FROM samples GROUP BY 1 ORDER BY 1")
    assert found.to_pydict() == {"verdict": ["drop", "failed", "keep"], "n": [2, 2, 22]}
    assert list(found.to_pandas()["n"]) == [2, 2, 22]
    with pytest.raises(QueryError, match="one SELECT at a time"):
        store.query("DROP VIEW samples")


def test_samples_are_in_the_order_of_the_pool(store: CuratedStore) -> None:
    whole = store.samples()
    assert whole.num_rows == 26
    keys = whole["key"].to_pylist()
    assert keys == sorted(keys)
    assert HOSTILE in whole["caption"].to_pylist()
    some = store.samples("verdict = 'keep' AND width > 50", ["uid", "width"], limit=3)
    assert some.column_names == ["uid", "width"]
    assert some["width"].to_pylist() == [64, 64, 64]
    assert store.samples(limit=0).num_rows == 0


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"where": "true) LIMIT (1"}, "a condition is one expression"),
        ({"where": "true) GROUP BY (1"}, "a condition is one expression"),
        ({"where": "nonsense"}, "nonsense"),
        ({"columns": ["uidd"]}, "no column 'uidd' in samples; did you mean uid"),
        ({"columns": ["uid FROM samples; DROP VIEW samples --"]}, "no column"),
        ({"limit": -1}, "a limit is 0 or more"),
    ],
)
def test_wrong_questions_are_told(store: CuratedStore, asked: dict[str, object], message: str) -> None:
    with pytest.raises(QueryError, match=message):
        store.samples(**asked)  # type: ignore[arg-type]


def test_an_image_is_the_original_from_its_shard(store: CuratedStore) -> None:
    (row,) = store.samples("key = '1004'").to_pylist()
    with Image.open(io.BytesIO(photo(4, side=64))) as expected:
        found = store.image(row["uid"].upper())
        assert found.size == (64, 64)
        assert np.array_equal(np.asarray(found), np.asarray(expected.convert("RGB")))


def test_images_of_parquet_shards_are_read_too(tmp_path: Path) -> None:
    import pyarrow as pa

    (tmp_path / "pool").mkdir()
    rows = [{"image": photo(seed), "caption": f"picture {seed}"} for seed in (1, 2)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pool" / "0.parquet")
    run(EVERYDAY.replace("samples_per_shard: 4, ", "shards: false, "), tmp_path / "pool", tmp_path / "store")
    opened = curate.open(tmp_path / "store")
    uid = opened.samples("caption = 'picture 2'")["uid"][0].as_py()
    assert opened.image(uid).size == (48, 48)


def test_images_that_are_not_there_are_told(tmp_path: Path, store: CuratedStore) -> None:
    with pytest.raises(QueryError, match="no sample with the uid"):
        store.image("x' OR '1'='1")
    broken_pool(tmp_path / "pool")
    text = EVERYDAY.replace("{retry_seconds: []}", "{retry_seconds: [], max_pixels: 20000}")
    run(text, f"{tmp_path}/pool/0000{{0..2}}.tar", tmp_path / "store")
    opened = curate.open(tmp_path / "store")
    for code, message in (
        ("missing_image", "has no image in"),
        ("not_an_image", "can't be decoded: not_an_image"),
        ("decompression_bomb", "can't be decoded: decompression_bomb"),
    ):
        (uid,) = opened.samples(f"failure = '{code}'")["uid"].to_pylist()
        with pytest.raises(QueryError, match=message):
            opened.image(uid)
    good = opened.samples("key = 'good0'")["uid"][0].as_py()
    (tmp_path / "pool" / "00000.tar").unlink()
    with pytest.raises(PoolError, match="the shard is gone, was changed"):
        opened.image(good)


def test_metadata_pools_have_no_images(tmp_path: Path) -> None:
    metadata_shard(tmp_path / "pool" / "0.parquet", [{}])
    text = "name: bare\npool: {format: datacomp}\nfilters: [caption_words: 1]\noutput: {report: false}\n"
    run(text, tmp_path / "pool", tmp_path / "store")
    opened = curate.open(tmp_path / "store")
    with pytest.raises(QueryError, match="has no image in"):
        opened.image("0" * 32)
    with pytest.raises(QueryError, match="has no embeddings to search in"):
        opened.search("a ship")


def test_search_by_text_image_and_sample(store: CuratedStore, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(photo(4))
    picture = Image.open(tmp_path / "photo.jpg")
    by_bytes = store.search(image=photo(4), k=3)
    assert by_bytes["key"].to_pylist()[0] == "0004"
    assert store.search(image=tmp_path / "photo.jpg", k=3) == by_bytes
    assert store.search(image=str(tmp_path / "photo.jpg"), k=3) == by_bytes
    assert store.search(image=picture, k=3) == by_bytes
    others = store.search(like=by_bytes["uid"][0].as_py(), k=3, where="verdict = 'keep'")
    assert set(others["verdict"].to_pylist()) == {"keep"}
    assert store.search("a ship", k=2, embedding="clip_text").num_rows == 2


def test_one_thing_is_searched_for(store: CuratedStore) -> None:
    for asked in ({}, {"text": "a", "like": "b"}):
        with pytest.raises(QueryError, match="search for one thing"):
            store.search(**asked)  # type: ignore[arg-type]
    with pytest.raises(QueryError, match="can't read the image /nowhere"):
        store.search(image="/nowhere")


def test_a_sample_is_explained(store: CuratedStore) -> None:
    (found,) = store.explain("0901")
    assert found.sample["dropped_by"] == "min_side_pixels"
    with pytest.raises(QueryError, match="no sample with key or uid"):
        store.explain("nobody")


def test_threads_share_a_store(store: CuratedStore) -> None:
    found: list[int] = []

    def ask(number: int) -> None:
        found.append(store.samples(f"width > {number % 3}").num_rows)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found) == 12


def test_no_store_and_no_decision_are_told(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(StoreError, match="is not a Curate store"):
        curate.open(tmp_path)
    with pytest.raises(QueryError, match="no single decision 'other'"):
        curate.open(folder / "store", decision="other")


@pytest.mark.parametrize("rows", [0, 1])
def test_a_store_of_no_or_one_row_is_asked(tmp_path: Path, rows: int) -> None:
    write_tar(tmp_path / "pool" / "0.tar", sample("a", photo(1), "a small picture") if rows else [])
    run(RECIPE, tmp_path / "pool", tmp_path / "store")
    opened = curate.open(tmp_path / "store")
    assert opened.samples().num_rows == rows
    assert opened.search("a ship").num_rows == rows
    assert opened.query("SELECT count(*) AS n FROM samples").to_pydict() == {"n": [rows]}
