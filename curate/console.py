"""SQL that strangers wrote: one SELECT over the views, bounded in time, memory and rows.

Three walls: the connection itself reads nothing but the store's files and can't be configured
(`curate.query.connect`), and before it runs a question is parsed, and refused where it names
anything but views, or calls a function that reads files or settings. The third is the service's:
there a question runs in a process of its own (`curate.serve.sql_process`), which can be ended.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from curate.query import Decision, connect
from filters.core.errors import QueryError

# Functions in FROM that make rows of their arguments and read nothing.
TABLE_FUNCTIONS = frozenset({"range", "generate_series", "unnest", "repeat_row"})
# Functions that tell of the machine, or run text as SQL.
REFUSED_FUNCTIONS = frozenset(
    {"getenv", "current_setting", "query", "query_table", "json_execute_serialized_sql", "write_log"}
)
_DEEP = 100_000  # nodes of a parsed question


@dataclass(frozen=True)
class Bounds:
    """What one question may take.

    Attributes:
        seconds: of time; memory_mib: of memory; rows: of the answer; threads: of the processor.
        answer_mib: of the answer in memory.
    """

    seconds: float = 20.0
    memory_mib: int = 1024
    rows: int = 10_000
    threads: int = 2
    answer_mib: int = 64


@dataclass(frozen=True)
class Answer:
    """What came of a question.

    Attributes:
        table: at most as many rows as allowed; truncated: True where there were more.
    """

    table: pa.Table
    truncated: bool
    seconds: float


class Console:
    """Answers questions about one decision, some at a time; safe to use from several threads."""

    def __init__(self, decision: Decision, bounds: Bounds = Bounds()) -> None:
        self._decision = decision
        self._bounds = bounds

    def ask(self, sql: str, rows: int | None = None) -> Answer:
        """The answer to one SELECT over the views.

        rows: at most so many, if fewer than the bound.
        Raises: QueryError with the reason where the SQL is wrong, is no single SELECT, reaches for
        anything but the views, or takes more time or memory than it may.
        """
        most = self._bounds.rows if rows is None else min(rows, self._bounds.rows)
        started = time.perf_counter()
        with self._connection() as connection:
            question = _checked(connection, sql)
            table = self._run(connection, question, most + 1)
        seconds = time.perf_counter() - started
        if table.nbytes > self._bounds.answer_mib << 20:
            msg = (
                f"the answer takes {table.nbytes >> 20} MiB, more than {self._bounds.answer_mib}: "
                "choose fewer columns or rows"
            )
            raise QueryError(msg)
        return Answer(table.slice(0, most), table.num_rows > most, seconds)

    @contextmanager
    def _connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        settings = {
            "memory_limit": f"{self._bounds.memory_mib}MiB",
            "threads": str(self._bounds.threads),
            "temp_directory": "",  # nothing is spilt to disk
        }
        connection = connect(self._decision, settings)
        try:
            yield connection
        finally:
            connection.close()

    def _run(self, connection: duckdb.DuckDBPyConnection, sql: str, rows: int) -> pa.Table:
        expired = threading.Event()

        def stop() -> None:
            expired.set()
            connection.interrupt()

        timer = threading.Timer(self._bounds.seconds, stop)
        timer.daemon = True
        timer.start()
        try:
            return connection.sql(sql).limit(rows).to_arrow_table()
        except duckdb.InterruptException as cause:
            msg = f"stopped after {self._bounds.seconds:g} s: ask for less, or aggregate first"
            raise QueryError(msg) from cause
        except duckdb.OutOfMemoryException as cause:
            msg = f"the question needs more than {self._bounds.memory_mib} MiB: ask for less, or aggregate"
            raise QueryError(msg) from cause
        except (duckdb.Error, RuntimeError, OverflowError, pa.ArrowException) as cause:
            if expired.is_set():
                msg = f"stopped after {self._bounds.seconds:g} s: ask for less, or aggregate first"
                raise QueryError(msg) from cause
            msg = f"SQL: {cause}"
            raise QueryError(msg) from cause
        finally:
            timer.cancel()


def _checked(connection: duckdb.DuckDBPyConnection, sql: str) -> str:
    """The question, if it is one SELECT that names nothing but views."""
    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as cause:
        msg = f"SQL: {cause}"
        raise QueryError(msg) from cause
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        msg = "one SELECT at a time: the store is read-only"
        raise QueryError(msg)
    question = statements[0].query
    found = connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal AND NOT temporary")
    _refuse_outside(_parsed(question), {name for (name,) in found.fetchall()})
    return question


def _parsed(sql: str) -> Any:
    """DuckDB's own syntax tree of a SELECT."""
    with duckdb.connect() as parser:
        try:
            (text,) = parser.execute("SELECT json_serialize_sql(?)", [sql]).fetchone() or ("{}",)
            tree = json.loads(text)
        except (duckdb.Error, RecursionError, ValueError) as cause:
            msg = f"this SQL is too deep or too odd to check: {str(cause)[:200]}"
            raise QueryError(msg) from cause
    if tree.get("error"):
        msg = f"SQL: {tree.get('error_message', 'not a SELECT that can be checked')}"
        raise QueryError(msg)
    return tree["statements"]


def _refuse_outside(tree: Any, views: set[str]) -> None:
    """Raises QueryError where a syntax tree names a table, file or function that is not allowed."""
    nodes, named, own = [tree], list[str](), set[str]()
    seen = 0
    while nodes:
        node = nodes.pop()
        seen += 1
        if seen > _DEEP:
            msg = "this SQL is too long: ask in smaller pieces"
            raise QueryError(msg)
        if isinstance(node, list):
            nodes.extend(node)
        elif isinstance(node, dict):
            nodes.extend(node.values())
            _look(node, named, own)
    known = {name.lower() for name in views | own}
    for name in named:
        if name.lower() not in known:
            msg = f"no view {name!r} here; there are {', '.join(sorted(views))}"
            raise QueryError(msg)


def _look(node: dict[str, Any], named: list[str], own: set[str]) -> None:
    """Notes the tables that a node names and the names it gives; refuses what is not allowed."""
    kind = node.get("type")
    if kind == "BASE_TABLE":
        if node.get("schema_name") or node.get("catalog_name"):
            msg = f"only views can be asked, not {node['schema_name'] or node['catalog_name']!r}"
            raise QueryError(msg)
        named.append(str(node["table_name"]))
    elif kind == "TABLE_FUNCTION":
        function = str(node["function"].get("function_name", "")).lower()
        if function not in TABLE_FUNCTIONS:
            msg = f"the function {function!r} is not allowed in FROM: ask the views"
            raise QueryError(msg)
    elif kind == "SHOW_REF" and not node.get("query"):
        msg = "ask DESCRIBE of one view: `curate query STORE --schema` lists them all"
        raise QueryError(msg)
    elif kind == "FUNCTION" and str(node.get("function_name", "")).lower() in REFUSED_FUNCTIONS:
        msg = f"the function {node['function_name']!r} is not allowed"
        raise QueryError(msg)
    for item in (node.get("cte_map") or {}).get("map", ()) if isinstance(node.get("cte_map"), dict) else ():
        own.add(str(item["key"]))
    if kind == "RECURSIVE_CTE_NODE":
        own.add(str(node.get("cte_name", "")))
