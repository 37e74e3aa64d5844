"""JSON Schema of recipes, for editors: every filter, measure and option with its meaning."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from curate.describe import summary
from curate.recipe import RecipeFile
from filters.core.catalogue import filter_names, find_filter
from transforms.measure import find_measure, measure_names


def recipe_schema() -> dict[str, Any]:
    """The schema (draft 2020-12), made from the declarations."""
    schema = RecipeFile.model_json_schema()
    definitions: dict[str, Any] = schema.setdefault("$defs", {})
    items: list[dict[str, Any]] = [{"type": "string", "enum": filter_names()}]
    for name in filter_names():
        declared = find_filter(name)
        options = _options(declared, definitions)
        choices: list[dict[str, Any]] = [options]
        if declared.shorthand is not None:
            choices.append(options["properties"][declared.shorthand])
        if not options.get("required"):
            choices.append({"type": "null"})
        value = {"description": summary(declared), "anyOf": choices}
        items.append(
            {"type": "object", "properties": {name: value}, "required": [name], "additionalProperties": False}
        )
    schema["properties"]["filters"] = {
        "type": "array",
        "description": schema["properties"]["filters"]["description"],
        "items": {"anyOf": items},
    }
    schema["properties"]["measures"] = {
        "type": "object",
        "description": schema["properties"]["measures"]["description"],
        "properties": {name: _measure(name, definitions, named=True) for name in measure_names()},
        "additionalProperties": {
            "anyOf": [_measure(name, definitions, named=False) for name in measure_names()]
        },
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "Curate recipe",
    }


def _measure(name: str, definitions: dict[str, Any], *, named: bool) -> dict[str, Any]:
    """A measure under its own name, or (not `named`) under another, which must say its kind."""
    options = _options(find_measure(name), definitions)
    options["properties"] = {"measure": {"const": name}, **options["properties"]}
    if not named:
        options["required"] = ["measure", *options.get("required", [])]
    if options.get("required"):
        return options
    return {"anyOf": [options, {"type": "null"}]}


def _options(declared: type[BaseModel], definitions: dict[str, Any]) -> dict[str, Any]:
    """The options of one declaration; what it refers to moves to the common definitions."""
    options = declared.model_json_schema(by_alias=True)
    definitions.update(options.pop("$defs", {}))
    options.setdefault("properties", {})
    return options
