"""Measure once, decide many times; the same input and recipe give the same bytes, whatever the engine."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from filters.core.errors import PoolError, StoreError, StoreLocked, TooManyFailures
from tests.pools import broken_pool, photo, sample, write_tar
from tests.running import EVERYDAY, ask, curate, files_of, plan_of
from transforms.pool import Shard
from transforms.store import Store

HARSHER = EVERYDAY.replace("min_side_pixels: 30", "min_side_pixels: 44")
DEMO_MODEL = Path(__file__).parents[2] / "curate" / "demo" / "model"
WITH_CLIP = (
    EVERYDAY.replace("name: everyday\n", "name: everyday\nmeasures: {clip: {model: 'local-dir:%s'}}\n")
    .replace("%s", str(DEMO_MODEL))
    .replace("by: luminance_entropy", "by: clip_cosine")
)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The shards that were opened."""
    names: list[str] = []
    true_open = Shard.open

    def remember(shard: Shard, **how: Any) -> Any:
        names.append(shard.uri)
        return true_open(shard, **how)

    monkeypatch.setattr(Shard, "open", remember)
    return names


# --- measured once


def test_a_new_threshold_opens_no_shard(tmp_path: Path, small_pool: Path, opened: list[str]) -> None:
    first = curate(EVERYDAY, small_pool, tmp_path / "store")
    assert set(opened) == {str(path) for path in small_pool.glob("*.tar")}
    opened.clear()
    text = HARSHER.replace("report: false", "report: false, shards: false")
    assert plan_of(text, small_pool, tmp_path / "store").to_measure() == []
    said: list[str] = []
    second = curate(text, small_pool, tmp_path / "store", said=said)
    assert opened == []
    assert said[0] == "all 2 shards are measured"
    assert second.ledger != first.ledger
    assert second.counts["keep"] < first.counts["keep"]


def test_a_new_threshold_leaves_every_old_file_as_it_was(tmp_path: Path, small_pool: Path) -> None:
    curate(EVERYDAY, small_pool, tmp_path / "store")
    before = files_of(tmp_path / "store")
    curate(HARSHER, small_pool, tmp_path / "store")
    after = files_of(tmp_path / "store")
    changed = [name for name, content in before.items() if after[name] != content]
    assert changed == ["latest.json"]


def test_the_same_run_again_does_nothing(tmp_path: Path, small_pool: Path, opened: list[str]) -> None:
    curate(EVERYDAY, small_pool, tmp_path / "store")
    before = files_of(tmp_path / "store")
    opened.clear()
    said: list[str] = []
    curate(EVERYDAY, small_pool, tmp_path / "store", said=said)
    assert said == ["all 2 shards are measured"]
    assert opened == []
    assert files_of(tmp_path / "store") == before


def test_a_new_shard_is_measured_alone(tmp_path: Path, small_pool: Path, opened: list[str]) -> None:
    curate(EVERYDAY, small_pool, tmp_path / "store")
    new = write_tar(small_pool / "00002.tar", sample("new", photo(99), "a new picture of it"))
    opened.clear()
    result = curate(EVERYDAY, small_pool, tmp_path / "store")
    assert opened[0] == str(new)
    assert result.manifest["rows"] == 13


def test_a_changed_shard_is_measured_again(tmp_path: Path, small_pool: Path) -> None:
    first = curate(EVERYDAY, small_pool, tmp_path / "store")
    write_tar(small_pool / "00001.tar", sample("other", photo(77), "quite another picture now"))
    second = curate(EVERYDAY, small_pool, tmp_path / "store")
    assert second.ledger != first.ledger
    assert second.manifest["rows"] == 7


# --- the same bytes


@pytest.mark.parametrize("text", [EVERYDAY, WITH_CLIP], ids=["columns", "clip"])
def test_bytes_do_not_depend_on_workers_threads_or_order(tmp_path: Path, small_pool: Path, text: str) -> None:
    shards = [str(path) for path in sorted(small_pool.glob("*.tar"))]
    curate(text, shards, tmp_path / "one", workers=1, decode_threads=1)
    curate(text, shards[::-1], tmp_path / "two", workers=2, decode_threads=4)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")


# --- never mixed


def test_a_second_recipe_and_pool_share_a_store_without_mixing(tmp_path: Path, small_pool: Path) -> None:
    store = tmp_path / "both"
    write_tar(tmp_path / "other" / "00000.tar", sample("x", photo(5), "some other picture here"))
    curate(EVERYDAY, small_pool, store)
    curate(HARSHER.replace("name: everyday", "name: other"), tmp_path / "other", store)
    first = ask(store, "SELECT key FROM samples", "everyday")
    second = ask(store, "SELECT key FROM samples", "other")
    assert len(first) == 12
    assert [row["key"] for row in second] == ["x"]
    curate(EVERYDAY, small_pool, tmp_path / "alone")
    alone, both = files_of(tmp_path / "alone"), files_of(store)
    assert {name: both[name] for name in alone if name != "latest.json"} == {
        name: content for name, content in alone.items() if name != "latest.json"
    }


def test_a_second_model_gets_signals_and_embeddings_of_its_own(tmp_path: Path, small_pool: Path) -> None:
    other = tmp_path / "model"
    shutil.copytree(DEMO_MODEL, other)
    config = other / "open_clip_config.json"
    config.write_text(config.read_text() + "\n")  # other bytes are another model
    first = curate(WITH_CLIP, small_pool, tmp_path / "store")
    second = curate(WITH_CLIP.replace(str(DEMO_MODEL), str(other)), small_pool, tmp_path / "store")
    assert first.ledger != second.ledger
    assert len(list((tmp_path / "store" / "embeddings").iterdir())) == 2
    assert len(list((tmp_path / "store" / "signals").glob("clip-*"))) == 2


def test_another_way_to_read_the_pool_gets_samples_of_its_own(tmp_path: Path, small_pool: Path) -> None:
    curate(EVERYDAY, small_pool, tmp_path / "store")
    strict = EVERYDAY.replace("{retry_seconds: []}", "{retry_seconds: [], max_pixels: 2000}")
    result = curate(strict, small_pool, tmp_path / "store")
    assert result.counts["failed"] > 0
    assert len(list((tmp_path / "store" / "signals").glob("samples-*"))) == 2


def test_curated_shards_of_another_size_replace_the_old_ones(tmp_path: Path, small_pool: Path) -> None:
    text = EVERYDAY.replace("keep: 0.5", "keep: 1.0")
    first = curate(text, small_pool, tmp_path / "store")
    smaller = text.replace("samples_per_shard: 4", "samples_per_shard: 5")
    second = curate(smaller, small_pool, tmp_path / "store")
    assert first.ledger == second.ledger
    curate(smaller, small_pool, tmp_path / "fresh")
    here, fresh = files_of(tmp_path / "store"), files_of(tmp_path / "fresh")
    curated = {name: content for name, content in here.items() if name.startswith("curated/")}
    assert curated == {name: content for name, content in fresh.items() if name.startswith("curated/")}


def test_a_measure_that_no_filter_reads_is_still_in_the_view(tmp_path: Path, small_pool: Path) -> None:
    curate(EVERYDAY, small_pool, tmp_path / "store")
    text = EVERYDAY.replace("filters:", "measures: {tongue: {measure: language}}\nfilters:")
    result = curate(text, small_pool, tmp_path / "store")
    (row,) = ask(tmp_path / "store", "SELECT count(tongue) AS n FROM samples", result.ledger)
    assert row["n"] == 12


def test_a_store_of_another_layout_is_refused(tmp_path: Path, small_pool: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "store.json").write_text('{"curate_store": 99}')
    with pytest.raises(StoreError, match="layout 99"):
        curate(EVERYDAY, small_pool, tmp_path / "store")


def test_two_runs_on_one_store_the_second_stops(tmp_path: Path, small_pool: Path) -> None:
    store = Store.at(str(tmp_path / "store"))
    store.prepare()
    with store.lock(), pytest.raises(StoreLocked, match=r"is writing to the store .*use another --store"):
        curate(EVERYDAY, small_pool, tmp_path / "store")
    assert curate(EVERYDAY, small_pool, tmp_path / "store").counts["keep"] == 6


# --- too many failures


def strict(text: str, bound: float) -> str:
    return text.replace("max_failed_fraction: 1\n", f"max_failed_fraction: {bound}\n")


def test_too_many_failed_rows_name_the_shard_and_write_no_shards(tmp_path: Path) -> None:
    broken_pool(tmp_path / "pool")
    with pytest.raises(TooManyFailures, match=r"most of them in \S+0000\d\.tar") as caught:
        curate(strict(EVERYDAY, 0.3), tmp_path / "pool", tmp_path / "store")
    assert caught.value.exit_code == 3
    assert "curate query" in str(caught.value)
    assert list((tmp_path / "store" / "ledger").glob("everyday-*/manifest.json"))
    assert not (tmp_path / "store" / "curated").exists()
    assert not (tmp_path / "store" / "subsets").exists()
    # and what the message proposes works
    rows = ask(tmp_path / "store", "FROM samples SELECT failure, count(*) GROUP BY 1")
    assert len(rows) > 5


def test_a_higher_bound_lets_the_same_decision_be_written(tmp_path: Path) -> None:
    broken_pool(tmp_path / "pool")
    with pytest.raises(TooManyFailures):
        curate(strict(EVERYDAY, 0.3), tmp_path / "pool", tmp_path / "store")
    said: list[str] = []
    result = curate(strict(EVERYDAY, 0.9), tmp_path / "pool", tmp_path / "store", said=said)
    assert not any(line.startswith("deciding") for line in said)
    assert list((tmp_path / "store" / "curated" / result.ledger).glob("*.tar"))


def test_a_missing_shard_stops_the_run_and_is_named(tmp_path: Path, small_pool: Path) -> None:
    with pytest.raises(TooManyFailures, match=r"1 of 3 shards .*00002\.tar \(shard_missing\)"):
        curate(strict(EVERYDAY, 0.1), f"{small_pool}/0000{{0..2}}.tar", tmp_path / "store")
    assert not (tmp_path / "store" / "curated").exists()


def test_a_missing_shard_is_recorded_and_read_when_it_appears(tmp_path: Path, small_pool: Path) -> None:
    pool = f"{small_pool}/0000{{0..2}}.tar"
    first = curate(EVERYDAY, pool, tmp_path / "store")
    assert [item["code"] for item in first.manifest["failed_shards"]] == ["shard_missing"]
    assert first.manifest["rows"] == 12
    write_tar(small_pool / "00002.tar", sample("late", photo(50), "a late picture of it"))
    second = curate(EVERYDAY, pool, tmp_path / "store")
    assert second.manifest["failed_shards"] == []
    assert second.manifest["rows"] == 13


def test_a_lost_shard_of_another_pool_is_not_held_against_this_one(tmp_path: Path, small_pool: Path) -> None:
    first = curate(EVERYDAY, f"{small_pool}/0000{{0..2}}.tar", tmp_path / "store")
    second = curate(strict(EVERYDAY, 0), f"{small_pool}/0000{{0..1}}.tar", tmp_path / "store")
    assert first.ledger != second.ledger
    assert second.manifest["failed_shards"] == []


def test_a_pool_of_which_nothing_can_be_read_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(TooManyFailures, match="2 of 2 shards could not be read"):
        curate(strict(EVERYDAY, 0.5), f"{tmp_path}/0000{{0..1}}.tar", tmp_path / "store")


def test_a_pool_that_matches_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PoolError, match=r"no shard matches '\S+\*\.tar'"):
        curate(EVERYDAY, f"{tmp_path}/*.tar", tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_equal_scores_are_cut_by_uid_whatever_shards_are_missing(tmp_path: Path) -> None:
    same = photo(1)
    for number in (0, 2):
        members = [m for at in range(4) for m in sample(f"{number}{at}", same, f"a picture {number} {at}")]
        write_tar(tmp_path / "pool" / f"{number}.tar", members)
    text = EVERYDAY.replace("  - drop_exact_duplicates: pixels\n", "")
    with_gap = curate(text, f"{tmp_path}/pool/{{0..2}}.tar", tmp_path / "store")
    without = curate(text, f"{tmp_path}/pool/{{0,2}}.tar", tmp_path / "store")
    subsets = [np.load(tmp_path / "store" / "subsets" / f"{run.ledger}.npy") for run in (with_gap, without)]
    assert len(subsets[0]) == 4
    assert np.array_equal(*subsets)
