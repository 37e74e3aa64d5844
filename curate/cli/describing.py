"""Commands that say what recipes are made of."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from curate.cli.app import app

PANEL = "Writing recipes"


@app.command(rich_help_panel=PANEL)
def filters(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="One filter, in full.")] = None,
) -> None:
    """List the filters, or document one from its own declaration."""
    from curate.describe import print_filter, print_filters  # noqa: PLC0415

    print_filter(name) if name else print_filters()


@app.command(rich_help_panel=PANEL)
def measures(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="One measure, in full.")] = None,
) -> None:
    """List the measures and the signal columns they write, or document one."""
    from curate.describe import print_measure, print_measures  # noqa: PLC0415

    print_measure(name) if name else print_measures()


@app.command(rich_help_panel=PANEL)
def recipes(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Print this packaged recipe.")] = None,
) -> None:
    """List the packaged recipes, or print one to start from."""
    from curate.describe import print_recipe, print_recipes  # noqa: PLC0415

    print_recipe(name) if name else print_recipes()


@app.command(rich_help_panel=PANEL)
def schema() -> None:
    """Print the JSON Schema of recipes, for editors."""
    from curate.schema import recipe_schema  # noqa: PLC0415

    typer.echo(json.dumps(recipe_schema(), indent=2, sort_keys=True))
