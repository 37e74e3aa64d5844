"""The command line: reads options, names errors and exit codes; `curate.commands` does the work."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape

from curate import __version__
from curate.evaluate.settings import BUDGET, Against, Settings
from curate.logs import set_up_logs
from curate.target import Target
from filters.core.errors import StopRun, WorkerLost
from transforms.storage import redact
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


@app.command()
def run(  # noqa: PLR0913, PLR0917  (a command's options)
    recipe: RecipeArgument,
    store: StoreOption,
    pool: PoolOption = None,
    runner: Annotated[
        str, typer.Option("--runner", help="Where it runs: local, prism, portable, flink or dataflow.")
    ] = "local",
    options: Annotated[
        Path | None, typer.Option("--options", help="YAML file with options of the runner.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Shards measured side by side; 1 if not given.")
    ] = None,
    devices: Annotated[
        str | None,
        typer.Option("--devices", help="A worker process for each: cuda:0,cuda:1 or all; runner local."),
    ] = None,
    decode_threads: Annotated[int, typer.Option(min=1, help="Decoding threads of each worker.")] = 2,
    follow: Annotated[  # noqa: FBT002
        bool, typer.Option("--follow", help="Go on with every shard that arrives, until it is stopped.")
    ] = False,
    every: Annotated[
        float, typer.Option("--every", min=0.05, help="With --follow: seconds between two looks at the pool.")
    ] = 1.0,
    streaming: Annotated[  # noqa: FBT002
        bool, typer.Option("--streaming", help="With --follow: as one unbounded pipeline of the runner.")
    ] = False,
    until_idle: Annotated[  # noqa: FBT002
        bool, typer.Option("--until-idle", help="With --follow: end when every shard there is done.")
    ] = False,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            "--metrics-port", min=0, max=65535, help="With --follow: serve Prometheus metrics at /metrics."
        ),
    ] = None,
    log_format: Annotated[
        Literal["text", "json"], typer.Option("--log-format", help="How to log; json: an object a line.")
    ] = "text",
    storage_options: OptionsOption = None,
    verbose: VerboseOption = False,  # noqa: FBT002
) -> None:
    """Measure what is not measured yet, decide by the recipe, write the curated set."""
    # Imported here: Beam and Arrow take a second, which `--help` need not wait for.
    from curate.commands import run_command  # noqa: PLC0415
    from curate.follow.commands import follow_command  # noqa: PLC0415
    from curate.follow.loop import FollowOptions  # noqa: PLC0415
    from curate.run import RunOptions  # noqa: PLC0415
    from curate.runner import load_runner  # noqa: PLC0415

    set_up_logs(verbose=verbose, form=log_format)
    target = Target(store, _options(storage_options))
    where = load_runner(runner, options, {"workers": workers, "devices": devices})
    using = RunOptions(where.workers, decode_threads, where)
    if follow:
        as_json = log_format == "json"
        following = FollowOptions(every, until_idle, metrics_port, as_json=as_json, streaming=streaming)
        follow_command(recipe, pool or [], target, using, following)
        return
    if until_idle or streaming or metrics_port is not None:
        msg = "--until-idle, --streaming and --metrics-port go with --follow"
        raise typer.BadParameter(msg)
    run_command(recipe, pool or [], target, using)


@app.command()
def calibrate(
    recipe: RecipeArgument,
    store: StoreOption,
    pool: PoolOption = None,
    workers: Annotated[int, typer.Option(min=1, help="Shards measured side by side.")] = 1,
    storage_options: OptionsOption = None,
) -> None:
    """Fit thresholds, clusters and mixtures on the shards there are, for `run --follow` to judge with."""
    from curate.follow.commands import calibrate_command  # noqa: PLC0415
    from curate.run import RunOptions  # noqa: PLC0415

    target = Target(store, _options(storage_options))
    calibrate_command(recipe, pool or [], target, RunOptions(workers))


@app.command()
def status(
    store: StoreArgument,
    decision: Annotated[
        str | None,
        typer.Option("--decision", help="Which run: its name or its recipe's, if not the only one."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,  # noqa: FBT002
    storage_options: OptionsOption = None,
) -> None:
    """Show how a continuous run stands: done, waiting and failed shards, lag, kept rate and drift."""
    from curate.follow.shown import status_command  # noqa: PLC0415

    status_command(_store(store, storage_options), decision, as_json=as_json)


@app.command()
def plan(
    recipe: RecipeArgument,
    store: StoreOption,
    pool: PoolOption = None,
    storage_options: OptionsOption = None,
) -> None:
    """Show what `run` would do; refuse a recipe that can't work. Nothing is written."""
    from curate.commands import plan_command  # noqa: PLC0415

    plan_command(recipe, pool or [], Target(store, _options(storage_options)))


@app.command()
def explain(
    store: StoreArgument,
    name: Annotated[str, typer.Argument(metavar="KEY-or-UID", help="A sample's key or uid.")],
    decision: LedgerOption = None,
    storage_options: OptionsOption = None,
) -> None:
    """Say why one sample was kept or dropped: every filter's value, bound and vote."""
    from curate.commands import explain_command  # noqa: PLC0415

    explain_command(_store(store, storage_options), name, decision)


@app.command()
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

    opened = _store(store, storage_options)
    if schema:
        schema_command(opened, decision)
    else:
        query_command(opened, sql, decision, form, output)


@app.command()
def index(
    store: StoreArgument,
    embedding: EmbeddingOption = None,
    decision: LedgerOption = None,
    storage_options: OptionsOption = None,
) -> None:
    """Make the index that `search` uses: of one kind of embeddings, or of all that the decision has."""
    from curate.search.commands import index_command  # noqa: PLC0415

    index_command(_store(store, storage_options), embedding, decision)


@app.command()
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
    search_command(_store(store, storage_options), question, decision, form, output)


@app.command()
def export(  # noqa: PLR0913, PLR0917  (a command's options)
    store: StoreArgument,
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="A new folder or URL to write to.")],
    to: Annotated[
        str, typer.Option("--to", help="What for: datacomp, clip-retrieval, huggingface or croissant.")
    ],
    where: WhereOption = None,
    licence: Annotated[
        str | None, typer.Option("--license", help="Of the data set, as you state it; for its card.")
    ] = None,
    url: Annotated[
        str | None, typer.Option("--url", help="Where the data set is or will be; for Croissant.")
    ] = None,
    decision: LedgerOption = None,
    storage_options: OptionsOption = None,
) -> None:
    """Hand the kept samples, or those that meet a condition, on to other tools."""
    from curate.commands import export_command  # noqa: PLC0415
    from curate.exporting import Publication, Selection  # noqa: PLC0415
    from curate.query import open_decision  # noqa: PLC0415

    selection = Selection(open_decision(_store(store, storage_options), decision), where)
    export_command(selection, to, Target(folder), Publication(licence, url))


@app.command()
def report(
    store: StoreArgument,
    decision: LedgerOption = None,
    storage_options: OptionsOption = None,
) -> None:
    """Write the HTML report of a decision and print its summary."""
    from curate.commands import report_command  # noqa: PLC0415

    report_command(_store(store, storage_options), decision, _options(storage_options))


@app.command()
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

    opened, options = _store(store, storage_options), _options(storage_options)
    if answers is None:
        audit_command(opened, decision, budget, seed, options)
    else:
        audit_score_command(opened, decision, budget, seed, answers)


@app.command()
def state(
    store: StoreArgument,
    target: Annotated[str, typer.Argument(metavar="STATE", help="Folder or URL to save to, or to add to.")],
    step: Annotated[
        str | None, typer.Option("--step", help="Which filter's survivors; needed where there are several.")
    ] = None,
    decision: LedgerOption = None,
    storage_options: OptionsOption = None,
) -> None:
    """Save what a deduplication kept, so that later shards are compared with it."""
    from curate.commands import state_command  # noqa: PLC0415

    state_command(_store(store, storage_options), target, step, decision)


@app.command()
def remove(  # noqa: PLR0913, PLR0917  (a command's options)
    store: StoreArgument,
    uid: Annotated[
        list[str] | None, typer.Option("--uid", help="A sample's uid, 32 hex digits; repeatable.")
    ] = None,
    url: Annotated[
        list[str] | None, typer.Option("--url", help="Where an image was crawled, as stored; repeatable.")
    ] = None,
    like: Annotated[
        Path | None, typer.Option("--like", help="An image file: all that look like it, or are equal to it.")
    ] = None,
    near_duplicates: Annotated[  # noqa: FBT002
        bool, typer.Option("--near-duplicates", help="Also what decisions found to be copies of them.")
    ] = False,
    by: Annotated[str | None, typer.Option("--by", help="Who answers for it; kept in the record.")] = None,
    reason: Annotated[
        str | None, typer.Option("--reason", help="Why, without repeating what is removed; kept too.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go; change nothing.")] = False,  # noqa: FBT002
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,  # noqa: FBT002
    storage_options: OptionsOption = None,
) -> None:
    """Take samples out of the store for good, with a signed record; they stay out when read again."""
    from curate.remove.command import Signed, remove_command  # noqa: PLC0415
    from curate.remove.find import Asked  # noqa: PLC0415
    from curate.search.pictures import read_image  # noqa: PLC0415

    image = None if like is None else read_image(like)
    asked = Asked(tuple(uid or ()), tuple(url or ()), image, near_duplicates)
    remove_command(_store(store, storage_options), asked, Signed(by, reason, yes, dry_run))


@app.command()
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

    found = _store(store, storage_options)
    serve_store(found, Listening(host, port, token), _options(pool_options))


@app.command()
def worker_pool(
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on: whoever reaches it can run anything.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 50000,
    verbose: VerboseOption = False,  # noqa: FBT002
) -> None:
    """Offer worker processes to an engine that asks for them: Prism, Flink, Spark."""
    from curate.worker_pool import offer_workers  # noqa: PLC0415

    set_up_logs(verbose=verbose)
    offer_workers(host, port)


@app.command()
def filters(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="One filter, in full.")] = None,
) -> None:
    """List the filters, or document one from its own declaration."""
    from curate.describe import print_filter, print_filters  # noqa: PLC0415

    print_filter(name) if name else print_filters()


@app.command()
def measures(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="One measure, in full.")] = None,
) -> None:
    """List the measures and the signal columns they write, or document one."""
    from curate.describe import print_measure, print_measures  # noqa: PLC0415

    print_measure(name) if name else print_measures()


@app.command()
def recipes(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Print this packaged recipe.")] = None,
) -> None:
    """List the packaged recipes, or print one to start from."""
    from curate.describe import print_recipe, print_recipes  # noqa: PLC0415

    print_recipe(name) if name else print_recipes()


@app.command()
def schema() -> None:
    """Print the JSON Schema of recipes, for editors."""
    from curate.schema import recipe_schema  # noqa: PLC0415

    typer.echo(json.dumps(recipe_schema(), indent=2, sort_keys=True))


@app.command()
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

    options = _options(storage_options)
    settings = Settings(seeds, budget, tuple(dict.fromkeys(against or Against)))
    evaluate_command(Store.at(store, options), decision, (tuple(eval_pool), labels), settings, options)


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where pool and store go.")] = Path(
        "demo-out"
    ),
    samples: Annotated[int, typer.Option(min=200, help="Samples in the pool.")] = 1200,
    seed: Annotated[int, typer.Option(help="Another seed, another pool.")] = 0,
) -> None:
    """Make a pool with planted defects, curate it, and show what was caught."""
    from curate.commands import demo_command  # noqa: PLC0415

    demo_command(folder, samples, seed)


def main() -> None:
    """Runs the command line; turns every error that has a name into one message and exit code."""
    console = Console(stderr=True, highlight=False)
    try:
        app(standalone_mode=False)
    except StopRun as error:
        console.print(f"[bold red]error:[/] {escape(redact_message(str(error)))}", soft_wrap=True)
        if isinstance(error, WorkerLost):
            # Threads of the lost engine may still be at work here, and Python would wait for them.
            sys.stdout.flush()
            os._exit(error.exit_code)
        sys.exit(error.exit_code)
    except typer.Exit as ended:
        sys.exit(ended.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        console.print("interrupted; what is done stays done, the same command goes on from there")
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if not hasattr(error, "show"):
            raise
        error.show()  # a usage error of the command line itself
        sys.exit(2)


def redact_message(message: str) -> str:
    """The message without credentials that a URL may hold."""
    return " ".join(redact(word) if "://" in word and "@" in word else word for word in message.split(" "))


def _options(text: str | None) -> dict[str, Any]:
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


def _store(url: str, storage_options: str | None) -> Store:
    return Store.at(url, _options(storage_options))
