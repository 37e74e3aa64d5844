"""The views of concepts and sources: what each filter took of each."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from curate.query import Decision, connect, open_decision, run_sql
from curate.report import write_report
from tests.compared import compared_run
from tests.pools import broken_pool, metadata_shard
from tests.running import EVERYDAY, ask, curate
from transforms.store import Store

COMPARED = ("drop_exact_duplicates", "drop_near_duplicates", "prune_clusters")
RATES = """\
name: rated
pool: {retry_seconds: []}
filters:
  - min_side_pixels: 200
  - caption_words: 3
output: {report: false}
max_failed_fraction: 1
"""
URLS: dict[str | None, str] = {
    "https://www.shop.example/a.jpg": "shop.example",
    "HTTP://User:secret@Shop.Example:8080/b.jpg": "shop.example",
    "https://a@b@shop.example?c=d/e": "shop.example",
    "ftp://shop.example": "shop.example",
    "https://[2001:db8::1]:80/x": "[2001:db8::1]",
    "https://пример.испытание/x": "пример.испытание",
}
NO_HOST = (None, "", "no url", "data:image/png;base64,AAAA", "https:///a.jpg", "https://www.", "/a/b.jpg")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run over a pool with failures."""
    folder = tmp_path_factory.mktemp("rated")
    broken_pool(folder / "pool")
    curate(EVERYDAY, f"{folder}/pool/0000{{0..3}}.tar", folder / "store")
    return folder / "store"


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose filters make clusters."""
    folder = tmp_path_factory.mktemp("clustered")
    compared_run(folder)
    return folder / "store"


def rated(folder: Path, rows: list[dict[str, object]], text: str = RATES) -> Path:
    metadata_shard(folder / "pool" / "0.parquet", rows)
    curate(text, folder / "pool", folder / "store")
    return folder / "store"


@pytest.mark.parametrize("url", URLS)
def test_a_source_is_the_host_of_the_url(tmp_path: Path, url: str) -> None:
    (row, _) = ask(rated(tmp_path, [{"url": url}]), "FROM sources ORDER BY place")
    assert (row["source"], row["kind"]) == (URLS[url], "host")


@pytest.mark.parametrize("url", NO_HOST)
def test_a_source_is_the_shard_where_no_host_is_known(tmp_path: Path, url: str | None) -> None:
    (row, _) = ask(rated(tmp_path, [{"url": url}]), "FROM sources ORDER BY place")
    assert (row["source"], row["kind"]) == (str(tmp_path / "pool" / "0.parquet"), "shard")


def test_rates_of_a_source_follow_the_recipe(tmp_path: Path) -> None:
    one, other = {"url": "http://one.example/"}, {"url": "http://other.example/"}
    small, short = {"original_width": 10}, {"text": "two words"}
    rows: list[dict[str, object]] = [
        {**one, **small},
        {**one, **small, **short},
        {**one, **short},
        {**one},
        {**other, **small},
    ]
    found = ask(rated(tmp_path, rows), "FROM sources ORDER BY source, place")
    names = ("place", "step", "source", "reached", "stopped", "stopped_share", "pool", "kept", "kept_share")
    assert [tuple(row[name] for name in names) for row in found] == [
        (1, "min_side_pixels", "one.example", 4, 2, 0.5, 4, 1, 0.25),
        (2, "caption_words", "one.example", 2, 1, 0.5, 4, 1, 0.25),
        (1, "min_side_pixels", "other.example", 1, 1, 1.0, 1, 0, 0.0),
    ]


def test_quarantined_samples_are_stopped_and_told_apart(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"original_width": None}, {"original_width": 10}, {}]
    (row, _) = ask(rated(tmp_path, rows), "FROM sources ORDER BY place")
    assert (row["reached"], row["stopped"], row["quarantined"]) == (3, 2, 1)


def test_rates_add_up_to_what_the_filters_took(store: Path) -> None:
    summed = "SELECT step, sum(stopped) AS n FROM sources GROUP BY 1 ORDER BY 1"
    mine = {row["step"]: row["n"] for row in ask(store, summed)}
    drops = ask(store, "SELECT filter, dropped FROM drops WHERE place > 0")
    assert mine == {row["filter"]: row["dropped"] for row in drops}
    (whole,) = ask(
        store, "SELECT sum(pool) AS p, sum(failed) AS f, sum(kept) AS k FROM sources WHERE place = 1"
    )
    manifest = open_decision(Store.at(str(store))).manifest
    (lost,) = ask(store, "SELECT count(*) AS n FROM samples WHERE shard NOT IN (SELECT source FROM sources)")
    assert whole["p"] + lost["n"] == manifest["rows"]
    assert whole["k"] == manifest["verdicts"]["keep"]


def test_a_recipe_without_filters_says_what_was_kept(tmp_path: Path) -> None:
    path = rated(tmp_path, [{}, {}], "name: none\nfilters: []\noutput: {report: false}\n")
    (row,) = ask(path, "FROM sources")
    assert (row["place"], row["step"], row["reached"], row["stopped"], row["kept"]) == (0, None, 2, 0, 2)
    assert ask(path, "FROM concepts") == []


def test_clusters_are_judged_from_the_filter_on_that_made_them(compared: Path) -> None:
    rows = ask(compared, "FROM concepts ORDER BY place, CAST(concept AS INTEGER)")
    assert {row["step"] for row in rows} == {"drop_near_duplicates", "prune_clusters"}
    first = [row for row in rows if row["step"] == "drop_near_duplicates"]
    clusters = ask(compared, "FROM clusters WHERE step = 'drop_near_duplicates' ORDER BY cluster_id")
    assert [
        (row["concept"], row["pool"], row["reached"], row["reached"] - row["stopped"]) for row in first
    ] == [(str(row["cluster_id"]), row["samples"], row["samples"], row["passed"]) for row in clusters]
    assert sum(row["kept"] for row in first) == 7
    assert [row["kept"] for row in first] == [row["kept"] for row in clusters]


def test_clusters_have_words_once_the_report_is_written(tmp_path: Path) -> None:
    compared_run(tmp_path)
    store = tmp_path / "store"
    assert all(row["words"] is None for row in ask(store, "FROM concepts"))
    write_report(open_decision(Store.at(str(store))), thumbnails=0)
    assert all(row["words"] for row in ask(store, "FROM concepts"))


def test_tags_of_a_measure_come_before_clusters(compared: Path) -> None:
    decision = open_decision(Store.at(str(compared)))
    manifest = json.loads(json.dumps(decision.manifest))
    for part in manifest["parts"]:
        tags = pa.table({"seen_top": pa.array(["cat", None] * part["rows"])[: part["rows"]]})
        decision.store.write_part("signals/seen-0", part["part"], tags, marker={})
    measure = {"name": "seen", "kind": "concepts", "group": "signals/seen-0", "columns": ["seen_top"]}
    manifest["measures"].append(measure)
    connection = connect(Decision(decision.store, manifest))
    rows = run_sql(connection, "FROM concepts ORDER BY place").to_pylist()
    assert [row["step"] for row in rows] == ["min_side_pixels", *COMPARED]
    assert {row["concept"] for row in rows} == {"cat"}
    (counted,) = run_sql(
        connection, "SELECT count(*) AS n FROM samples WHERE seen_top = 'cat' AND verdict <> 'failed'"
    ).to_pylist()
    assert rows[0]["reached"] == counted["n"]


def test_rates_can_be_asked_where_the_store_is_no_local_folder(tmp_path: Path) -> None:
    metadata_shard(tmp_path / "pool" / "0.parquet", [{}])
    curate(RATES, tmp_path / "pool", "memory://rates/store")
    (row, _) = ask("memory://rates/store", "FROM sources ORDER BY place")
    assert row["source"] == "example.org"
