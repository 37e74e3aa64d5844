"""What `run --follow` and `calibrate` do, once their options are read."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console

from curate.follow.calibrate import calibrate
from curate.follow.continuing import calibrated_steps
from curate.follow.loop import Follower, FollowOptions
from curate.follow.streaming import StreamFollower
from curate.plan import make_plan
from curate.progress import show_progress
from curate.recipe import load_recipe
from curate.run import RunOptions
from curate.stopping import ending_on_signals
from curate.target import Target
from transforms.storage import redact

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
    kind = StreamFollower if options.streaming else Follower
    follower = kind(recipe, store, pool, run, options, say)
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


def _printed(text: str) -> None:
    err.print(text, markup=False)


def _logged(text: str) -> None:
    logger.info(text)
