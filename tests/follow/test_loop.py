"""The loop: what it refuses, what it tells, and what a look costs."""

from __future__ import annotations

import json
import logging
import os
import re
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from curate.follow.metrics import METRICS
from curate.follow.status import read_status
from curate.runner import load_runner
from filters.core.errors import PoolError, QueryError, RecipeError, RunnerError
from tests.follow.following import (
    PLAIN,
    ROWS_ONLY,
    calibrated,
    follow,
    follower,
    make_pool,
    manifest_of,
    shard,
)
from transforms.relating import relation_class
from transforms.store import Store

DASHBOARD = Path(__file__).parents[2] / "deploy" / "grafana" / "curate.json"


def test_a_fitted_filter_without_a_calibration_is_refused_with_the_command(tmp_path: Path) -> None:
    pool = make_pool(tmp_path / "pool", shards=1)
    one = follower(PLAIN, pool, tmp_path / "store", command="curate calibrate R --store S")
    with pytest.raises(RecipeError, match=r"top_fraction judges by .*`curate calibrate R --store S` first"):
        one.follow()
    assert not (tmp_path / "store" / "ledger").exists()


def test_a_recipe_that_needs_no_calibration_goes_without_and_knows_no_drift(tmp_path: Path) -> None:
    pool, store = make_pool(tmp_path / "pool", shards=2), tmp_path / "store"
    assert follow(ROWS_ONLY, pool, store)["follow"]["calibration"] == 0
    status = read_status(Store.at(str(store)))
    assert status["calibration"] is None
    assert status["drift"]["distances"] == {}
    assert status["windows"][0]["interval"] is None


@pytest.mark.parametrize(
    ("filters", "measures", "said"),
    [
        ("prune_clusters: {keep: 0.5, clusters: 2}", "clip", "so many rows of each cluster of a whole pool"),
        ("min_clip_cosine: 0.1", "s_clip", "measure 's_clip' compares all rows of a pool"),
    ],
)
def test_what_needs_the_whole_pool_is_refused(tmp_path: Path, filters: str, measures: str, said: str) -> None:
    from tests.compared import MODEL

    pool = make_pool(tmp_path / "pool", shards=1)
    text = f"name: refused\nfilters:\n  - {filters}\nmeasures:\n  clip: {{model: 'local-dir:{MODEL}'}}\n"
    if measures == "s_clip":
        text += "  s_clip: {measure: s_clip_loss, form: bank, batch: 64}\n"
    with pytest.raises(RecipeError, match=said):
        follow(text, pool, tmp_path / "store")
    with pytest.raises(RecipeError, match=said):
        calibrated(text, pool, tmp_path / "store")


def test_a_comparison_of_a_whole_pool_is_refused_by_what_it_does() -> None:
    assert relation_class("label_errors").refusal(None) == "it compares all rows of a pool at once"


def test_a_state_of_the_recipe_s_own_is_refused() -> None:
    from filters.drop_near_duplicates import DropNearDuplicates
    from transforms.relations.near_duplicates import NearDuplicates

    assert "leave `state` out" in str(NearDuplicates.refusal(DropNearDuplicates(cosine_above=0.9, state="s")))
    assert NearDuplicates.refusal(DropNearDuplicates(cosine_above=0.9)) is None


def test_runners_of_other_machines_are_refused(tmp_path: Path) -> None:
    one = follower(ROWS_ONLY, tmp_path, tmp_path / "store")
    one.run = type(one.run)(
        runner=load_runner("portable", None, {"job_endpoint": "localhost:1", "environment_type": "LOOPBACK"})
    )
    with pytest.raises(RunnerError, match="local or prism, not portable"):
        one.follow()


def test_without_a_pool_nothing_begins(tmp_path: Path) -> None:
    one = follower(ROWS_ONLY, tmp_path, tmp_path / "store")
    one.pool = ()
    with pytest.raises(PoolError, match="no pool given"):
        one.follow()


def test_an_empty_pool_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "pool").mkdir()
    one = follower(ROWS_ONLY, tmp_path / "pool", tmp_path / "store", until_idle=False)
    done = threading.Timer(0.5, lambda: shard(tmp_path / "pool" / "0.tar", [1, 2]))
    done.start()
    one.say = lambda text: one.stop.set() if text.startswith("batch 1:") else None
    one.follow()
    done.join()
    assert manifest_of(tmp_path / "store")["rows"] == 2


def test_an_idle_look_costs_less_than_a_second_and_writes_next_to_nothing(tmp_path: Path) -> None:
    pool, store = make_pool(tmp_path / "pool", shards=2), tmp_path / "store"
    follow(ROWS_ONLY, pool, store)
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()}
    one = follower(ROWS_ONLY, pool, store, until_idle=False, every=0.001)
    threading.Timer(1.0, one.stop.set).start()
    one.follow()
    assert one.process.looks > 20
    assert one.process.look_seconds < 1
    after = {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()}
    changed = {path.name for path, stamp in after.items() if before.get(path) != stamp}
    assert changed == {"session.json", "run.lock", f"{manifest_of(store)['ledger']}.npy"}


def test_shards_are_taken_in_the_order_of_their_arrival(tmp_path: Path) -> None:
    pool, store = tmp_path / "pool", tmp_path / "store"
    for number, changed in ((0, 3000), (1, 1000), (2, 2000)):
        os.utime(shard(pool / f"{number}.tar", [number]), (changed, changed))
    follow(ROWS_ONLY, pool, store)
    assert [Path(part["uri"]).name for part in manifest_of(store)["parts"]] == ["1.tar", "2.tar", "0.tar"]


def sixty(pool: Path, number: int, *, side: int) -> None:
    """A shard of sixty pictures, all others than those of other shards; numbers of three digits."""
    first = 100 + 60 * number
    path = shard(pool / f"{number}.tar", range(first, first + 60), side=side)
    os.utime(path, (number, number))


def test_a_stream_that_changes_raises_alarms_and_says_when_they_are_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pool, store = tmp_path / "pool", tmp_path / "store"
    for number in range(3):
        sixty(pool, number, side=48)
    calibrated(PLAIN, pool, store)
    caplog.set_level(logging.WARNING, "curate.follow")
    one = follower(PLAIN, pool, store)
    one.follow()
    assert caplog.messages == []
    status = read_status(Store.at(str(store)), "stream")
    assert status["drift"]["alarms"] == {}
    assert max(status["drift"]["distances"].values()) == 0
    for number in (3, 4, 5):
        sixty(pool, number, side=20)
    one.follow()
    said = {message.split(": ")[1]: message for message in caplog.messages}
    assert said["kept_rate"].startswith("drift: kept_rate: 0.0% are kept; the calibration says")
    assert said["width"] == "drift: width: its distribution is 1.00 from the calibration's"
    status = read_status(Store.at(str(store)), one._planned().continuous_id)
    assert {"kept_rate", "width", "height"} <= status["drift"]["alarms"].keys()
    assert "caption_words" not in status["drift"]["alarms"]
    assert [window["first"] for window in status["windows"]] == [0, 3]
    assert status["windows"][1]["kept_rate"] == 0
    caplog.clear()
    for number in (6, 7, 8):
        sixty(pool, number, side=48)
    one.follow()
    assert "drift: width is over" in caplog.messages
    assert read_status(Store.at(str(store)))["drift"]["alarms"] == {}


def test_samples_that_fail_raise_an_alarm(tmp_path: Path) -> None:
    from tests.pools import sample, write_tar

    pool = tmp_path / "pool"
    write_tar(pool / "0.tar", sample("a", b"", "no bytes") + sample("b", b"", "none here"))
    text = ROWS_ONLY.replace("max_failed_fraction: 1", "max_failed_fraction: 0.5")
    follow(text, pool, tmp_path / "store")
    status = read_status(Store.at(str(tmp_path / "store")))
    assert "100.0% of the samples failed" in status["drift"]["alarms"]["failures"]
    assert sum(status["failures"].values()) == 2


def test_the_status_of_a_store_without_a_continuous_run_says_how_to_begin(tmp_path: Path) -> None:
    store = Store.at(str(tmp_path / "store"))
    store.prepare()
    with pytest.raises(QueryError, match="curate run RECIPE --follow"):
        read_status(store)


def test_metrics_are_served_and_go_on_after_a_restart(tmp_path: Path) -> None:
    pool, store = make_pool(tmp_path / "pool", shards=2), tmp_path / "store"
    calibrated(PLAIN, pool, store)
    follow(PLAIN, pool, store)
    heard: list[str] = []
    one = follower(PLAIN, pool, store, heard, until_idle=False, metrics_port=0)
    running = threading.Thread(target=one.follow)
    running.start()
    try:
        text = ""
        while "curate_samples_total" not in text:
            url = next((said.split()[-1] for said in heard if said.startswith("metrics at")), None)
            text = urllib.request.urlopen(url, timeout=10).read().decode() if url else ""  # noqa: S310
        assert url is not None
    finally:
        one.stop.set()
        running.join()
    manifest = manifest_of(store)
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    ledger = manifest["ledger"]
    for verdict, count in manifest["verdicts"].items():
        assert float(lines[f'curate_samples_total{{ledger="{ledger}",verdict="{verdict}"}}']) == count
    assert float(lines[f'curate_shards_done_total{{ledger="{ledger}"}}']) == 2
    assert float(lines[f'curate_drift_distance{{ledger="{ledger}",signal="width"}}']) == 0
    assert {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")} == {
        metric.name for metric in METRICS
    }


def test_a_taken_metrics_port_is_named(tmp_path: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        one = follower(ROWS_ONLY, tmp_path, tmp_path / "store", metrics_port=port)
        with pytest.raises(RunnerError, match=f"port {port}"):
            one.follow()


def test_the_dashboard_asks_for_every_metric_and_for_no_other() -> None:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    names = {name for expression in asked for name in re.findall(r"\bcurate_\w+", expression)}
    assert names == {metric.name for metric in METRICS}
    labels = {metric.name: {"ledger", *metric.labels} for metric in METRICS}
    for expression in asked:
        for name, inside in re.findall(r"(curate_\w+)\{([^}]*)\}", expression):
            assert set(re.findall(r"(\w+)=", inside)) <= labels[name]
        for inside in re.findall(r"by \(([^)]*)\)", expression):
            (name,) = re.findall(r"curate_\w+", expression)
            assert {label.strip() for label in inside.split(",")} <= labels[name]
