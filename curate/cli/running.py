"""Commands that run recipes, once or for ever."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from curate.cli.app import (
    OptionsOption,
    PoolOption,
    RecipeArgument,
    StoreArgument,
    StoreOption,
    VerboseOption,
    app,
    options_of,
    store_at,
)
from curate.logs import set_up_logs
from curate.target import Target

PANEL = "Running"


@app.command(rich_help_panel=PANEL)
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
    target = Target(store, options_of(storage_options))
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


@app.command(rich_help_panel=PANEL)
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

    target = Target(store, options_of(storage_options))
    calibrate_command(recipe, pool or [], target, RunOptions(workers))


@app.command(rich_help_panel=PANEL)
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

    status_command(store_at(store, storage_options), decision, as_json=as_json)


@app.command(rich_help_panel=PANEL)
def plan(
    recipe: RecipeArgument,
    store: StoreOption,
    pool: PoolOption = None,
    storage_options: OptionsOption = None,
) -> None:
    """Show what `run` would do; refuse a recipe that can't work. Nothing is written."""
    from curate.commands import plan_command  # noqa: PLC0415

    plan_command(recipe, pool or [], Target(store, options_of(storage_options)))


@app.command(rich_help_panel=PANEL)
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


@app.command(rich_help_panel=PANEL)
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
