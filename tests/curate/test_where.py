"""A condition is one SQL expression, whatever is typed."""

from __future__ import annotations

import duckdb
import pytest

from curate.where import where_clause
from filters.core.errors import QueryError


@pytest.fixture(scope="module")
def connection() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


@pytest.mark.parametrize(
    "condition",
    [
        "width > 512",
        "a = 1 -- and a comment",
        "x IN (SELECT y FROM drops)",
        "/* one */ true",
        "a\n=\n1",
        "(a)",
    ],
)
def test_an_expression_stands_in_brackets(connection: duckdb.DuckDBPyConnection, condition: str) -> None:
    assert where_clause(connection, condition) == f"WHERE ({condition}\n)"


def test_no_condition_is_no_clause(connection: duckdb.DuckDBPyConnection) -> None:
    assert where_clause(connection, None) == ""


@pytest.mark.parametrize(
    "condition",
    [
        "",
        "\t\n",
        "a b",
        "a)",
        "(a",
        "a; SELECT 1",
        "a) UNION SELECT 1 --",
        "a\n) EXCEPT (SELECT 1",
        "a) INTERSECT (SELECT 1",
        "a) ORDER BY (a",
        "a) LIMIT (1",
        "a) GROUP BY (a",
        "a) HAVING (a",
        "a) QUALIFY (a",
        "a) USING SAMPLE (1",
        "a AS b",
        "'",
        "$$",
        "/*",
        "a\x00; DROP VIEW samples",
        "a" * 100_001,
    ],
)
def test_what_is_more_or_less_than_one_expression_is_refused(
    connection: duckdb.DuckDBPyConnection, condition: str
) -> None:
    with pytest.raises(QueryError):
        where_clause(connection, condition)


def test_a_condition_nested_too_deeply_is_refused(connection: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(QueryError, match=r"depth|nested"):
        where_clause(connection, "NOT " * 900 + "NOT (" * 300 + "true" + ")" * 300)


def test_the_connection_can_be_used_afterwards(connection: duckdb.DuckDBPyConnection) -> None:
    where_clause(connection, "true")
    assert connection.sql("SELECT 1").fetchall() == [(1,)]
