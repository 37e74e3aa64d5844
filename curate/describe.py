"""Documents filters, measures and recipes from their own declarations."""

from __future__ import annotations

import inspect
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from curate.recipe import load_recipe, packaged_recipes
from curate.recipe_errors import item_model
from filters.core.catalogue import filter_kind, filter_names, find_filter, nearest
from filters.core.declaration import Filter
from filters.core.errors import RecipeError
from transforms.measure import find_measure, measure_names

console = Console(highlight=False)


def summary(declared: type[BaseModel]) -> str:
    """The first sentence of the declaration's docstring."""
    return (inspect.getdoc(declared) or "").split("\n\n")[0].replace("\n", " ")


def paragraphs(declared: type[BaseModel]) -> str:
    """The docstring with one line for each paragraph, to be wrapped where it is shown."""
    text = inspect.getdoc(declared) or ""
    return "\n\n".join(block.replace("\n", " ") for block in text.split("\n\n"))


def option_rows(declared: type[BaseModel]) -> list[tuple[str, str, str, str]]:
    """Name, type, default and meaning of every option."""
    schema = declared.model_json_schema(by_alias=True)
    rows = []
    # Those that every filter has come last.
    own = sorted(declared.model_fields.items(), key=lambda item: item[0] in Filter.model_fields)
    for name, info in own:
        shown = info.alias or name
        default = "required" if info.is_required() else _plain(info.get_default(call_default_factory=True))
        rows.append((shown, _type(schema["properties"][shown], schema), default, info.description or ""))
    return rows


def print_filters() -> None:
    """Prints one line for each filter."""
    table = plain_table("filter", "kind", "what it does")
    for name in filter_names():
        declared = find_filter(name)
        table.add_row(name, filter_kind(declared), escape(summary(declared)))
    console.print(table)
    console.print("\n`curate filters NAME` shows options, defaults and the columns it reads.", markup=False)


def print_filter(name: str) -> None:
    """Prints everything about one filter.

    Raises: RecipeError for an unknown name, with the nearest ones.
    """
    declared = find_filter(name)
    console.print(f"[bold]{name}[/]  ({filter_kind(declared)} filter)\n")
    console.print(escape(paragraphs(declared)))
    if declared.shorthand:
        console.print(f"\nShort form: [bold]- {name}: VALUE[/] sets `{declared.shorthand}`.")
    _print_options(declared)
    reads = filter_reads(declared)
    if reads:
        console.print(f"\nReads: {escape(', '.join(reads))}")
    if declared.tags:
        console.print(f"\nTags every sample with: {', '.join(declared.tags)}")


def print_measures() -> None:
    """Prints one line for each measure, with its columns."""
    table = plain_table("measure", "columns", "what it is")
    for name in measure_names():
        declared = find_measure(name)
        columns = ", ".join(column.name for column in declared.model_construct().columns(name))
        table.add_row(name, escape(columns), escape(summary(declared)))
    console.print(table)


def print_measure(name: str) -> None:
    """Prints everything about one measure.

    Raises: RecipeError for an unknown name, with the nearest ones.
    """
    declared = find_measure(name)
    console.print(f"[bold]{name}[/]  (measure, version {declared.version})\n")
    console.print(escape(paragraphs(declared)))
    _print_options(declared)
    console.print("\n[bold]Columns[/]")
    table = plain_table("column", "type", "meaning", "unit")
    for column in declared.model_construct().columns(name):
        table.add_row(column.name, str(column.type), escape(column.meaning), escape(column.unit))
    console.print(table)


def print_recipes() -> None:
    """Prints one line for each packaged recipe."""
    table = plain_table("recipe", "what it is for")
    for name in packaged_recipes():
        table.add_row(name, escape(load_recipe(name).file.description))
    console.print(table)
    console.print("\n`curate recipes NAME > my.yaml` gives you one to change.", markup=False)


def print_recipe(name: str) -> None:
    """Prints a packaged recipe as it is.

    Raises: RecipeError for an unknown name.
    """
    known = packaged_recipes()
    if name not in known:
        msg = f"no packaged recipe {name!r}; {nearest(name, known)}"
        raise RecipeError(msg)
    console.print(known[name].read_text(encoding="utf-8"), markup=False, end="", soft_wrap=True)


def filter_reads(declared: type[Filter]) -> list[str]:
    """The columns that a filter reads; options that name a column stand as `<option>`."""
    given: dict[str, Any] = {
        name: _placeholder(name, info) for name, info in declared.model_fields.items() if info.is_required()
    }
    return list(declared.model_construct(**given).reads())


def _placeholder(name: str, info: FieldInfo) -> Any:
    """The option's name in its own place, or in that of every required option of a list's items."""
    item = item_model(info.annotation)
    if item is None:
        return f"<{name}>"
    given: dict[str, Any] = {
        inner: f"<{name}>" for inner, about in item.model_fields.items() if about.is_required()
    }
    return (item.model_construct(**given),)


def _print_options(declared: type[BaseModel]) -> None:
    if not declared.model_fields:
        return
    console.print("\n[bold]Options[/]")
    table = plain_table("option", "type", "default", "meaning")
    for row in option_rows(declared):
        table.add_row(*(escape(cell) for cell in row))
    console.print(table)


def _plain(value: object) -> str:
    return "none" if value is None else str(value)


def _type(schema: dict[str, Any], whole: dict[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "anyOf" in schema:
        kinds = [_type(one, whole) for one in schema["anyOf"]]
        return " | ".join(kind for kind in kinds if kind != "null")
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}), whole)}"
    return str(schema.get("type", "any"))


def plain_table(*columns: str) -> Table:
    """A table in the house's plain style."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in ("filter", "measure", "option", "column"))
    return table
