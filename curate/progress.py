"""Progress as a bar with rate and time left on a terminal, as plain lines elsewhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from transforms.progress import Advance, listening

LINE_SECONDS = 10.0  # between plain lines of one stage
logger = logging.getLogger("curate.progress")


@contextmanager
def show_progress(console: Console, totals: dict[str, int]) -> Iterator[None]:
    """Shows every advance of this process while the block runs.

    totals: stage -> units expected, where known ahead (shards to measure, parts to decide).
    """
    if console.is_terminal:
        with _bars(console) as progress:
            with listening(_Bars(progress, totals)):
                yield
    else:
        with listening(_Lines(console, totals)):
            yield


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("[bold]{task.description:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=False,
    )


class _Bars:
    def __init__(self, progress: Progress, totals: dict[str, int]) -> None:
        self._progress = progress
        self._totals = totals
        self._tasks: dict[str, object] = {}
        self._samples: dict[str, int] = {}
        self._started: dict[str, float] = {}

    def __call__(self, step: Advance) -> None:
        if step.stage not in self._tasks:
            total = self._totals.get(step.stage.split(" ")[0])
            self._tasks[step.stage] = self._progress.add_task(step.stage, total=total, rate="")
            self._started[step.stage] = time.monotonic()
        self._samples[step.stage] = self._samples.get(step.stage, 0) + step.samples
        seconds = max(time.monotonic() - self._started[step.stage], 1e-3)
        rate = f"{self._samples[step.stage] / seconds:,.0f} samples/s" if step.samples else ""
        self._progress.update(self._tasks[step.stage], advance=step.units, rate=rate)  # type: ignore[arg-type]


class _Lines:
    """One line every few seconds and at the end of a stage, for logs and pipes."""

    def __init__(self, console: Console, totals: dict[str, int]) -> None:
        self._console = console
        self._totals = totals
        self._done: dict[str, int] = {}
        self._samples: dict[str, int] = {}
        self._said: dict[str, float] = {}

    def __call__(self, step: Advance) -> None:
        now = time.monotonic()
        self._done[step.stage] = self._done.get(step.stage, 0) + step.units
        self._samples[step.stage] = self._samples.get(step.stage, 0) + step.samples
        total = self._totals.get(step.stage.split(" ")[0])
        ended = self._done[step.stage] == total
        if ended or now - self._said.setdefault(step.stage, now) >= LINE_SECONDS:
            self._said[step.stage] = now
            samples = f", {self._samples[step.stage]:,} samples" if self._samples[step.stage] else ""
            self._console.print(
                f"{step.stage}: {self._done[step.stage]}/{total or '?'}{samples}", highlight=False
            )
