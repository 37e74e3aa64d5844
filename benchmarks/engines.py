"""Measuring on one worker and on two: processes, threads, and Prism with workers elsewhere."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.fresh import call_fresh
from benchmarks.machine import cores
from benchmarks.photographs import linked_pool, photograph_pool, scratch
from benchmarks.product import image_plan, silent
from benchmarks.section import Section
from benchmarks.timing import median_ratio, spread, stopwatch, take_turns

LOCAL, PRISM = 1.8, 0.8
ONE, TWO = "local, `--workers 1`", "local, `--workers 2`"
THREADS, ELSEWHERE = "local, 2 workers as threads (`processes: false`)", "Prism, 2 worker processes"
APART = "two programs, half the shards each"


def run(*, small: bool) -> Section:
    """A pool without a model, so that decoding is what takes time; each worker has one decode thread."""
    shards, images, rounds = (2, 16, 1) if small else (48, 256, 5)
    return compared("engines", photograph_pool(min(shards, 8), images), (shards, images, rounds), "500 x 400")


def compared(name: str, tars: Sequence[Path], size: tuple[int, int, int], pictures: str) -> Section:
    """The section of one pool; size: shards, images in each, and rounds."""
    shards, images, rounds = size
    with scratch(name) as folder:
        pool = list(map(str, linked_pool(folder / "pool", tars, shards)))
        found = call_fresh(measured, torch_threads=1, folder=str(folder), tars=pool, rounds=rounds).value
    seconds, begun, busy = found["seconds"], found["begun"], found["busy"]
    middle = {side: statistics.median(taken) for side, taken in seconds.items()}
    times = {side: median_ratio(seconds[ONE], taken) for side, taken in seconds.items()}
    prism = median_ratio(seconds[TWO], seconds[ELSEWHERE])
    count = shards * images
    return Section(
        name=name,
        measured=(
            f"the measuring stage over {shards} shards of {images} photographs of {pictures}, all automatic "
            f"measures, no model, one decode thread for each worker, {cores()} cores; each engine has run "
            "an empty stage before, in the seconds of its start"
        ),
        against="each other, by turns",
        columns=(
            "engine",
            "seconds",
            "images per second",
            "times one worker",
            "cores busy",
            "seconds to start",
        ),
        rows=[
            [
                side,
                spread(taken),
                f"{count / middle[side]:,.0f}",
                f"{times[side]:.2f}",
                busy.get(side, "-"),
                f"{begun[side]:.1f}" if side in begun else "-",
            ]
            for side, taken in seconds.items()
        ],
        met=[
            (
                f"local with two workers at least {LOCAL:g} times as fast as with one: {times[TWO]:.2f}",
                times[TWO] >= LOCAL,
            ),
            (
                f"Prism with two elsewhere at least {PRISM:g} times as fast as local with two: {prism:.2f}",
                prism >= PRISM,
            ),
        ],
        remarks=[
            (
                "Seconds: median (least to greatest). Times: median of the ratios inside a round. Cores "
                "busy: of the one process that works."
            ),
            (
                "Threads share Python's lock, which Pillow keeps while it resizes and converts; processes "
                "do not, and each has its own start, once in a run. Two programs that know nothing of each "
                "other are what the machine has to give: one worker alone keeps more than a core busy."
            ),
        ],
    )


def measured(folder: str, tars: list[str], rounds: int) -> dict[str, Any]:
    """Seconds of each engine by rounds, those to start, and the cores that were busy in the last round."""
    import apache_beam as beam

    from curate.runners.local import Local
    from curate.runners.prism import Prism
    from curate.worker_pool import running_pool

    class Nothing(beam.DoFn):  # type: ignore[misc]  # Beam tells no types
        def process(self, element: int) -> None:
            """Starts a worker, and does nothing with it."""

    number = iter(range(1000))
    busy: dict[str, str] = {}
    begun: dict[str, float] = {}

    def side(name: str, runner: Any) -> float:
        from curate.pipeline import Flow

        plan = image_plan(Path(folder) / f"store-{next(number)}", [Path(tar) for tar in tars], None)
        plan = runner.seen_by_workers(plan)
        with stopwatch() as start, contextlib.ExitStack() as stack:
            engine = stack.enter_context(runner.start("bench"))
            with engine.pipeline("start", models=True) as pipeline:
                _ = pipeline | "Nothing" >> engine.spread([1, 2], Nothing())
            running = stack.pop_all()
        begun[name] = start.wall
        with running, stopwatch() as watch:
            Flow(plan, engine, silent, 1).measure(plan.to_measure())
        if name in {ONE, THREADS}:
            busy[name] = f"{watch.processor / watch.wall:.2f}"
        return watch.wall

    def apart() -> float:
        stores = [str(Path(folder) / f"store-{next(number)}") for _ in range(2)]
        with ThreadPoolExecutor(2) as pair:
            return max(pair.map(half, stores, [tars[::2], tars[1::2]]))

    with running_pool() as address:
        runners = {
            ONE: Local(workers=1),
            TWO: Local(workers=2),
            THREADS: Local(workers=2, processes=False),
            ELSEWHERE: Prism(worker_pool=address, workers=2),
        }
        sides = {name: partial(side, name, runner) for name, runner in runners.items()}
        return {"seconds": take_turns({**sides, APART: apart}, rounds), "begun": begun, "busy": busy}


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
