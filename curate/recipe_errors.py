"""Turns what is wrong with a recipe into messages: line, key, value and fix."""

from __future__ import annotations

from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from curate.recipe_yaml import Document, Path
from filters.core.catalogue import nearest
from filters.core.errors import RecipeError

SECRET = "storage_options"  # noqa: S105  (a key's name; its values are never shown)


class RecipeProblems:
    """Collects problems, so that a person sees all of them at once."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._found: list[tuple[int, str]] = []

    def add(self, path: Path, problem: str, fix: str) -> None:
        """One problem at one place."""
        line = self._document.line(path)
        where = f"{self._document.name}, line {line}: {_dotted(path)}"
        self._found.append((line, f"{where}: {problem}\n  fix: {fix}"))

    def add_all(self, path: Path, invalid: ValidationError, declared: type[BaseModel]) -> None:
        """Everything that pydantic found below one place."""
        for error in invalid.errors(include_url=False):
            inner, info, known = _follow(declared, tuple(error["loc"]))
            if error["type"] == "extra_forbidden":
                self.add((*path, *inner), f"unknown key {inner[-1]!r}", nearest(str(inner[-1]), known))
            elif error["type"] == "missing":
                self.add((*path, *inner), "is required", f"add `{inner[-1]}: …` ({_means(info)})")
            else:
                reason = str(error["msg"]).removeprefix("Value error, ")
                self.add((*path, *inner), f"{_shown(path, inner, error['input'])}{reason}", _means(info))

    def raise_any(self) -> None:
        """Raises RecipeError with every problem, once, in the order of the lines."""
        if self._found:
            raise RecipeError("\n".join(message for _, message in sorted(set(self._found))))


def _dotted(path: Path) -> str:
    text = ""
    for piece in path:
        text += f"[{piece}]" if isinstance(piece, int) else f".{piece}"
    return text.lstrip(".") or "recipe"


def _shown(path: Path, inner: Path, value: Any) -> str:
    """The value that is wrong, unless it may be a secret or is a whole section."""
    if SECRET in (*path, *inner) or isinstance(value, dict | BaseModel):
        return ""
    return f"{str(value)[:80]!r}: " if not isinstance(value, int | float) else f"{value}: "


def _means(info: FieldInfo | None) -> str:
    if info is None or not info.description:
        return "see `curate schema` or docs/recipes.md"
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    limits = [
        f"{said} {getattr(limit, name)}"
        for limit in info.metadata
        for name, said in words.items()
        if getattr(limit, name, None) is not None
    ]
    return info.description + (f" ({', '.join(limits)})" if limits else "")


def _follow(declared: type[BaseModel], loc: Path) -> tuple[Path, FieldInfo | None, list[str]]:
    """Where pydantic's location lies in the recipe: path, field, and the keys that may stand there.

    Below a field that is no model, nor a list of models, only list positions are kept: pydantic adds
    the types that it tried, which are no keys.
    """
    model: Any = declared
    path: list[str | int] = []
    info: FieldInfo | None = None
    known: list[str] = []
    for piece in loc:
        if not hasattr(model, "model_fields"):
            if isinstance(piece, int):
                path.append(piece)
                model = item_model(model)
            continue
        fields = {field.alias or name: field for name, field in model.model_fields.items()}
        info, known = fields.get(str(piece)), list(fields)
        model = info.annotation if info is not None else None
        path.append(piece)
    return tuple(path), info, known


def item_model(annotation: Any) -> type[BaseModel] | None:
    """The model of a list's items; None where they have none."""
    items = get_args(annotation)[:1] if get_origin(annotation) in (tuple, list) else ()
    return next((one for one in items if hasattr(one, "model_fields")), None)
