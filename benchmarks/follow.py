"""A continuous run: an idle look, a new shard's way into the ledger, memory over a thousand looks."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.fresh import call_fresh, resident_bytes
from benchmarks.photographs import linked_pool, photograph_pool, scratch
from benchmarks.product import image_plan, measure_seconds, silent
from benchmarks.section import Section
from benchmarks.timing import spread, stopwatch

RECIPE = """\
name: bench
filters:
  - min_side_pixels: 100
  - caption_words: 2
  - drop_exact_duplicates: pixels
output: {subset: false, report: false}
"""
KNOWN = 50  # shards that are done when a look begins
IDLE, LATENCY, GROWTH = 1.0, 5.0, 1.05


def run(*, small: bool) -> Section:
    """Each in a process of its own."""
    images, looks = (50, 40) if small else (1000, 1000)
    with scratch("follow") as folder:
        tars = photograph_pool(2, 16)
        linked_pool(folder / "pool", tars, 4 if small else KNOWN)
        (big,) = photograph_pool(1, images)
        place = {"pool": str(folder / "pool"), "store": str(folder / "store")}
        call_fresh(catch_up, torch_threads=1, **place)
        idle = [_command(folder) for _ in range(3)]
        arrived = call_fresh(arrival, torch_threads=1, shard=str(big), **place).value
        flat = call_fresh(thousand_looks, torch_threads=1, looks=looks, tars=list(map(str, tars)), **place)
    early, late = flat.value["early"], flat.value["late"]
    beyond = arrived["seconds"] - arrived["measure"]
    growth = late / early
    return Section(
        name="follow",
        measured=(
            f"`curate run --follow` over {KNOWN} small shards that are decided, then a shard of {images:,} "
            f"photographs, then {looks:,} looks with a new shard of 16 at every twentieth"
        ),
        against="the targets; for the new shard its own measuring, alone, with the same threads",
        columns=("what", "figure"),
        rows=[
            ["one idle look, s", spread(flat.value["look"], ".4f")],
            ["the whole command where nothing waits, s", spread(idle)],
            [f"{images:,} photographs, from arrival to the ledger, s", f"{arrived['seconds']:.2f}"],
            ["of that, measuring alone, s", f"{arrived['measure']:.2f}"],
            [f"resident after {looks // 10} looks, MiB", f"{early / 2**20:.0f}"],
            [f"resident after {looks} looks, MiB", f"{late / 2**20:.0f}"],
        ],
        met=[
            (f"an idle look under {IDLE:g} s", max(flat.value["look"]) < IDLE),
            (
                f"a new shard in the ledger within {LATENCY:g} s and its measuring: {beyond:.2f}",
                beyond <= LATENCY,
            ),
            (f"memory within {GROWTH:g} times over {looks:,} looks: {growth:.3f}", growth <= GROWTH),
        ],
        remarks=[
            "Seconds: median (least to greatest). A shard has arrived when the file that says so is there.",
            "The whole command is Python's start, Beam's, and one look.",
        ],
    )


def catch_up(pool: str, store: str) -> None:
    """Decides what is there."""
    _follower(pool, store).follow()


def arrival(pool: str, store: str, shard: str) -> dict[str, float]:
    """Seconds from a shard's arrival until it is in the ledger, and of measuring it alone."""
    follower = _follower(pool, store, until_idle=False)
    running = threading.Thread(target=follower.follow)
    running.start()
    while follower.process.looks < 3:
        time.sleep(0.05)
    target = Path(pool) / "arrived.tar"
    shutil.copyfile(shard, target)
    with stopwatch() as watch:
        target.with_name("arrived_stats.json").write_text("{}", encoding="utf-8")
        while str(target) not in Path(store, _manifest(store)).read_text(encoding="utf-8"):
            time.sleep(0.02)
    follower.stop.set()
    running.join()
    plan = image_plan(Path(store).with_name("alone"), [Path(shard)], None)
    return {"seconds": watch.wall, "measure": measure_seconds(plan, 2)}


def thousand_looks(pool: str, store: str, looks: int, tars: list[str]) -> dict[str, Any]:
    """Resident bytes after a tenth of the looks and after all, and the seconds of idle ones."""
    follower = _follower(pool, store, until_idle=False, every=0.005)
    running = threading.Thread(target=follower.follow)
    running.start()
    seen, early, seconds = 0, 0, []
    while seen < looks:
        now = follower.process.looks
        if now == seen:
            time.sleep(0.001)
            continue
        if now // 20 > seen // 20:
            number = now // 20
            target = Path(pool) / f"more-{number:05d}.tar"
            if not target.exists():
                shutil.copyfile(tars[number % len(tars)], target)
                target.with_name(f"{target.stem}_stats.json").write_text("{}", encoding="utf-8")
        seen = now
        seconds.append(follower.process.look_seconds)
        if not early and seen >= looks // 10:
            early = resident_bytes()
    late = resident_bytes()
    follower.stop.set()
    running.join()
    return {"early": early, "late": late, "look": seconds}


def _follower(pool: str, store: str, *, until_idle: bool = True, every: float = 0.1) -> Any:
    from curate.follow.loop import Follower, FollowOptions
    from curate.recipe import parse_recipe
    from curate.run import RunOptions
    from transforms.store import Store

    options = FollowOptions(every=every, until_idle=until_idle)
    recipe = parse_recipe(RECIPE, "recipe.yaml")
    return Follower(recipe, Store.at(store), [f"{pool}/*.tar"], RunOptions(), options, silent)


def _manifest(store: str) -> str:
    latest = Path(store, "latest.json").read_text(encoding="utf-8")
    return f"ledger/{json.loads(latest)['ledger']}/manifest.json"


def _command(folder: Path) -> float:
    """Seconds of the command where nothing waits."""
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")
    program = str(Path(sys.executable).with_name("curate"))
    how = ["--pool", f"{folder}/pool/*.tar", "--store", f"{folder}/store", "--follow", "--until-idle"]
    with stopwatch() as watch:
        subprocess.run([program, "run", str(recipe), *how], check=True, capture_output=True)
    return watch.wall
