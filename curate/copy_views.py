"""The view `duplicates`: every sample that was dropped as a copy, with what it is a copy of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from curate.quoting import quoted_name, quoted_text
from curate.view_columns import DUPLICATE_COLUMNS


def duplicates_sql(views: Mapping[str, tuple[str, Sequence[str]]]) -> str:
    """The SELECT behind the view: steps in the recipe's order, samples in the pool's.

    views: step -> its view and that view's columns, for every step that writes `duplicate_of`.
    """
    return " UNION ALL ".join(_copies(step, view, names) for step, (view, names) in views.items())


def _copies(step: str, view: str, names: Sequence[str]) -> str:
    """The copies of one step; how similar they are, as far as its comparison says."""
    own = {"step": quoted_text(step)}
    columns = []
    for column in DUPLICATE_COLUMNS:
        there = column.name in names or column.name in ("uid", "key", "shard", "row")
        value = own.get(column.name, quoted_name(column.name) if there else "NULL")
        columns.append(f"CAST({value} AS {_SQL_TYPES[str(column.type)]}) AS {quoted_name(column.name)}")
    return (
        f"SELECT {', '.join(columns)} FROM {quoted_name(view)} "  # noqa: S608  (quoted)
        f"WHERE dropped_by = {quoted_text(step)} AND duplicate_of IS NOT NULL"
    )


_SQL_TYPES = {"string": "VARCHAR", "int32": "INTEGER", "float": "FLOAT"}
