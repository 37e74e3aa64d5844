"""Measuring on one worker and on two: threads of a process, and Prism with workers elsewhere."""

from __future__ import annotations

import statistics
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.fresh import call_fresh
from benchmarks.machine import cores
from benchmarks.photographs import linked_pool, photograph_pool, scratch
from benchmarks.product import image_plan, silent
from benchmarks.section import Section
from benchmarks.timing import spread, stopwatch, take_turns

LOCAL, PRISM = 1.8, 0.8
ONE, TWO = "local, 1 worker", "local, 2 workers, threads"
PROCESSES, ELSEWHERE = "local, 2 workers, `--devices cpu`", "Prism, 2 worker processes"
APART = "two programs, half the shards each"


def run(*, small: bool) -> Section:
    """Pools without a model, so that decoding is what takes time; each worker has one decode thread."""
    images, rounds = (16, 1) if small else (256, 3)
    few, many = (2, 2) if small else (24, 48)
    usual = sides_of(many, images, 1, rounds, prism=True)
    large = sides_of(few, images, 2, rounds, prism=False)
    prism = usual.middle[TWO] / usual.middle[ELSEWHERE]
    local = large.middle[ONE] / large.middle[PROCESSES]
    return Section(
        name="engines",
        measured=(
            f"the measuring stage over {many} shards of {images} photographs of 500 x 400, and over {few} of "
            f"1000 x 800; all automatic measures, no model, one decode thread for each worker, {cores()} "
            "cores; the start of Prism and of local processes included, that of Prism's pool and of the two "
            "programs not"
        ),
        against="each other, by turns",
        columns=("pictures", "engine", "seconds", "images per second", "times one worker", "cores busy"),
        rows=[*usual.rows("500 x 400", many * images), *large.rows("1000 x 800", few * images)],
        met=[
            (
                f"two local processes at least {LOCAL:g} times as fast as one (1000 x 800): {local:.2f}",
                local >= LOCAL,
            ),
            (
                f"Prism with two at least {PRISM:g} times as fast as local with two threads: {prism:.2f}",
                prism >= PRISM,
            ),
        ],
        remarks=[
            "Seconds: median (least to greatest). Cores busy: of the one process that works.",
            (
                "Threads share Python's lock, which Pillow keeps while it resizes and converts; processes "
                "do not. Two programs that know nothing of each other are what the machine has to give: one "
                "worker alone keeps more than a core busy."
            ),
        ],
    )


@dataclass(frozen=True)
class Sides:
    """Seconds of each engine, by rounds, and how many cores the local ones kept busy in the last."""

    seconds: dict[str, list[float]]
    busy: dict[str, str]

    @property
    def middle(self) -> dict[str, float]:
        """Median seconds."""
        return {side: statistics.median(taken) for side, taken in self.seconds.items()}

    def rows(self, pictures: str, count: int) -> list[list[str]]:
        """A row of the table for each engine."""
        return [
            [
                pictures,
                side,
                spread(taken),
                f"{count / self.middle[side]:,.0f}",
                f"{self.middle[ONE] / self.middle[side]:.2f}",
                self.busy.get(side, "-"),
            ]
            for side, taken in self.seconds.items()
        ]


def sides_of(shards: int, images: int, scale: int, rounds: int, *, prism: bool) -> Sides:
    """Measures every engine on one pool."""
    tars = photograph_pool(min(shards, 8), images, scale)
    with scratch("engines") as folder:
        pool = list(map(str, linked_pool(folder / "pool", tars, shards)))
        given = {"folder": str(folder), "tars": pool, "rounds": rounds, "prism": prism}
        return Sides(**call_fresh(measured, torch_threads=1, **given).value)


def measured(folder: str, tars: list[str], rounds: int, *, prism: bool) -> dict[str, Any]:
    """Each engine by turns, as `Sides` has them."""
    from curate.runners.local import Local
    from curate.runners.prism import Prism
    from curate.worker_pool import running_pool

    number = iter(range(1000))
    busy: dict[str, str] = {}

    def side(runner: Any, name: str = "") -> float:
        from curate.pipeline import Flow

        plan = image_plan(Path(folder) / f"store-{next(number)}", [Path(tar) for tar in tars], None)
        plan = runner.seen_by_workers(plan)
        with stopwatch() as watch, runner.start("bench") as engine:
            Flow(plan, engine, silent, 1).measure(plan.to_measure())
        if name:
            busy[name] = f"{watch.processor / watch.wall:.2f}"
        return watch.wall

    def apart() -> float:
        stores = [str(Path(folder) / f"store-{next(number)}") for _ in range(2)]
        with ThreadPoolExecutor(2) as pair:
            return max(pair.map(half, stores, [tars[::2], tars[1::2]]))

    with running_pool() as address:
        sides = {
            ONE: lambda: side(Local(workers=1), ONE),
            TWO: lambda: side(Local(workers=2), TWO),
            PROCESSES: lambda: side(Local(devices=("cpu",), workers=2)),
            APART: apart,
        }
        if prism:
            sides[ELSEWHERE] = lambda: side(Prism(worker_pool=address, workers=2))
        return {"seconds": take_turns(sides, rounds), "busy": busy}


def half(store: str, tars: list[str]) -> float:
    """Seconds of measuring in a program of its own."""
    return float(call_fresh(alone, torch_threads=1, store=store, tars=tars).value)


def alone(store: str, tars: list[str]) -> float:
    """Seconds of measuring with one local worker."""
    from curate.engine import Engine
    from curate.pipeline import Flow

    plan = image_plan(Path(store), [Path(tar) for tar in tars], None)
    with stopwatch() as watch:
        Flow(plan, Engine(), silent, 1).measure(plan.to_measure())
    return watch.wall
