"""Writing curated shards beside `cp` of the same bytes."""

from __future__ import annotations

import shutil
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks.fresh import call_fresh
from benchmarks.machine import cores
from benchmarks.photographs import linked_pool, photograph_pool, scratch
from benchmarks.product import image_plan, silent
from benchmarks.section import Section
from benchmarks.timing import median_ratio, spread, stopwatch, take_turns

PER_SHARD = 256


def run(*, small: bool) -> Section:
    """Every sample is kept, so that both sides write the same bytes but for the added members."""
    shards, per_shard, rounds = (2, 64, 1) if small else (20, PER_SHARD, 5)
    tars = photograph_pool(min(shards, 10), per_shard)
    size = sum(tar.stat().st_size for tar in tars) * shards / len(tars) / 1e6
    found = call_fresh(
        compare, torch_threads=1, tars=[str(tar) for tar in tars], shards=shards, rounds=rounds
    ).value
    synced = found["cp, then fsync"]
    rows = [
        [
            side,
            spread(seconds),
            f"{size / statistics.median(seconds):.0f}",
            f"{median_ratio(seconds, synced):.2f}",
        ]
        for side, seconds in found.items()
    ]
    return Section(
        name="resharding",
        measured=(
            f"writing curated shards from {shards} shards with {shards * per_shard} samples "
            f"({size:.0f} MB), all of them kept: members copied, a json member with the signals added "
            "to each, fsync of every file"
        ),
        against="`cp` of the same shards, and `cp` followed by fsync of every file; by turns",
        columns=("side", "seconds", "MB/s", "x the time of cp with fsync"),
        rows=rows,
        met=[],
        remarks=[
            "Seconds: median (least to greatest). No target was set; source files are in the page cache."
        ],
    )


def compare(tars: list[str], shards: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of each side, by rounds."""
    with scratch("resharding") as folder:
        pool = linked_pool(folder / "pool", [Path(tar) for tar in tars], shards)
        store = folder / "store"
        _write_again(store, pool, 1)
        several = max(2, cores())
        sides = {
            "curate, 1 worker": lambda: _write_again(store, pool, 1),
            f"curate, {several} workers": lambda: _write_again(store, pool, several),
            "cp": lambda: _copy(folder, pool, sync=False),
            "cp, then fsync": lambda: _copy(folder, pool, sync=True),
        }
        return take_turns(sides, rounds)


def _write_again(store: Path, pool: Sequence[Path], workers: int) -> float:
    """Seconds that a run takes for its curated shards, all else being done."""
    from curate.run import RunOptions, run_recipe

    shutil.rmtree(store / "curated", ignore_errors=True)
    plan = image_plan(store, pool, None, shards=True, samples_per_shard=PER_SHARD)
    return run_recipe(plan, RunOptions(workers), silent).seconds["write"]


def _copy(folder: Path, pool: Sequence[Path], *, sync: bool) -> float:
    target = folder / "copy"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    names = [str(tar) for tar in pool]
    with stopwatch() as watch:
        subprocess.run(["cp", *names, str(target)], check=True)
        if sync:
            subprocess.run(["sync", *[str(target / tar.name) for tar in pool]], check=True)
    return watch.wall
