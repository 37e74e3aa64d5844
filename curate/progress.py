"""Progress as a bar with rate and time left on a terminal, as plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from transforms.progress import Advance, listening

LINE_SECONDS = 10.0  # between plain lines of one stage


@contextmanager
def show_progress(console: Console) -> Iterator[None]:
    """Shows every advance of this process while the block runs."""
    if console.is_terminal:
        with _bars(console) as progress, listening(_Bars(progress)):
            yield
    else:
        with listening(_Lines(console)):
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


@dataclass
class _Stage:
    """How far one stage is."""

    total: int | None
    started: float = field(default_factory=time.monotonic)
    units: int = 0
    samples: int = 0

    @property
    def over(self) -> bool:
        return self.total is not None and self.units >= self.total


class _Listener:
    """Counts every stage; workers are threads that speak at once."""

    def __init__(self) -> None:
        self._stages: dict[str, _Stage] = {}
        self._lock = threading.Lock()

    def __call__(self, step: Advance) -> None:
        with self._lock:
            if step.total is not None or step.stage not in self._stages:
                self._stages[step.stage] = _Stage(step.total)
            stage = self._stages[step.stage]
            stage.units += step.units
            stage.samples += step.samples
            self.show(step.stage, stage)

    def show(self, name: str, stage: _Stage) -> None:
        """Shows how far the stage is."""
        raise NotImplementedError


class _Bars(_Listener):
    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def show(self, name: str, stage: _Stage) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=stage.total, rate="")
        seconds = max(time.monotonic() - stage.started, 1e-3)
        rate = f"{stage.samples / seconds:,.0f} samples/s" if stage.samples else ""
        self._progress.update(self._tasks[name], total=stage.total, completed=stage.units, rate=rate)


class _Lines(_Listener):
    """One line every few seconds and at the end of a stage, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._said: dict[str, float] = {}

    def show(self, name: str, stage: _Stage) -> None:
        now = time.monotonic()
        if stage.over or now - self._said.setdefault(name, now) >= LINE_SECONDS:
            self._said[name] = now
            samples = f", {stage.samples:,} samples" if stage.samples else ""
            total = "?" if stage.total is None else stage.total
            self._console.print(f"{name}: {stage.units}/{total}{samples}", highlight=False)
