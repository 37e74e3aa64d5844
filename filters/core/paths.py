"""Files that a filter's options name: which spellings are allowed, and where relative ones lie."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, TypeAlias

from pydantic import AfterValidator


def _checked(given: str | tuple[str, ...]) -> str | tuple[str, ...]:
    names = listed(given)
    if not names or not all(name.strip() for name in names):
        msg = "name at least one file"
        raise ValueError(msg)
    # A recipe is stored with its decision, so what it names must hold no secret.
    if any("://" in name and re.search(r"://[^/]*@|\?", name) for name in names):
        msg = "a URL here has no password and no query: give credentials in the environment"
        raise ValueError(msg)
    return given


# One or several paths, globs, brace ranges or URLs.
Files: TypeAlias = Annotated[str | tuple[str, ...], AfterValidator(_checked)]
OneFile: TypeAlias = Annotated[str, AfterValidator(_checked)]


def listed(given: str | tuple[str, ...]) -> tuple[str, ...]:
    """The names as a tuple."""
    return (given,) if isinstance(given, str) else given


def beside(folder: Path, given: str | tuple[str, ...]) -> str | tuple[str, ...]:
    """The names, in the recipe's folder where they are relative and something there has that name."""
    if not isinstance(given, str):
        return tuple(str(beside(folder, name)) for name in given)
    if "://" in given or Path(given).is_absolute():
        return given
    pattern = re.sub(r"\{[^{}]*\}", "*", given)
    there = (folder / given).exists() or any(folder.glob(pattern))
    return str(folder / given) if there else given
