"""Measuring on one worker and on two: threads of a process, and Prism with workers elsewhere."""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Iterator
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
ONE, TWO, ELSEWHERE = "local, 1 worker", "local, 2 workers", "Prism, 2 worker processes"


def run(*, small: bool) -> Section:
    """A pool without a model, so that decoding is what takes time; each worker has one decode thread."""
    shards, images, rounds = (2, 16, 1) if small else (48, 256, 3)
    tars = photograph_pool(min(shards, 8), images)
    with scratch("engines") as folder:
        pool = list(map(str, linked_pool(folder / "pool", tars, shards)))
        found = call_fresh(measured, torch_threads=1, folder=str(folder), tars=pool, rounds=rounds).value
    seconds, busy = found["seconds"], found["busy"]
    middle = {side: statistics.median(taken) for side, taken in seconds.items()}
    local, prism = middle[ONE] / middle[TWO], middle[TWO] / middle[ELSEWHERE]
    count = shards * images
    return Section(
        name="engines",
        measured=(
            f"the measuring stage over {shards} shards of {images} photographs, all automatic measures, no "
            f"model, one decode thread for each worker, {cores()} cores; Prism: its start, and that of the "
            "workers, included"
        ),
        against="each other, by turns",
        columns=("engine", "seconds", "images per second", "cores busy"),
        rows=[
            [side, spread(taken), f"{count / middle[side]:,.0f}", busy.get(side, "-")]
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
                "Local workers are threads of one process: they share Python's lock, and one of them alone "
                "keeps more than a core busy."
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

    with worker_pool() as address:
        sides = {
            ONE: lambda: side(Local(workers=1), ONE),
            TWO: lambda: side(Local(workers=2), TWO),
            ELSEWHERE: lambda: side(Prism(worker_pool=address, workers=2)),
        }
        return {"seconds": take_turns(sides, rounds), "busy": busy}


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
