"""The JSON Schema holds every filter, measure and option, and accepts what the reader accepts."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from curate.recipe import RecipeFile, packaged_recipes
from curate.schema import recipe_schema
from filters.core.catalogue import filter_names, find_filter
from transforms.measure import find_measure, measure_names

KINDS: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}


def refusal(  # noqa: PLR0911  (one for each keyword)
    value: Any, schema: dict[str, Any], whole: dict[str, Any]
) -> str | None:
    """Why the value does not fit, by the keywords that our schema uses; None where it fits."""
    if "$ref" in schema:
        return refusal(value, whole["$defs"][schema["$ref"].rpartition("/")[2]], whole)
    if "anyOf" in schema:
        reasons = [refusal(value, one, whole) for one in schema["anyOf"]]
        return None if None in reasons else f"{value!r} fits none: {reasons}"
    if "const" in schema and value != schema["const"]:
        return f"{value!r} is not {schema['const']!r}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{value!r} is not among {schema['enum']}"
    if "type" in schema and not isinstance(value, KINDS[schema["type"]]):
        return f"{value!r} is no {schema['type']}"
    if isinstance(value, dict):
        return refusal_inside(value, schema, whole)
    if isinstance(value, list):
        return next((said for item in value if (said := refusal(item, schema.get("items", {}), whole))), None)
    if isinstance(value, int | float) and not schema.get("minimum", value) <= value <= schema.get(
        "maximum", value
    ):
        return f"{value} is out of range"
    return None


def refusal_inside(value: dict[str, Any], schema: dict[str, Any], whole: dict[str, Any]) -> str | None:
    absent = [name for name in schema.get("required", []) if name not in value]
    if absent:
        return f"{absent} missing"
    for name, inner in value.items():
        other = schema.get("additionalProperties", {})
        known = schema.get("properties", {}).get(name, other)
        if known is False:
            return f"unknown {name}"
        said = refusal(inner, known if isinstance(known, dict) else {}, whole)
        if said:
            return f"{name}: {said}"
    return None


def accepts(text: str) -> bool:
    schema = recipe_schema()
    return refusal(yaml.safe_load(text), schema, schema) is None


@pytest.mark.parametrize("name", packaged_recipes())
def test_every_packaged_recipe_fits(name: str) -> None:
    schema = recipe_schema()
    assert refusal(yaml.safe_load(packaged_recipes()[name].read_text()), schema, schema) is None


@pytest.mark.parametrize(
    "text",
    [
        "name: a\nfilters: [caption_word: 3]\n",
        "name: a\nfilters: [caption_words: {atleast: 3}]\n",
        "name: a\nfilters: [min_clip_cosine: 28]\n",
        "name: a\nfilters: [{caption_words: 3, min_side_pixels: 3}]\n",
        "name: a\nfilter: []\nfilters: []\n",
        "name: a\nfilters: []\noutput: {shard: true}\n",
        "name: a\nfilters: []\nmeasures: {mine: {model: x}}\n",
        "name: a\nfilters: []\nmeasures: {clip: null}\n",
        "filters: []\n",
    ],
)
def test_what_the_reader_refuses_does_not_fit(text: str) -> None:
    assert not accepts(text)


def test_it_is_the_draft_it_says_and_every_reference_leads_somewhere() -> None:
    schema = recipe_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    text = json.dumps(schema)
    names = {piece.partition('"')[0] for piece in text.split('"#/$defs/')[1:]}
    assert names <= set(schema["$defs"])


def test_it_meets_its_own_draft_where_a_validator_is_installed() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    jsonschema.Draft202012Validator.check_schema(recipe_schema())


def test_every_filter_and_option_is_there_with_its_meaning() -> None:
    items = recipe_schema()["properties"]["filters"]["items"]["anyOf"]
    found = {next(iter(item["properties"])): item for item in items if item["type"] == "object"}
    assert sorted(found) == filter_names() == sorted(items[0]["enum"])
    for name in filter_names():
        value = found[name]["properties"][name]
        assert value["description"]
        options = value["anyOf"][0]["properties"]
        assert set(options) == set(find_filter(name).model_fields)
        assert all("description" in option for option in options.values()), name


def test_every_measure_and_option_is_there() -> None:
    section = recipe_schema()["properties"]["measures"]
    assert sorted(section["properties"]) == measure_names()
    for name in measure_names():
        schema = section["properties"][name]
        options = schema.get("anyOf", [schema])[0]["properties"]
        fields = {info.alias or field for field, info in find_measure(name).model_fields.items()}
        assert set(options) == {"measure", *fields}


def test_every_top_level_key_is_there() -> None:
    assert set(recipe_schema()["properties"]) == set(RecipeFile.model_fields)
