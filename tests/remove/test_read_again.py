"""A removed sample stays out when its shard is read again, and whatever shard it comes in."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.remove.find import Asked
from filters.core.errors import StoreError
from tests.pools import metadata_shard, photo, sample, write_tar
from tests.remove.conftest import (
    CAPTION,
    KEY,
    PLAIN,
    SECRETS,
    UID,
    URL,
    ordinary,
    private,
    take,
    uid_of,
    zebra,
)
from tests.remove.looking import arrays_of, files_with, tables_of
from tests.running import ask, curate, files_of
from transforms.store import Store

PARQUET = PLAIN.replace("{retry_seconds: []}", "{format: parquet, retry_seconds: []}")
METADATA = """\
name: metadata
pool: {format: datacomp, retry_seconds: []}
measures: {clip: {measure: datacomp_embeddings, model: b32}}
filters:
  - caption_words: 2
output: {report: false}
max_failed_fraction: 0
"""


@pytest.fixture
def store(plain: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(plain, tmp_path / "store"))


def unread(store: Path) -> dict[str, bytes]:
    """Deletes everything that was measured; returns what was there."""
    before = files_of(store)
    for folder in ("signals", "embeddings", "failures"):
        shutil.rmtree(store / folder, ignore_errors=True)
    return before


def test_shards_read_again_give_the_bytes_that_the_removal_left(store: Path, pool: Path) -> None:
    take(store)
    before = unread(store)
    said: list[str] = []
    curate(PLAIN, pool, store, said=said)
    assert said[0] == "measuring 3 of 3 shards"
    assert files_of(store) == before
    assert files_with(store, *SECRETS, zebra()) == []


def test_everything_decided_anew_from_the_pool_is_without_it(store: Path, pool: Path) -> None:
    take(store)
    kept = {row["uid"] for row in ask(store, "SELECT uid FROM samples WHERE verdict = 'keep'")}
    unread(store)
    for folder in ("ledger", "curated", "subsets"):
        shutil.rmtree(store / folder)
    run = curate(PLAIN, pool, store)
    assert {row["uid"] for row in ask(store, "SELECT uid FROM samples WHERE verdict = 'keep'")} == kept
    assert run.counts == {"keep": len(kept), "drop": 0, "quarantine": 0, "failed": 3}
    assert files_with(store, *SECRETS, zebra()) == []


def test_it_is_known_in_another_shard_by_uid_url_or_image(store: Path, pool: Path, tmp_path: Path) -> None:
    take(store)
    shutil.copytree(pool, tmp_path / "pool")
    members = [
        *sample("a", photo(50), "a new image under the old uid", uid=UID),
        *sample("b", photo(51), "a new image at the old address", url=URL),
        *sample("c", zebra(), "the old image without its metadata"),
        *sample("d", photo(52), "something else entirely here"),
        *sample("e", None, "a row without a picture", uid=UID.upper()),
    ]
    write_tar(tmp_path / "pool" / "99999.tar", members)
    run = curate(PLAIN.replace("pool:", "max_failed_fraction: 0.01\npool:"), tmp_path / "pool", store)
    rows = ask(
        store, "SELECT failure, caption, key, verdict FROM samples WHERE shard LIKE '%99999.tar' ORDER BY row"
    )
    assert [row["failure"] for row in rows] == ["removed", "removed", "removed", None, "removed"]
    assert [row["caption"] for row in rows if row["failure"]] == [None] * 4
    assert rows[3]["verdict"] == "keep"
    assert files_with(store, UID, URL, "the old image", "at the old address", zebra()) == []
    # The whole pool under another path: every part is new.
    assert run.counts["failed"] == 3 + 4


def test_a_measure_that_is_added_later_sees_the_same_rows(store: Path, pool: Path) -> None:
    take(store)
    run = curate(PLAIN.replace("filters:", "measures: {perceptual_hashes: {}}\nfilters:"), pool, store)
    rows = ask(store, "SELECT pdq_hash IS NULL AS blank, failure FROM samples", run.ledger)
    assert [row["blank"] for row in rows] == [row["failure"] == "removed" for row in rows]
    assert files_with(store, *SECRETS) == []


def test_a_row_that_failed_for_another_reason_keeps_it(tmp_path: Path) -> None:
    """Its image was never hashed, so it is not found to be the same, and a later measure agrees."""
    write_tar(tmp_path / "pool" / "0.tar", [*private(), *sample("mute", zebra(), None), *ordinary(1)])
    curate(f"{PLAIN}max_failed_fraction: 1\n", tmp_path / "pool", tmp_path / "store")
    take(tmp_path / "store")
    text = PLAIN.replace("filters:", "measures: {thumbnail: {}}\nfilters:")
    curate(f"{text}max_failed_fraction: 1\n", tmp_path / "pool", tmp_path / "store")
    rows = ask(tmp_path / "store", "SELECT failure FROM samples ORDER BY row")
    assert [row["failure"] for row in rows] == ["removed", "missing_caption", None]


def test_parquet_pools_with_images(tmp_path: Path) -> None:
    rows = [
        {"image": zebra(), "caption": CAPTION, "uid": UID, "url": URL, "key": KEY},
        {"image": photo(1), "caption": "another small picture", "uid": uid_of(1), "url": None, "key": "k1"},
        {"image": photo(2), "caption": "a third small picture", "uid": uid_of(2), "url": None, "key": "k2"},
    ]
    (tmp_path / "pool").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pool" / "0.parquet")
    text = f"{PARQUET}max_failed_fraction: 0\n"
    curate(text, tmp_path / "pool", tmp_path / "store")
    assert files_with(tmp_path / "store", *SECRETS)
    take(tmp_path / "store", Asked(urls=(URL,)))
    before = unread(tmp_path / "store")
    curate(text, tmp_path / "pool", tmp_path / "store")
    assert files_of(tmp_path / "store") == before
    assert files_with(tmp_path / "store", *SECRETS, zebra()) == []
    # Where it lies in the pool is not told, or a thumbnail would be read from there.
    (row,) = ask(
        tmp_path / "store", "FROM samples SELECT sample_offset, image_bytes WHERE failure = 'removed'"
    )
    assert row == {"sample_offset": None, "image_bytes": None}


def test_metadata_pools(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"uid": uid_of(at), "url": f"http://example.org/{at}"} for at in range(5)
    ]
    rows[2] |= {"uid": UID, "url": URL, "text": CAPTION, "clip_b32_similarity_score": 0.123}
    rows[4] |= {"url": URL}
    metadata_shard(tmp_path / "pool" / "0.parquet", rows)
    unit = np.eye(5, 512).astype(np.float16)
    np.savez(tmp_path / "pool" / "0.npz", b32_img=unit, b32_txt=unit)
    curate(METADATA, tmp_path / "pool", tmp_path / "store")
    take(tmp_path / "store")
    assert files_with(tmp_path / "store", *SECRETS, uid_of(4)) == []
    before = unread(tmp_path / "store")
    curate(METADATA, tmp_path / "pool", tmp_path / "store")
    assert files_of(tmp_path / "store") == before
    for array in arrays_of(tmp_path / "store").values():
        assert np.flatnonzero(np.isnan(array).all(axis=1)).tolist() == [2, 4]
    (facts,) = (table for name, table in tables_of(tmp_path / "store").items() if "datacomp_columns" in name)
    assert facts["clip_b32_cosine"].is_null().to_pylist() == [False, False, True, False, True]
    # A measure that is taken over later, of rows that are in the store.
    shutil.rmtree(tmp_path / "store" / "embeddings")
    shutil.rmtree(next((tmp_path / "store" / "signals").glob("clip-*")))
    curate(METADATA, tmp_path / "pool", tmp_path / "store")
    assert files_of(tmp_path / "store") == before


def test_marks_without_their_key_are_told_of_before_anything_is_read(store: Path, pool: Path) -> None:
    take(store)
    (store / "removed" / "key.json").unlink()
    unread(store)
    with pytest.raises(StoreError, match=r"its key removed/key.json is gone: put it back") as caught:
        curate(PLAIN, pool, store)
    assert caught.value.exit_code == 4
    assert not list(store.glob("signals/*/*.parquet"))


def test_a_store_from_which_nothing_was_removed_has_no_marks(store: Path) -> None:
    from transforms.removal import Marks

    assert Marks.load(Store.at(str(store))) is None
    assert not (store / "removed").exists()
