"""Batches: what is decided stays, later shards are compared with it, everything is there once."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from curate.explain import explain
from curate.explore.explained import explain_row
from curate.explore.explorer import Explorer
from curate.query import open_decision
from curate.remove.find import Asked
from curate.report import write_report
from tests.compared import MODEL
from tests.follow.following import (
    CAPTIONED,
    COMPARED,
    COPIED,
    PLAIN,
    calibrated,
    curated_uids,
    follow,
    follower,
    make_pool,
    manifest_of,
    shard,
)
from tests.pools import write_tar
from tests.remove.conftest import take
from tests.running import ask, files_of
from transforms.store import Store

VERDICTS = 'SELECT shard, "row", verdict, dropped_by, duplicate_of FROM samples ORDER BY shard, "row"'


def grown(text: str, pool: Path, live: Path, store: Path) -> list[dict[str, bytes]]:
    """Calibrates on the pool, copies its shards to `live` one by one, follows after each.

    Returns: the files of ledger and curated shards after each.
    """
    calibrated(text, pool, store)
    live.mkdir()
    seen = []
    for path in sorted(pool.glob("*.tar")):
        shutil.copy(path, live)
        shutil.copy(path.with_name(f"{path.stem}_stats.json"), live)
        ledger = follow(text, live, store)["ledger"]
        below = (f"ledger/{ledger}/0", f"curated/{ledger}/0")
        seen.append({name: content for name, content in files_of(store).items() if name.startswith(below)})
    return seen


@pytest.mark.parametrize("text", [PLAIN, COMPARED, COPIED, CAPTIONED])
def test_all_shards_in_one_batch_are_decided_like_the_pool_they_were_calibrated_on(
    tmp_path: Path, text: str
) -> None:
    pool, store = make_pool(tmp_path / "pool"), tmp_path / "store"
    made = calibrated(text, pool, store)
    manifest = follow(text, pool, store)
    assert ask(store, VERDICTS) == ask(store, VERDICTS, made.content["ledger"])
    assert manifest["follow"] == {"batches": 1, "calibration": 1, "curated": manifest["follow"]["curated"]}
    for name in ("verdicts", "dropped_by", "overlap", "rows"):
        whole = json.loads((store / "ledger" / made.content["ledger"] / "manifest.json").read_text())
        assert manifest[name] == whole[name]


@pytest.mark.parametrize(
    ("text", "step"),
    [
        (PLAIN, "drop_exact_duplicates"),
        (COMPARED, "drop_exact_duplicates"),
        (COPIED, "drop_copies"),
        (CAPTIONED, "drop_similar_captions"),
        (COPIED.replace("  - drop_copies: {method: pdq, flips: true}\n", ""), "drop_copies"),
    ],
)
def test_later_shards_change_nothing_and_are_compared_with_all_before(
    tmp_path: Path, text: str, step: str
) -> None:
    pool, store = make_pool(tmp_path / "pool"), tmp_path / "store"
    seen = grown(text, pool, tmp_path / "live", store)
    for before, after in pairwise(seen):
        assert before.items() <= after.items()
        assert len(after) > len(before)
    manifest = manifest_of(store)
    assert [part["batch"] for part in manifest["parts"]] == [1, 2, 3, 4]
    assert [part["number"] for part in manifest["parts"]] == [0, 1, 2, 3]
    # Each shard begins with the last two pictures of the one before.
    copies = ask(
        store,
        "SELECT c.shard, o.shard AS original FROM samples c JOIN samples o ON c.duplicate_of = o.uid "
        "WHERE c.dropped_by IS NOT NULL AND o.verdict != 'failed' AND o.shard != c.shard",
    )
    assert len(copies) == manifest["dropped_by"][step] == 6
    assert all(copy["original"] < copy["shard"] for copy in copies)
    kept = [row["uid"] for row in ask(store, "SELECT uid FROM samples WHERE verdict = 'keep'")]
    assert curated_uids(store, manifest["ledger"]) == dict.fromkeys(kept, 1)
    subset = np.load(store / "subsets" / f"{manifest['ledger']}.npy")
    assert [f"{high:016x}{low:016x}" for high, low in subset.tolist()] == sorted(kept)
    assert sum(manifest["verdicts"].values()) == manifest["rows"] == 32


def test_filters_that_judge_row_by_row_decide_like_the_pool(tmp_path: Path) -> None:
    """Targets, an evaluation set, and mixtures inside clusters, in two batches."""
    pool, store = make_pool(tmp_path / "pool", shards=2), tmp_path / "store"
    first = calibrated(COMPARED, pool, store)
    assert first.number == 1
    examples = min((store / "embeddings").glob("*/img/00000-*.npy"))
    shard(tmp_path / "evaluation.tar", [3, 4])
    text = f"""\
name: byrow
pool: {{retry_seconds: []}}
measures: {{clip: {{model: "local-dir:{MODEL}"}}}}
filters:
  - drop_leaked: {{against: "{tmp_path}/evaluation.tar", set_name: evaluation}}
  - keep_target_clusters: {{examples: "{examples}", clusters: 4}}
  - drop_mismatched: {{within: clip_image, clusters: 2, at_least_rows: 2, on_null: keep}}
output: {{report: false, diversity: false}}
max_failed_fraction: 1
"""
    made = calibrated(text, pool, store)
    grown(text, pool, tmp_path / "live", tmp_path / "other")
    question = 'SELECT "row", verdict, dropped_by FROM samples ORDER BY shard, "row"'
    found = ask(tmp_path / "other", question)
    assert found == ask(store, question, made.content["ledger"])
    assert sum(row["dropped_by"] == "drop_leaked" for row in found) == 2
    assert len({row["dropped_by"] for row in found}) > 1


def test_what_is_remembered_follows_from_the_ledger_alone(tmp_path: Path) -> None:
    pool = make_pool(tmp_path / "pool")
    for name in ("kept", "lost"):
        calibrated(COMPARED, pool, tmp_path / name)
    live = tmp_path / "live"
    live.mkdir()
    for path in sorted(pool.iterdir()):
        if path.name < "00003":
            shutil.copy(path, live)
    for name in ("kept", "lost"):
        follow(COMPARED, live, tmp_path / name)
    shutil.rmtree(next((tmp_path / "lost" / "follow").iterdir()) / "memory")
    shutil.copy(pool / "00003.tar", live)
    shutil.copy(pool / "00003_stats.json", live)
    manifests = [follow(COMPARED, live, tmp_path / name) for name in ("kept", "lost")]
    assert manifests[0]["follow"]["batches"] == 2
    assert manifests[0]["dropped_by"]["drop_exact_duplicates"] == 6
    assert ask(tmp_path / "kept", VERDICTS) == ask(tmp_path / "lost", VERDICTS)


def test_a_new_calibration_judges_what_comes_later_and_nothing_before(tmp_path: Path) -> None:
    pool, store = make_pool(tmp_path / "pool", shards=2), tmp_path / "store"
    calibrated(COMPARED, pool, store)
    follow(COMPARED, pool, store)
    before = ask(store, VERDICTS)
    shard(pool / "00002.tar", [100, 101, 0, 1], caption="another kind of thing")
    assert calibrated(COMPARED, pool, store).number == 2
    manifest = follow(COMPARED, pool, store)
    assert [part["calibration"] for part in manifest["parts"]] == [1, 1, 2]
    assert [row for row in ask(store, VERDICTS) if not row["shard"].endswith("00002.tar")] == before
    # Sorted anew by the new clusters, what was kept is still found.
    assert [row["dropped_by"] for row in ask(store, VERDICTS) if row["shard"].endswith("00002.tar")] == [
        None,
        None,
        "drop_exact_duplicates",
        "drop_exact_duplicates",
    ]


def test_a_sample_is_explained_by_the_calibration_that_judged_it(tmp_path: Path) -> None:
    pool, store = make_pool(tmp_path / "pool", shards=2), tmp_path / "store"
    calibrated(PLAIN, pool, store)
    follow(PLAIN, pool, store)
    decision = open_decision(Store.at(str(store)))
    (first,) = explain(decision, "00000-003")
    shard(pool / "00002.tar", range(200, 230), side=31)
    calibrated(PLAIN, pool, store)
    follow(PLAIN, pool, store)
    decision = open_decision(Store.at(str(store)))
    assert explain(decision, "00000-003")[0].votes == first.votes
    assert explain(decision, "00002-003")[0].votes[-1].bound != first.votes[-1].bound
    explorer = Explorer(decision)
    for key in ("00000-003", "00002-003"):
        (row,) = explorer.find(key)
        assert explain_row(explorer, row).votes == explain(decision, key)[0].votes


def test_a_report_is_written_of_a_continuous_decision(tmp_path: Path) -> None:
    pool, store = make_pool(tmp_path / "pool", shards=2), tmp_path / "store"
    calibrated(COMPARED, pool, store)
    follow(COMPARED, pool, store)
    decision = open_decision(Store.at(str(store)))
    write_report(decision)
    assert (store / "report" / decision.ledger / "clusters.html").exists()


def test_a_shard_that_is_gone_again_is_recorded_and_tried_again_by_the_next_process(tmp_path: Path) -> None:
    pool, store = make_pool(tmp_path / "pool", shards=2), tmp_path / "store"
    calibrated(PLAIN, pool, store)
    shard(pool / "00002.tar", [70, 71])
    one = follower(PLAIN, pool, store)

    def say(text: str) -> None:
        if text.startswith("measuring"):
            (pool / "00002.tar").unlink()

    one.say = say
    one.follow()
    manifest = manifest_of(store)
    assert [(Path(lost["shard"]).name, lost["code"]) for lost in manifest["failed_shards"]] == [
        ("00002.tar", "shard_missing")
    ]
    assert [part["number"] for part in manifest["parts"]] == [0, 1]
    shard(pool / "00002.tar", [70, 71])
    manifest = follow(PLAIN, pool, store)
    assert manifest["failed_shards"] == []
    assert [part["rows"] for part in manifest["parts"]] == [8, 8, 2]


def test_a_shard_without_samples_is_done(tmp_path: Path) -> None:
    pool, store = make_pool(tmp_path / "pool", shards=1), tmp_path / "store"
    calibrated(PLAIN, pool, store)
    write_tar(pool / "00001.tar", [])
    manifest = follow(PLAIN, pool, store)
    assert sorted(part["rows"] for part in manifest["parts"]) == [0, 8]


def test_a_removed_sample_is_not_compared_with_and_its_copy_stays_out(tmp_path: Path) -> None:
    pool, store = make_pool(tmp_path / "pool", shards=2), tmp_path / "store"
    calibrated(PLAIN, pool, store)
    ledger = follow(PLAIN, pool, store)["ledger"]
    shard(pool / "00002.tar", [300, 301, 302])
    follow(PLAIN, pool, store)
    (uid,) = [row["uid"] for row in ask(store, "SELECT uid FROM samples WHERE verdict = 'keep' LIMIT 1")]
    take(store, Asked((uid,)))
    assert curated_uids(store, ledger)[uid] == 0
    assert list((store / "follow" / ledger / "memory").glob("*/*")) == []
    shard(pool / "00003.tar", [400, 401])
    follow(PLAIN, pool, store)
    kept = [row["uid"] for row in ask(store, "SELECT uid FROM samples WHERE verdict = 'keep'")]
    assert curated_uids(store, ledger) == dict.fromkeys(kept, 1)
    assert uid not in kept


def test_a_batch_of_another_process_is_not_done_again(tmp_path: Path) -> None:
    pool, store = make_pool(tmp_path / "pool", shards=1), tmp_path / "store"
    calibrated(PLAIN, pool, store)
    first = follower(PLAIN, pool, store)
    first.follow()
    shard(pool / "00001.tar", [50, 51, 52])
    follow(PLAIN, pool, store)
    committed = manifest_of(store)
    first.follow()
    assert manifest_of(store) == committed
    assert committed["follow"]["batches"] == 2
