"""Commands that ask a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from curate.cli.app import (
    EmbeddingOption,
    FormOption,
    LedgerOption,
    OptionsOption,
    OutputOption,
    StoreArgument,
    WhereOption,
    app,
    options_of,
    store_at,
)
from curate.evaluate.settings import BUDGET, Against, Settings
from transforms.store import Store

PANEL = "Asking"


@app.command(rich_help_panel=PANEL)
def explain(
    store: StoreArgument,
    name: Annotated[str, typer.Argument(metavar="KEY-or-UID", help="A sample's key or uid.")],
    decision: LedgerOption = None,
    storage_options: OptionsOption = None,
) -> None:
    """Say why one sample was kept or dropped: every filter's value, bound and vote."""
    from curate.commands import explain_command  # noqa: PLC0415

    explain_command(store_at(store, storage_options), name, decision)


@app.command(rich_help_panel=PANEL)
def query(  # noqa: PLR0913, PLR0917  (a command's options)
    store: StoreArgument,
    sql: Annotated[str | None, typer.Argument(metavar="SQL", help="One SELECT over the views.")] = None,
    schema: Annotated[bool, typer.Option("--schema", help="List every view and column.")] = False,  # noqa: FBT002
    form: FormOption = "table",
    output: OutputOption = None,
    decision: LedgerOption = None,
    storage_options: OptionsOption = None,
) -> None:
    """Ask the store in SQL (DuckDB): views samples, drops, clusters, duplicates and more, see --schema."""
    from curate.commands import query_command, schema_command  # noqa: PLC0415

    opened = store_at(store, storage_options)
    if schema:
        schema_command(opened, decision)
    else:
        query_command(opened, sql, decision, form, output)


@app.command(rich_help_panel=PANEL)
def search(  # noqa: PLR0913, PLR0917  (a command's options)
    store: StoreArgument,
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="What to search for.")] = None,
    image: Annotated[Path | None, typer.Option("--image", help="Search with this image file.")] = None,
    like: Annotated[
        str | None, typer.Option("--like", metavar="UID", help="Search with this sample.")
    ] = None,
    k: Annotated[int, typer.Option("-k", help="How many samples to find, 1 to 10,000.")] = 50,
    where: WhereOption = None,
    embedding: EmbeddingOption = None,
    form: FormOption = "table",
    output: OutputOption = None,
    decision: LedgerOption = None,
    storage_options: OptionsOption = None,
) -> None:
    """Find the samples nearest to a text, an image or another sample, by the run's own CLIP."""
    from curate.search.commands import Question, search_command  # noqa: PLC0415

    question = Question(text, image, like, k, where, embedding)
    search_command(store_at(store, storage_options), question, decision, form, output)


@app.command(rich_help_panel=PANEL)
def report(
    store: StoreArgument,
    decision: LedgerOption = None,
    storage_options: OptionsOption = None,
) -> None:
    """Write the HTML report of a decision and print its summary."""
    from curate.commands import report_command  # noqa: PLC0415

    report_command(store_at(store, storage_options), decision, options_of(storage_options))


@app.command(rich_help_panel=PANEL)
def audit(  # noqa: PLR0913, PLR0917  (a command's options)
    store: StoreArgument,
    budget: Annotated[
        int | None, typer.Option(min=1, help="Samples to draw for a person to look at; 200 if not given.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Another seed, another draw; 0 if not given.")
    ] = None,
    answers: Annotated[
        Path | None, typer.Option(help="CSV file that the page saved (uid, ok): report what it tells.")
    ] = None,
    decision: LedgerOption = None,
    storage_options: OptionsOption = None,
) -> None:
    """Draw samples and write a page to judge them on; with --answers, report every filter's errors."""
    from curate.commands import audit_command, audit_score_command  # noqa: PLC0415

    opened, options = store_at(store, storage_options), options_of(storage_options)
    if answers is None:
        audit_command(opened, decision, budget, seed, options)
    else:
        audit_score_command(opened, decision, budget, seed, answers)


@app.command(rich_help_panel=PANEL)
def evaluate(  # noqa: PLR0913, PLR0917  (a command's options)
    store: StoreArgument,
    eval_pool: Annotated[
        list[str],
        typer.Option(
            "--eval-pool", help="Clean shards that the pool does not hold; `demo` for the demo's world."
        ),
    ],
    labels: Annotated[
        str | None, typer.Option("--labels", help="Vocabulary (YAML) of the classes that captions name.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each set.")] = 3,
    budget: Annotated[int, typer.Option(min=1, help="Samples that each model sees.")] = BUDGET,
    against: Annotated[
        list[Against] | None,
        typer.Option("--against", help="Set beside the kept one; repeatable, both if not given."),
    ] = None,
    decision: LedgerOption = None,
    storage_options: OptionsOption = None,
) -> None:
    """Train small models on what was kept, on a random part and on the pool; compare what they learn."""
    from curate.commands import evaluate_command  # noqa: PLC0415

    options = options_of(storage_options)
    settings = Settings(seeds, budget, tuple(dict.fromkeys(against or Against)))
    evaluate_command(Store.at(store, options), decision, (tuple(eval_pool), labels), settings, options)


@app.command(rich_help_panel=PANEL)
def serve(  # noqa: PLR0913, PLR0917  (a command's options)
    store: StoreArgument,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; any but this machine's needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option("--token", envvar="CURATE_TOKEN", help="What requests must bear; made up if needed."),
    ] = None,
    pool_options: Annotated[
        str | None,
        typer.Option(
            "--pool-options", envvar="CURATE_POOL_OPTIONS", help="fsspec options of the pool, as JSON."
        ),
    ] = None,
    storage_options: OptionsOption = None,
) -> None:
    """Serve the web explorer and its HTTP API over a store."""
    from curate.serve.command import Listening, serve_store  # noqa: PLC0415

    found = store_at(store, storage_options)
    serve_store(found, Listening(host, port, token), options_of(pool_options))
