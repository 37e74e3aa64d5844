"""What `run --follow`, `calibrate` and `status` do, once their options are read."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.markup import escape

from curate.describe import plain_table
from curate.follow.calibration import calibrate, calibrated_steps
from curate.follow.loop import Follower, FollowOptions, ending_on_signals
from curate.follow.status import read_status
from curate.plan import make_plan
from curate.progress import show_progress
from curate.recipe import load_recipe
from curate.report.page import VERDICT_WORDS
from curate.run import RunOptions
from curate.target import Target
from transforms.storage import redact
from transforms.store import Store

logger = logging.getLogger("curate.follow")
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def follow_command(
    name: str, pool: Sequence[str], target: Target, run: RunOptions, options: FollowOptions
) -> None:
    """Follows a pool until it is asked to stop."""
    recipe = load_recipe(name)
    store = target.store(recipe.file.output.storage_options)
    shown = " ".join(f"--pool {shlex.quote(redact(pattern))}" for pattern in pool)
    words = ["curate calibrate", shlex.quote(name), shown, "--store", shlex.quote(redact(target.url))]
    options = replace(options, command=" ".join(word for word in words if word))
    say = _logged if options.as_json else _printed
    follower = Follower(recipe, store, pool, run, options, say)
    with ending_on_signals(follower.stop):
        follower.follow()
    say("stopped; the same command goes on from there" if follower.stop.is_set() else "nothing is waiting")


def calibrate_command(name: str, pool: Sequence[str], target: Target, options: RunOptions) -> None:
    """Calibrates a recipe and prints what it was fitted on."""
    recipe = load_recipe(name)
    plan = make_plan(recipe, pool, target.store(recipe.file.output.storage_options))
    with show_progress(err):
        made = calibrate(plan, options, _printed)
    fitted = calibrated_steps(plan)
    kept = made.content["verdicts"].get("keep", 0)
    out.print(
        f"calibration {made.number} of {plan.continuous_id}: {len(made.content['shards'])} shards, "
        f"{made.content['rows']:,} samples, {kept:,} of them kept",
        soft_wrap=True,
    )
    out.print(f"fitted  {', '.join(fitted) or 'nothing: no filter needs it; drift is measured against it'}")


def status_command(store: Store, name: str | None, *, as_json: bool) -> None:
    """Prints how a continuous run stands."""
    status = read_status(store, name)
    if as_json:
        out.print(json.dumps(status, indent=1, sort_keys=True), markup=False, soft_wrap=True)
        return
    shards = status["shards"]
    running = "running" if status["running"] else "not running"
    calibration = f"calibration {status['calibration']}" if status["calibration"] else "no calibration"
    out.print(f"[bold]{status['ledger']}[/]  {running}, {status['batches']} batches, {calibration}")
    out.print(f"shards   {shards['done']:,} done, {shards['waiting']:,} waiting, {shards['failed']:,} failed")
    if shards["waiting"]:
        out.print(
            f"lag      {status['lag_seconds']:,.0f} s: {escape(str(status['oldest_waiting']))}",
            soft_wrap=True,
        )
    verdicts = (f"{count:,} {VERDICT_WORDS[verdict]}" for verdict, count in status["verdicts"].items())
    out.print(f"samples  {status['rows']:,}: {', '.join(verdicts) or 'none yet'}")
    for lost in status["failed_shards"]:
        out.print(f"failed   {escape(lost['shard'])}: {lost['code']}", soft_wrap=True)
    _print_windows(status["windows"])
    _print_drift(status["drift"])


def _print_windows(windows: Sequence[Mapping[str, Any]]) -> None:
    if not windows:
        return
    table = plain_table("window", "shards", "samples", "kept", "expected")
    for one in windows:
        low, high = one["interval"] or (None, None)
        expected = "" if low is None else f"{low:.1%} to {high:.1%}"
        cells = (
            str(one["first"]),
            str(one["shards"]),
            f"{one['rows']:,}",
            f"{one['kept_rate']:.1%}",
            expected,
        )
        table.add_row(*cells)
    out.print()
    out.print(table)


def _print_drift(drift: Mapping[str, Any] | None) -> None:
    if drift is None:
        return
    worst = sorted(drift["distances"].items(), key=lambda item: (-item[1], item[0]))[:3]
    if worst:
        out.print(f"\ndrift    {', '.join(f'{name} {value:.2f}' for name, value in worst)}")
    for name, said in sorted(drift["alarms"].items()):
        out.print(f"[bold red]alarm[/]    {escape(name)}: {escape(said)}")


def _printed(text: str) -> None:
    err.print(text, markup=False)


def _logged(text: str) -> None:
    logger.info(text)
