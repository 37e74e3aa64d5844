"""A condition on samples as a person types it: one SQL expression, checked before it is used."""

from __future__ import annotations

import json
from typing import Any

import duckdb

from filters.core.errors import QueryError

MOST_CHARACTERS = 100_000
_PLACES = ("query_location", "query_location_length")


def where_clause(connection: duckdb.DuckDBPyConnection, condition: str | None) -> str:
    """`WHERE (condition)`, or nothing where there is no condition.

    It may name the columns of `samples` and ask other views in brackets; it can end neither the
    brackets nor the question.
    Raises: QueryError where it is not exactly one expression.
    """
    if condition is None:
        return ""
    if not condition.strip() or len(condition) > MOST_CHARACTERS:
        msg = f"a condition has 1 to {MOST_CHARACTERS:,} characters, such as verdict = 'keep' AND width > 512"
        raise QueryError(msg)
    # On a line of its own, the bracket closes behind a comment, too.
    clause = f"WHERE ({condition}\n)"
    plain, asked = _parsed(connection, "WHERE (true\n)"), _parsed(connection, clause)
    for node in (plain, asked):
        node.pop("where_clause", None)
    if plain != asked:
        msg = f"a condition is one expression, such as verdict = 'keep' AND width > 512, not {condition!r}"
        raise QueryError(msg)
    return clause


def _parsed(connection: duckdb.DuckDBPyConnection, clause: str) -> dict[str, Any]:
    """The one SELECT with this clause as DuckDB's parser reads it, without places in the text."""
    question = f"SELECT 1 FROM samples {clause}"  # noqa: S608  (parsed, never run)
    try:
        rows = connection.execute("SELECT json_serialize_sql(?)", [question]).fetchall()
    except duckdb.Error as cause:
        msg = f"SQL: {cause}"
        raise QueryError(msg) from cause
    try:
        found: dict[str, Any] = json.loads(rows[0][0])
        statements = _without_places(found.get("statements", []))
    except RecursionError:
        msg = "SQL: the condition is nested too deeply"
        raise QueryError(msg) from None
    if len(statements) != 1:
        msg = f"SQL: {found.get('error_message', 'no condition')}"
        raise QueryError(msg)
    node: dict[str, Any] = statements[0]["node"]
    return node


def _without_places(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_places(one) for name, one in value.items() if name not in _PLACES}
    return [_without_places(one) for one in value] if isinstance(value, list) else value
