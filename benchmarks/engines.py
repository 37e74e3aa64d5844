"""Measuring on one worker and on two: threads of a process, and Prism with workers elsewhere."""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
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
    """A pool without a model, so that decoding is what takes time; each worker has one decode thread."""
    shards, images, rounds = (2, 16, 1) if small else (48, 256, 3)
    tars = photograph_pool(min(shards, 8), images)
    with scratch("engines") as folder:
        pool = list(map(str, linked_pool(folder / "pool", tars, shards)))
        found = call_fresh(measured, torch_threads=1, folder=str(folder), tars=pool, rounds=rounds).value
    seconds, busy = found["seconds"], found["busy"]
    middle = {side: statistics.median(taken) for side, taken in seconds.items()}
    times = {side: middle[ONE] / taken for side, taken in middle.items()}
    local, prism = max(times[TWO], times[PROCESSES]), middle[TWO] / middle[ELSEWHERE]
    count = shards * images
    return Section(
        name="engines",
        measured=(
            f"the measuring stage over {shards} shards of {images} photographs, all automatic measures, no "
            f"model, one decode thread for each worker, {cores()} cores; the start of Prism and of worker "
            "processes included, that of the two programs not"
        ),
        against="each other, by turns",
        columns=("engine", "seconds", "images per second", "times one worker", "cores busy"),
        rows=[
            [side, spread(taken), f"{count / middle[side]:,.0f}", f"{times[side]:.2f}", busy.get(side, "-")]
            for side, taken in seconds.items()
        ],
        met=[
            (f"two local workers at least {LOCAL:g} times as fast as one: {local:.2f}", local >= LOCAL),
            (
                f"Prism with two at least {PRISM:g} times as fast as local with two: {prism:.2f}",
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


def measured(folder: str, tars: list[str], rounds: int) -> dict[str, Any]:
    """Seconds of each engine, by rounds, and how many cores the local ones kept busy in the last."""
    from curate.runners.local import Local
    from curate.runners.prism import Prism

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

    with worker_pool() as address:
        sides = {
            ONE: lambda: side(Local(workers=1), ONE),
            TWO: lambda: side(Local(workers=2), TWO),
            PROCESSES: lambda: side(Local(devices=("cpu",), workers=2)),
            ELSEWHERE: lambda: side(Prism(worker_pool=address, workers=2)),
            APART: apart,
        }
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


@contextmanager
def worker_pool() -> Iterator[str]:
    """Beam's worker pool, which starts a process for each worker; gives its host:port."""
    from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer

    # It starts `python`, whichever comes first.
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    address, server = BeamFnExternalWorkerPoolServicer.start(use_process=True)
    try:
        yield str(address)
    finally:
        server.stop(1).wait()
