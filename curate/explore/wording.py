"""What the explorer says when it can't answer."""

from __future__ import annotations

from collections.abc import Iterable

from filters.core.catalogue import nearest
from filters.core.errors import QueryError


def unknown_column(name: str, known: Iterable[str]) -> QueryError:
    """The error for a column that is not there."""
    return QueryError(f"no column {name!r} in this decision; {nearest(name, list(known))}")
