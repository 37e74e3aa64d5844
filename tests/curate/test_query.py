"""Documented views over one decision, open to SELECT and closed to everything else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from curate.query import Decision, connect, describe_views, open_decision, relation_views, run_sql
from filters.core.errors import QueryError, StoreError
from tests.compared import EMPTY, compared_run
from tests.pools import broken_pool, photo, sample, write_tar
from tests.running import EVERYDAY, ask, curate, files_of
from transforms.store import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run over a pool with failures."""
    folder = tmp_path_factory.mktemp("asked")
    broken_pool(folder / "pool")
    curate(EVERYDAY, f"{folder}/pool/0000{{0..3}}.tar", folder / "store")
    return folder / "store"


def columns_of(store: Path, view: str) -> list[str]:
    connection = connect(open_decision(Store.at(str(store))))
    return list(run_sql(connection, f"SELECT * FROM {view} LIMIT 0").column_names)  # noqa: S608  (our views)


@pytest.mark.parametrize(
    "view",
    ["samples", "drops", "failures", "runs", "clusters", "concepts", "sources", "drop_exact_duplicates"],
)
def test_described_columns_are_the_columns(store: Path, view: str) -> None:
    described = describe_views(open_decision(Store.at(str(store))))[view]
    assert [name for name, _, _ in described] == columns_of(store, view)
    assert all(meaning for _, meaning, _ in described)


@pytest.mark.parametrize(
    "view",
    ["samples", "drops", "failures", "runs", "clusters", "concepts", "sources", "drop_exact_duplicates"],
)
def test_described_columns_are_the_columns_where_there_is_no_row(tmp_path: Path, view: str) -> None:
    write_tar(tmp_path / "pool" / "0.tar", [])
    curate(EVERYDAY, tmp_path / "pool", tmp_path / "store")
    described = describe_views(open_decision(Store.at(str(tmp_path / "store"))))[view]
    assert [name for name, _, _ in described] == columns_of(tmp_path / "store", view)


def test_a_question_is_answered(store: Path) -> None:
    rows = ask(store, "SELECT dropped_by, count(*) AS n FROM samples GROUP BY 1")
    assert {row["dropped_by"] for row in rows} >= {None, "top_fraction"}


def test_votes_can_be_asked_by_filter(store: Path) -> None:
    (row,) = ask(store, "SELECT count(*) AS n FROM samples WHERE votes.caption_words = true")
    assert row["n"] > 0


def test_runs_are_told(store: Path) -> None:
    (row,) = ask(store, "SELECT * FROM runs")
    assert row["recipe"] == "everyday"
    assert row["measure_seconds"] > 0


@pytest.mark.parametrize(
    "sql",
    [
        "COPY (SELECT 1) TO '{store}/x.csv'",
        "COPY samples TO '/tmp/x.csv'",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{store}/x.csv'",
        "ATTACH '{store}/x.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "RESET allowed_directories",
        "PRAGMA database_list",
        "CREATE TABLE t AS SELECT 1",
        "DROP VIEW samples",
        "INSERT INTO samples VALUES (1)",
        "EXPORT DATABASE '{store}/x'",
        "SELECT 1; SELECT 2",
        "SELECT 1; COPY samples TO '{store}/x.csv'",
        "",
        "-- nothing",
    ],
)
def test_what_is_no_single_select_is_refused(store: Path, sql: str) -> None:
    before = files_of(store)
    with pytest.raises(QueryError, match=r"one SELECT at a time|SQL: "):
        ask(store, sql.format(store=store))
    assert files_of(store) == before


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM read_text('{store}/../pool/00000.tar')",
        "SELECT * FROM read_text('{store}-other/secret.txt')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM read_csv('http://127.0.0.1:9/x.csv')",
        "SELECT * FROM read_parquet('https://example.org/x.parquet')",
        "SELECT * FROM read_parquet('s3://bucket/x.parquet')",
        "SELECT * FROM query('COPY samples TO ''/tmp/x.csv''')",
        "SELECT * FROM sniff_csv('/etc/passwd')",
        "SELECT getenv('HOME')",
    ],
)
def test_select_reaches_nothing_beyond_the_store(store: Path, sql: str) -> None:
    other = Path(f"{store}-other")
    other.mkdir(exist_ok=True)
    (other / "secret.txt").write_text("secret")
    with pytest.raises(QueryError):
        ask(store, sql.format(store=store))


def test_select_sees_no_variable_of_the_program(store: Path) -> None:
    hidden = pd.DataFrame({"a": [1]})
    with pytest.raises(QueryError, match="hidden"):
        ask(store, "SELECT * FROM hidden")
    assert len(hidden) == 1


def test_wrong_sql_is_answered_with_the_reason(store: Path) -> None:
    with pytest.raises(QueryError, match="verdit") as caught:
        ask(store, "SELECT verdit FROM samples")
    assert caught.value.exit_code == 2
    assert "verdict" in str(caught.value), "DuckDB proposes the nearest column"


def test_a_folder_that_is_no_store_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"is not a Curate store \(no store.json\)"):
        ask(tmp_path, "SELECT 1")


def test_a_store_without_a_finished_run_is_told(tmp_path: Path) -> None:
    Store.at(str(tmp_path / "store")).prepare()
    with pytest.raises(StoreError, match="holds no finished run yet"):
        ask(tmp_path / "store", "SELECT 1")


def test_an_unknown_decision_is_answered_with_the_nearest(store: Path) -> None:
    with pytest.raises(QueryError, match="no single decision 'everyda'; did you mean everyday-"):
        ask(store, "SELECT 1", "everyda")


def test_a_recipe_with_two_decisions_is_ambiguous(tmp_path: Path, small_pool: Path) -> None:
    first = curate(EVERYDAY, small_pool, tmp_path / "store")
    curate(EVERYDAY.replace("keep: 0.5", "keep: 0.25"), small_pool, tmp_path / "store")
    with pytest.raises(QueryError, match="no single decision 'everyday'"):
        ask(tmp_path / "store", "SELECT 1", "everyday")
    assert ask(tmp_path / "store", "SELECT count(*) AS n FROM samples WHERE weight > 0", first.ledger) == [
        {"n": 6}
    ]
    assert ask(tmp_path / "store", "SELECT count(*) AS n FROM samples WHERE weight > 0") == [{"n": 3}]


def test_an_unfinished_decision_is_told(tmp_path: Path, small_pool: Path) -> None:
    run = curate(EVERYDAY, small_pool, tmp_path / "store")
    (tmp_path / "store" / "ledger" / run.ledger / "manifest.json").unlink()
    with pytest.raises(StoreError, match="is not finished: run its recipe again"):
        ask(tmp_path / "store", "SELECT 1")


def test_a_decision_from_before_there_were_tags_has_none(tmp_path: Path, small_pool: Path) -> None:
    run = curate(EVERYDAY, small_pool, tmp_path / "store")
    path = tmp_path / "store" / "ledger" / run.ledger / "manifest.json"
    manifest = json.loads(path.read_text())
    assert manifest.pop("tags") == []
    path.write_text(json.dumps(manifest))
    described = describe_views(open_decision(Store.at(str(tmp_path / "store"))))["samples"]
    assert [name for name, _, _ in described] == columns_of(tmp_path / "store", "samples")


def test_a_manifest_of_rubbish_is_told(tmp_path: Path, small_pool: Path) -> None:
    run = curate(EVERYDAY, small_pool, tmp_path / "store")
    (tmp_path / "store" / "ledger" / run.ledger / "manifest.json").write_text("{")
    with pytest.raises(StoreError, match="is not JSON"):
        ask(tmp_path / "store", "SELECT 1")


@pytest.mark.parametrize("name", ["it's here", "with space", "semi;colon", 'quo"te', "bräcket[1]"])
def test_a_store_with_a_difficult_name_is_read(tmp_path: Path, name: str) -> None:
    write_tar(tmp_path / "pool" / "0.tar", sample("a", photo(1), "a small picture here"))
    curate(EVERYDAY, tmp_path / "pool", tmp_path / name)
    rows: list[dict[str, Any]] = ask(tmp_path / name, "SELECT key FROM samples")
    assert rows == [{"key": "a"}]


def test_no_secret_is_in_any_file_of_a_store(tmp_path: Path, small_pool: Path) -> None:
    text = EVERYDAY.replace(
        "{retry_seconds: []}", "{retry_seconds: [], storage_options: {password: hunter2}}"
    )
    run = curate(
        text.replace("report: false", "report: false, storage_options: {token: hunter2}"),
        small_pool,
        tmp_path / "store",
    )
    assert "hunter2" not in json.dumps(run.manifest)
    for path in (tmp_path / "store").rglob("*"):
        assert not path.is_file() or b"hunter2" not in path.read_bytes()


# --- what comparisons found

COMPARED = ("drop_exact_duplicates", "drop_near_duplicates", "prune_clusters")


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose filters compare samples."""
    folder = tmp_path_factory.mktemp("compared")
    compared_run(folder)
    return folder / "store"


@pytest.mark.parametrize("view", [*COMPARED, "clusters", "concepts"])
def test_views_of_comparisons_are_described(compared: Path, view: str) -> None:
    described = describe_views(open_decision(Store.at(str(compared))))[view]
    assert [name for name, _, _ in described] == columns_of(compared, view)
    assert all(meaning for _, meaning, _ in described)


@pytest.mark.parametrize("view", COMPARED)
def test_a_view_of_a_comparison_has_every_row_in_its_place(compared: Path, view: str) -> None:
    mine = ask(compared, f"SELECT uid, key, caption, shard, row, verdict, dropped_by FROM {view}")  # noqa: S608
    assert mine == ask(compared, "SELECT uid, key, caption, shard, row, verdict, dropped_by FROM samples")


def test_rows_that_did_not_reach_a_comparison_are_null_in_it(compared: Path) -> None:
    (found,) = ask(
        compared,
        "SELECT count(*) AS n FROM drop_near_duplicates WHERE (cluster_id IS NULL) <> "
        "(verdict = 'failed' OR coalesce(dropped_by, '') IN ('min_side_pixels', 'drop_exact_duplicates'))",
    )
    assert found == {"n": 0}


def test_the_original_of_a_near_duplicate_and_its_similarity_can_be_asked(compared: Path) -> None:
    rows = ask(
        compared,
        "SELECT n.nearest_cosine, s.uid FROM drop_near_duplicates n JOIN samples s ON s.uid = n.duplicate_of "
        "WHERE n.dropped_by = 'drop_near_duplicates'",
    )
    assert len(rows) == 5
    assert all(row["nearest_cosine"] > 0.999 for row in rows)


def test_clusters_count_their_samples_in_the_order_of_the_recipe(compared: Path) -> None:
    rows = ask(compared, "FROM clusters")
    places = [(COMPARED.index(row["step"]), row["cluster_id"]) for row in rows]
    assert places == sorted(places)
    counted = ask(
        compared,
        "SELECT cluster_id, count(*) AS n, count(*) FILTER (verdict = 'keep') AS kept FROM prune_clusters "
        "WHERE cluster_id IS NOT NULL GROUP BY 1 ORDER BY 1",
    )
    mine = [row for row in rows if row["step"] == "prune_clusters"]
    assert [(row["cluster_id"], row["samples"], row["kept"]) for row in mine] == [
        (row["cluster_id"], row["n"], row["kept"]) for row in counted
    ]
    assert all(row["kept_share"] == row["kept"] / row["samples"] for row in rows)


def test_a_cluster_passes_its_quota_and_has_the_complexity_it_was_given_for(compared: Path) -> None:
    artefact = open_decision(Store.at(str(compared))).manifest["artefacts"]["prune_clusters"]
    for row in ask(compared, "FROM clusters WHERE step = 'prune_clusters'"):
        number = row["cluster_id"]
        assert row["passed"] == row["quota"] == artefact["quotas"][number]
        assert row["samples"] == artefact["sizes"][number]
        assert row["mean_distance"] == pytest.approx(artefact["intra_distance"][number], rel=1e-12)
        assert row["inter_distance"] == artefact["inter_distance"][number]
        assert row["complexity"] == pytest.approx(row["mean_distance"] * row["inter_distance"], abs=1e-12)
        assert row["mean_distance"] <= row["greatest_distance"]


def test_clusters_without_quotas_have_none(compared: Path) -> None:
    rows = ask(compared, "SELECT quota, complexity FROM clusters WHERE step = 'drop_near_duplicates'")
    assert len(rows) == 3
    assert all(row == {"quota": None, "complexity": None} for row in rows)


def test_views_of_comparisons_over_no_rows_are_empty(tmp_path: Path) -> None:
    write_tar(tmp_path / "pool" / "0.tar", [])
    curate(EMPTY, tmp_path / "pool", tmp_path / "store")
    for view in (*COMPARED, "clusters", "concepts", "sources"):
        assert ask(tmp_path / "store", f"FROM {view}") == []
        described = describe_views(open_decision(Store.at(str(tmp_path / "store"))))[view]
        assert [name for name, _, _ in described] == columns_of(tmp_path / "store", view)


def test_a_view_whose_name_is_taken_gets_another(compared: Path) -> None:
    decision = open_decision(Store.at(str(compared)))
    manifest = json.loads(json.dumps(decision.manifest))
    manifest["recipe"]["filters"][1]["name"] = "Clusters"
    manifest["relations"]["Clusters"] = manifest["relations"]["drop_exact_duplicates"]
    renamed = Decision(decision.store, manifest)
    assert next(iter(relation_views(renamed).items())) == ("Clusters", "Clusters_step")
    assert run_sql(connect(renamed), 'SELECT count(*) AS n FROM "Clusters_step"').to_pylist() == [{"n": 26}]


def test_a_comparison_can_be_asked_where_the_store_is_no_local_folder(tmp_path: Path) -> None:
    write_tar(tmp_path / "pool" / "0.tar", [*sample("a", photo(1), "one"), *sample("b", photo(1), "two")])
    text = "name: far\nfilters:\n  - drop_exact_duplicates\noutput: {report: false}\n"
    curate(text, tmp_path / "pool", "memory://compared/store")
    (row,) = ask("memory://compared/store", "FROM drop_exact_duplicates WHERE duplicate_of IS NOT NULL")
    assert row["dropped_by"] == "drop_exact_duplicates"
