"""SQL of strangers: it reads the views and nothing else, and ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from curate.console import Bounds, Console
from curate.query import open_decision
from curate.serve.sql_process import Place, SqlProcess
from filters.core.errors import QueryError
from tests.compared import compared_run
from transforms.store import Store

SMALL = Bounds(seconds=3, memory_mib=256, rows=100)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("console")
    compared_run(folder)
    (folder / "secret.csv").write_text("word\nxyzzy\n")
    (folder / "store" / "secret.csv").write_text("word\nxyzzy\n")
    return folder / "store"


@pytest.fixture(scope="module")
def console(store: Path) -> Console:
    return Console(open_decision(Store.at(str(store))), SMALL)


@pytest.fixture(scope="module")
def process(store: Path) -> Iterator[SqlProcess]:
    found = SqlProcess(Place(str(store), {}), SMALL)
    yield found
    found.close()


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) FROM samples",
        "FROM samples",
        "TABLE drops",
        "VALUES (1), (2)",
        "WITH a AS (SELECT uid FROM samples), b AS (SELECT * FROM a) SELECT count(*) FROM b",
        "WITH RECURSIVE t AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM t WHERE x < 9) SELECT sum(x) FROM t",
        "SELECT * FROM samples s JOIN clusters c ON c.cluster_id = s.row",
        "SELECT unnest(range(5))",
        "SELECT * FROM range(3) r(x)",
        "DESCRIBE samples",
        "SUMMARIZE SELECT width FROM samples",
        "SELECT uid, row_number() OVER (ORDER BY clip_cosine) FROM samples QUALIFY row_number() OVER () < 3",
        "SELECT * FROM SAMPLES -- a comment; not a second statement",
        "SELECT ';' AS semicolon",
        "SELECT * FROM (SELECT 1) UNION ALL SELECT 2;",
        "SELECT votes.min_side_pixels FROM samples",
    ],
)
def test_questions_are_answered(console: Console, sql: str) -> None:
    assert console.ask(sql).table.num_columns >= 1


ESCAPES = [
    # files
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM 'secret.csv'",
    "SELECT * FROM '{folder}/secret.csv'",
    "SELECT * FROM '{folder}/store/secret.csv'",
    "SELECT * FROM read_csv('{folder}/store/secret.csv')",
    "SELECT * FROM read_csv('{folder}/secret.csv')",
    "SELECT * FROM read_csv_auto('/etc/passwd')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_blob('{folder}/store/../secret.csv')",
    "SELECT * FROM read_parquet('{folder}/store/signals/*/*.parquet')",
    "SELECT * FROM parquet_scan('{folder}/store/signals/*/*.parquet')",
    "SELECT * FROM read_json('{folder}/store/store.json')",
    "SELECT * FROM read_ndjson_objects('{folder}/store/store.json')",
    "SELECT * FROM parquet_metadata('{folder}/store/x.parquet')",
    "SELECT * FROM parquet_schema('{folder}/store/x.parquet')",
    "SELECT * FROM sniff_csv('{folder}/store/secret.csv')",
    "SELECT * FROM glob('/**')",
    "SELECT (SELECT count(*) FROM glob('/etc/*'))",
    "SELECT * FROM samples WHERE uid IN (SELECT content FROM read_text('/etc/passwd'))",
    "WITH a AS (SELECT * FROM read_text('/etc/passwd')) SELECT * FROM a",
    "SELECT * FROM samples, LATERAL (SELECT * FROM read_text('/etc/passwd'))",
    'SELECT * FROM "/etc/passwd"',
    # network
    "SELECT * FROM 'https://example.org/x.parquet'",
    "SELECT * FROM read_parquet('s3://bucket/x.parquet')",
    "SELECT * FROM 'http://127.0.0.1:1/x.csv'",
    # statements
    "COPY samples TO 'x.csv'",
    "COPY (SELECT 1) TO '/tmp/x'",
    "ATTACH '/tmp/x.db'",
    "ATTACH ':memory:' AS other",
    "DETACH memory",
    "INSTALL httpfs",
    "LOAD httpfs",
    "PRAGMA database_list",
    "PRAGMA version",
    "SET memory_limit = '100GB'",
    "SET enable_external_access = true",
    "RESET memory_limit",
    "CREATE TABLE t AS SELECT 1",
    "CREATE VIEW v AS SELECT 1",
    "CREATE MACRO f() AS 1",
    "CREATE SECRET s (TYPE s3)",
    "DROP VIEW samples",
    "ALTER VIEW samples RENAME TO t",
    "INSERT INTO samples VALUES (1)",
    "UPDATE samples SET uid = ''",
    "DELETE FROM samples",
    "EXPORT DATABASE '/tmp/x'",
    "IMPORT DATABASE '/tmp/x'",
    "CALL duckdb_settings()",
    "VACUUM",
    "CHECKPOINT",
    "EXPLAIN ANALYZE SELECT 1",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "USE memory",
    "BEGIN",
    "SELECT 1; SELECT 2",
    "SELECT 1; COPY samples TO 'x'",
    # what tells of the machine, or runs text
    "SELECT getenv('HOME')",
    "SELECT GETENV('HOME')",
    "SELECT current_setting('memory_limit')",
    "SELECT * FROM duckdb_settings()",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM duckdb_extensions()",
    "SELECT * FROM duckdb_logs()",
    "SELECT * FROM pragma_database_list()",
    "SELECT * FROM information_schema.tables",
    "SELECT * FROM pg_catalog.pg_settings",
    "SELECT * FROM sqlite_master",
    "SELECT * FROM query('SELECT 1')",
    "SELECT * FROM query_table('samples')",
    "SELECT * FROM samples_table",
    "SELECT * FROM drops_table",
    "SELECT * FROM os",
    "SELECT * FROM python_scan(1)",
    "SHOW ALL TABLES",
    "SHOW TABLES",
    "PIVOT samples ON uid",
    "",
    ";",
    "SELECT",
    "nonsense",
    "SELECT nothing FROM samples",
]  # fmt: skip


@pytest.mark.parametrize("sql", ESCAPES)
def test_everything_else_is_refused(console: Console, store: Path, sql: str) -> None:
    before = sorted(store.parent.iterdir())
    with pytest.raises(QueryError) as error:
        console.ask(sql.replace("{folder}", str(store.parent)))
    assert "Traceback" not in str(error.value)
    assert "xyzzy" not in str(error.value)
    assert sorted(store.parent.iterdir()) == before


def test_answers_are_cut_at_the_bound(console: Console) -> None:
    answer = console.ask("SELECT * FROM range(1000)")
    assert (answer.table.num_rows, answer.truncated) == (100, True)
    answer = console.ask("SELECT * FROM range(1000)", rows=7)
    assert (answer.table.num_rows, answer.truncated) == (7, True)
    answer = console.ask("SELECT * FROM range(7)", rows=7)
    assert (answer.table.num_rows, answer.truncated) == (7, False)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) FROM range(100000000000) a, range(1000) b",
        "WITH RECURSIVE t AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM t) SELECT count(*) FROM t",
    ],
)
def test_endless_questions_are_stopped(console: Console, sql: str) -> None:
    started = time.monotonic()
    with pytest.raises(QueryError, match="stopped after 3 s: ask for less"):
        console.ask(sql)
    assert time.monotonic() - started < 60


def test_huge_questions_are_stopped(console: Console) -> None:
    with pytest.raises(QueryError, match="needs more than 256 MiB"):
        console.ask("SELECT list(range) FROM range(1000000000)")
    with pytest.raises(QueryError, match=r"takes [0-9]+ MiB, more than 64"):
        console.ask("SELECT repeat('x', 20000000) FROM range(6)")
    with pytest.raises(QueryError, match="depth"):
        console.ask("SELECT " + "(" * 5000 + "1" + ")" * 5000)


def test_the_process_answers_like_the_console(process: SqlProcess, console: Console, store: Path) -> None:
    ledger = open_decision(Store.at(str(store))).ledger
    sql = "SELECT dropped_by, count(*) AS n FROM samples GROUP BY 1 ORDER BY 1"
    assert process.ask(ledger, sql).table.equals(console.ask(sql).table)
    with pytest.raises(QueryError, match="one SELECT at a time"):
        process.ask(ledger, "DROP VIEW samples")


def test_a_question_that_duckdb_can_not_stop_ends_with_its_process(process: SqlProcess, store: Path) -> None:
    ledger = open_decision(Store.at(str(store))).ledger
    with pytest.raises(QueryError, match="needs more than 256 MiB"):
        process.ask(ledger, "SELECT repeat('x', 3000000000)")
    assert process.ask(ledger, "SELECT 1").table.num_rows == 1
