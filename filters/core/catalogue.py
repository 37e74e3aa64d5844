"""Finds what a module declares by the name a recipe uses: that of the module."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterable
from functools import cache
from typing import TypeVar

from filters.core.declaration import Filter, FittedFilter
from filters.core.errors import RecipeError

Declared = TypeVar("Declared")


def filter_names() -> list[str]:
    """Every filter's name, sorted."""
    return names_in("filters")


@cache
def find_filter(name: str) -> type[Filter]:
    """The filter's class.

    Raises: RecipeError for an unknown name, with the nearest known ones.
    """
    return declared_in("filters", name, Filter)


def names_in(package: str) -> list[str]:
    """The names of a package's own modules, sorted; sub-packages are not among them."""
    path = importlib.import_module(package).__path__
    return sorted(module.name for module in pkgutil.iter_modules(path) if not module.ispkg)


def declared_in(package: str, name: str, base: type[Declared]) -> type[Declared]:
    """The one class that the package's module of this name declares.

    base: what it is derived from; its name is what messages call it.
    Raises: RecipeError for an unknown name, with the nearest known ones; TypeError where the
    module declares none, or more than one.
    """
    kind = base.__name__.lower()
    known = names_in(package)
    if name not in known:
        msg = f"unknown {kind} {name!r}; {nearest(name, known)}"
        raise RecipeError(msg)
    module = importlib.import_module(f"{package}.{name}")
    declared = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, base)
        and value.__module__ == module.__name__
        and not value.__name__.startswith("_")
    ]
    if len(declared) != 1:
        where = f"{package.replace('.', '/')}/{name}.py"
        msg = f"{where} must declare exactly one {kind}, but declares {len(declared)}"
        raise TypeError(msg)
    return declared[0]


def filter_kind(declared: type[Filter] | Filter) -> str:
    """How the filter decides, or this one with its options: "row", "fitted" or "relational"."""
    if declared.relation is not None:
        return "relational"
    kind = declared if isinstance(declared, type) else type(declared)
    return "fitted" if issubclass(kind, FittedFilter) else "row"


def nearest(name: str, known: Iterable[str]) -> str:
    """The known names nearest to a misspelt one, as the end of an error message."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(close) + "?"
    return "known: " + ", ".join(names)
