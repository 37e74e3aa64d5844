"""The program `curate`: its exit codes, and the options that several commands have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from curate import __version__
from curate.logs import set_up_logs
from transforms.store import Store

EXIT_CODES: dict[int, str] = {
    0: "done",
    2: "the recipe, pool, model, option or question is wrong; nothing was done",
    3: "more samples or shards failed than max_failed_fraction; the ledger is written, shards are not",
    4: "the store can't be read or written (disk full, not allowed, other version), or is locked",
    5: "a fault of ours: counts that do not add up",
    6: "a worker or an engine's server ended in between; the same command goes on from there",
    130: "interrupted; the same command goes on from there",
}

app = typer.Typer(
    name="curate",
    help="Curate image-text shards by a recipe; keep a verdict and its reason for every sample.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="Exit codes: " + "; ".join(f"{code} {said.split(';')[0]}" for code, said in EXIT_CODES.items()),
)

RecipeArgument = Annotated[
    str, typer.Argument(metavar="RECIPE", help="Recipe file, or the name of a packaged recipe.")
]
StoreArgument = Annotated[str, typer.Argument(metavar="STORE", help="Folder or URL of a store.")]
PoolOption = Annotated[
    list[str] | None,
    typer.Option("--pool", help="Shards: path, glob, {00000..00009} range, folder or URL; repeatable."),
]
StoreOption = Annotated[str, typer.Option("--store", help="Folder or URL where results go.")]
LedgerOption = Annotated[
    str | None,
    typer.Option("--decision", help="Which decision: its name or its recipe's; the latest if not given."),
]
OptionsOption = Annotated[
    str | None,
    typer.Option(
        "--storage-options",
        envvar="CURATE_STORAGE_OPTIONS",
        help="fsspec options of the store, as JSON; better kept in the environment.",
    ),
]
FormOption = Annotated[
    Literal["table", "csv", "json", "parquet"],
    typer.Option("--format", help="How to print; json: one object for each row."),
]
OutputOption = Annotated[
    Path | None, typer.Option("--output", help="File for csv, json or parquet; else standard output.")
]
WhereOption = Annotated[
    str | None,
    typer.Option("--where", help="SQL condition over samples, such as verdict = 'keep' AND width > 512."),
]
EmbeddingOption = Annotated[
    str | None,
    typer.Option("--embedding", help="Which embeddings, such as clip_image or clip_text."),
]
VerboseOption = Annotated[
    bool, typer.Option("--verbose", "-v", help="Log each shard or worker, and Beam's own log.")
]


@app.callback(invoke_without_command=True)
def _version(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,  # noqa: FBT002
) -> None:
    set_up_logs(verbose=False)
    if version:
        typer.echo(f"curate {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def options_of(text: str | None) -> dict[str, Any]:
    """The fsspec options that a JSON object gives; none where none is given. Raises: BadParameter."""
    if not text:
        return {}
    try:
        options = json.loads(text)
    except ValueError:
        options = None
    if not isinstance(options, dict):
        msg = "--storage-options must be a JSON object, such as '{\"anon\": true}'"
        raise typer.BadParameter(msg)
    return options


def store_at(url: str, storage_options: str | None) -> Store:
    """The store; nothing of it is read yet. Raises: BadParameter."""
    return Store.at(url, options_of(storage_options))
