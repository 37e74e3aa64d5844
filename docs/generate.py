"""Writes docs/reference from the declarations in the code; a test keeps both equal."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import typer

from curate.cli import EXIT_CODES, app
from curate.describe import filter_reads, option_rows, paragraphs, summary
from curate.recipe import DriftSection, OutputSection, PoolSection, RecipeFile, load_recipe, packaged_recipes
from curate.view_columns import (
    CLUSTER_COLUMNS,
    COMPARED_SAMPLE,
    CONCEPT_COLUMNS,
    DROPS_MEANING,
    DUPLICATE_COLUMNS,
    FAILURES_MEANING,
    LEDGER_MEANING,
    RELATION_COLUMNS,
    RUNS_MEANING,
    SOURCE_COLUMNS,
)
from filters.core.catalogue import filter_kind, filter_names, find_filter
from filters.core.tags import TAGS
from transforms.failures import ROW_FAILURES, SHARD_FAILURES
from transforms.measure import find_measure, measure_names
from transforms.pool import PoolColumns
from transforms.samples import COLUMNS

FOLDER = Path(__file__).parent / "reference"
NOTE = "<!-- Written by docs/generate.py from the code: `make docs`. -->\n\n"


def pages() -> dict[str, str]:
    """Every page of the reference: file name -> Markdown."""
    return {
        "commands.md": commands(),
        "filters.md": filters(),
        "measures.md": measures(),
        "failures.md": failures(),
        "views.md": views(),
        "recipes.md": recipes(),
    }


def commands() -> str:
    """Every command with its arguments and options, and the exit codes."""
    group: Any = typer.main.get_command(app)  # typer brings its own copy of click, without types
    text = NOTE + "# Commands\n"
    for name, command in sorted(group.commands.items()):
        usage = " ".join(_usage(one) for one in command.params)
        text += f"\n## curate {name}\n\n{inspect.cleandoc(command.help or '')}\n\n`curate {name} {usage}`\n\n"
        text += table(
            ["option", "default", "meaning"],
            [(_name(one), _default(one), str(getattr(one, "help", "") or "")) for one in command.params],
        )
    text += "\n## Exit codes\n\n"
    return text + table(["code", "meaning"], [(str(code), said) for code, said in EXIT_CODES.items()])


def filters() -> str:
    """Every filter from its declaration."""
    text = NOTE + "# Filters\n\n"
    rows = [
        (f"[{name}](#{name})", filter_kind(find_filter(name)), summary(find_filter(name)))
        for name in filter_names()
    ]
    text += table(["filter", "kind", "what it does"], rows)
    for name in filter_names():
        declared = find_filter(name)
        text += f"\n## {name}\n\n{paragraphs(declared)}\n\n"
        if declared.shorthand:
            text += f"Short form: `- {name}: VALUE` sets `{declared.shorthand}`.\n\n"
        text += table(["option", "type", "default", "meaning"], option_rows(declared))
        if reads := filter_reads(declared):
            text += f"\nReads {', '.join(f'`{column}`' for column in reads)}.\n"
        if declared.tags:
            text += f"\nTags every sample with {', '.join(f'`{tag}`' for tag in declared.tags)}.\n"
    return text


def measures() -> str:
    """Every measure with its options and signal columns, after those of every sample."""
    text = NOTE + "# Measures and signal columns\n\n## samples\n\n"
    text += "Identity and place of every row, always written.\n\n" + _columns(COLUMNS)
    for name in measure_names():
        declared = find_measure(name)
        text += f"\n## {name}\n\n{paragraphs(declared)}\n\nVersion {declared.version}.\n\n"
        if declared.model_fields:
            text += table(["option", "type", "default", "meaning"], option_rows(declared)) + "\n"
        text += _columns(declared.model_construct().columns(name))
    return text


def failures() -> str:
    """Every failure code."""
    text = NOTE + "# Failure codes\n\n## Of a row\n\nThe row keeps its place; its verdict is `failed`.\n\n"
    text += table(["code", "meaning"], [(f"`{code}`", said) for code, said in ROW_FAILURES.items()])
    text += "\n## Of a shard\n\n"
    return text + table(["code", "meaning"], [(f"`{code}`", said) for code, said in SHARD_FAILURES.items()])


def views() -> str:
    """Every view of `curate query`."""
    text = NOTE + "# Views of `curate query`\n\n## samples\n\nOne row for each input row: the columns of "
    text += "[samples and of every measure](measures.md) of the recipe, and the decision:\n\n"
    text += table(["column", "meaning"], [(f"`{name}`", said) for name, said in LEDGER_MEANING.items()])
    text += "\nAnd the tags that filters of the recipe state, whatever the verdict:\n\n"
    text += table(["column", "meaning"], [(f"`{name}`", tag.meaning) for name, tag in TAGS.items()])
    for view, columns in (("drops", DROPS_MEANING), ("failures", FAILURES_MEANING), ("runs", RUNS_MEANING)):
        text += f"\n## {view}\n\n" + table(["column", "meaning"], [(f"`{n}`", m) for n, m in columns.items()])
    text += "\n## clusters\n\nOne row for each cluster of each filter that makes clusters.\n\n"
    text += _columns(CLUSTER_COLUMNS)
    text += "\n## duplicates\n\nOne row for each sample that a filter takes for a copy of another.\n\n"
    text += _columns(DUPLICATE_COLUMNS)
    text += "\n## concepts\n\nWhat each filter took of each concept.\n\n" + _columns(CONCEPT_COLUMNS)
    text += "\n## sources\n\nWhat each filter took of each source.\n\n" + _columns(SOURCE_COLUMNS)
    return text + _relation_views()


def _relation_views() -> str:
    """The views of the filters that compare samples."""
    rows = [
        (f"`{name}`", ", ".join(f"`{column}`" for column in find_filter(name).relation_reads))
        for name in filter_names()
        if find_filter(name).relation is not None
    ]
    return (
        "\n## One view for each filter that compares samples\n\n"
        "Named after the filter (the second of its kind in a recipe: `drop_near_duplicates_2`), with one row "
        "for each input row. Which columns of the comparison it has is the filter's choice:\n\n"
        + table(["view", "judged by"], rows)
        + "\n"
        + _columns((*COMPARED_SAMPLE, *RELATION_COLUMNS))
    )


def recipes() -> str:
    """The keys of a recipe and the packaged recipes."""
    text = NOTE + "# Recipe keys\n\n"
    parts = [
        ("", RecipeFile),
        ("pool", PoolSection),
        ("pool.columns", PoolColumns),
        ("output", OutputSection),
        ("drift", DriftSection),
    ]
    for section, declared in parts:
        text += f"\n## {section or 'Top level'}\n\n"
        text += table(["key", "type", "default", "meaning"], option_rows(declared))
    text += "\n# Packaged recipes\n\n"
    rows = [(f"`{name}`", load_recipe(name).file.description) for name in packaged_recipes()]
    return text + table(["recipe", "what it is for"], rows)


def table(header: list[str], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |\n"
        for line in lines
    )


def _columns(columns: object) -> str:
    rows = [(f"`{one.name}`", f"{one.type}".split("<")[0], one.meaning, one.unit) for one in columns]  # type: ignore[attr-defined]
    return table(["column", "type", "meaning", "unit or range"], rows)


def _name(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{_usage(parameter)}`"
    return ", ".join(f"`{option}`" for option in parameter.opts)


def _usage(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        shown = str(parameter.metavar or parameter.name.upper())
    else:
        shown = str(parameter.opts[0])
    return shown if parameter.required else f"[{shown}]"


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    return "" if parameter.default in (None, False) or callable(parameter.default) else str(parameter.default)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for file_name, content in pages().items():
        (FOLDER / file_name).write_text(content, encoding="utf-8")
