"""Finds a filter by the name a recipe uses: the name of its module in `filters`."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterable
from functools import cache

import filters
from filters.core.declaration import Filter, FittedFilter, RelationalFilter, RowFilter
from filters.core.errors import RecipeError


def filter_names() -> list[str]:
    """Every filter's name, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(filters.__path__) if not module.ispkg)


@cache
def find_filter(name: str) -> type[Filter]:
    """The filter's class.

    Raises: RecipeError for an unknown name, with the nearest known ones.
    """
    if name not in filter_names():
        msg = f"unknown filter {name!r}; {nearest(name, filter_names())}"
        raise RecipeError(msg)
    module = importlib.import_module(f"filters.{name}")
    declared = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Filter)
        and value.__module__ == module.__name__
        and not value.__name__.startswith("_")
    ]
    if len(declared) != 1:
        msg = f"filters/{name}.py must declare exactly one filter, but declares {len(declared)}"
        raise TypeError(msg)
    return declared[0]


def filter_kind(declared: type[Filter]) -> str:
    """How the filter decides: "row", "fitted" or "relational"."""
    kinds = {RowFilter: "row", FittedFilter: "fitted", RelationalFilter: "relational"}
    return next(kind for base, kind in kinds.items() if issubclass(declared, base))


def nearest(name: str, known: Iterable[str]) -> str:
    """The known names nearest to a misspelt one, as the end of an error message."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(close) + "?"
    return "known: " + ", ".join(names)
