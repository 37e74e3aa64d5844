"""The rows of a decision, drawn by uid and read again from the pool's shards."""

from __future__ import annotations

import csv
import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from curate.evaluate.data import Pair, Pairs, PoolRows, read_rows, readable_rows
from curate.query import Decision
from filters.core.errors import PoolError
from filters.core.uids import format_uids
from tests.evaluate.conftest import SAMPLES, decide
from tests.pools import metadata_shard
from tests.running import ask, curate
from transforms.store import Store


def test_rows_that_failed_are_in_no_set(decision: Decision) -> None:
    rows = readable_rows(decision)
    folder = Path(decision.manifest["parts"][0]["uri"]).parents[1]
    with (folder / "truth.csv").open() as stream:
        broken = sum(row["expected"] == "fail" for row in csv.DictReader(stream))
    assert broken > 0
    assert len(rows.kept) == SAMPLES - broken
    assert 128 < rows.kept.sum() < len(rows.kept)


def test_each_sample_is_read_as_the_store_knows_it(decision: Decision) -> None:
    rows = readable_rows(decision)
    wanted = np.flatnonzero(rows.kept)[::7]
    found = read_rows(decision, rows, wanted, 32, {})
    captions = {row["uid"]: row["caption"] for row in ask(decision.store, "SELECT uid, caption FROM samples")}
    assert list(found) == wanted.tolist()
    for place, uid in zip(wanted.tolist(), format_uids(rows.uids[wanted]), strict=True):
        assert found[place].uid == uid
        assert found[place].caption == captions[uid]
        assert found[place].pixels.shape == (32, 32, 3)


def test_a_draw_depends_on_uids_and_seed_alone(decision: Decision) -> None:
    rows = readable_rows(decision)
    everything = np.ones(len(rows.kept), np.bool_)
    order = np.random.default_rng(0).permutation(len(rows.kept))
    moved = PoolRows(rows.uids[order], rows.part[order], rows.row[order], rows.kept[order])

    def drawn(of: PoolRows, seed: int) -> set[str]:
        return set(format_uids(of.uids[of.draw(everything, 50, seed)]))

    assert drawn(rows, 0) == drawn(moved, 0)
    assert len(drawn(rows, 0)) == 50
    assert drawn(rows, 0) != drawn(rows, 1)
    assert set(rows.draw(rows.kept, 10**6, 0).tolist()) == set(np.flatnonzero(rows.kept).tolist())
    assert rows.draw(~everything, 5, 0).tolist() == []


def test_pairs_stand_in_the_order_of_their_uids() -> None:
    pixels = np.zeros((2, 2, 3), np.uint8)
    pairs = Pairs.of([Pair(pixels, "late", "f" * 32), Pair(pixels, "early", "0" * 32)])
    assert pairs.captions == ("early", "late")
    assert len(pairs) == 2


def test_a_shard_that_is_gone_or_changed_is_named(decision: Decision, tmp_path: Path) -> None:
    rows = readable_rows(decision)
    everything = np.arange(len(rows.kept))
    pool = tmp_path / "pool"
    shutil.copytree(Path(decision.manifest["parts"][0]["uri"]).parents[1], pool)
    moved = decide(pool, tmp_path / "store")
    with (pool / "shards" / "00001.tar").open("ab") as stream:
        stream.write(bytes(512))
    with pytest.raises(PoolError, match=r"00001\.tar is gone or was changed since it was measured"):
        read_rows(moved, readable_rows(moved), everything, 32, {})
    (pool / "shards" / "00000.tar").unlink()
    with pytest.raises(PoolError, match=r"00000\.tar is gone or was changed"):
        read_rows(moved, readable_rows(moved), everything, 32, {})


def test_metadata_has_nothing_to_train_on(tmp_path: Path) -> None:
    metadata_shard(tmp_path / "meta.parquet", [{}, {}])
    text = "name: meta\nfilters: []\noutput: {report: false}\n"
    run = curate(text, tmp_path / "meta.parquet", tmp_path / "store")
    found = Decision(Store.at(str(tmp_path / "store")), run.manifest)
    rows = readable_rows(found)
    with pytest.raises(PoolError, match="metadata without pictures"):
        read_rows(found, rows, np.arange(2), 32, {})


def test_a_decision_over_nothing_has_no_rows(decision: Decision) -> None:
    empty = dataclasses.replace(decision, manifest={**decision.manifest, "parts": []})
    rows = readable_rows(empty)
    assert rows.uids.shape == (0, 2)
    assert rows.kept.dtype == np.bool_
