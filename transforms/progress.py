"""Tells whoever listens in this process how far the work is; nobody may be listening.

Local worker processes pass on what they hear (`curate.worker_main`). Workers on other machines have
no listener: there, Beam's counters say the same.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Advance:
    """One step forward in a stage: so many units (shards, parts), with so many samples.

    Attributes:
        total: set where the stage begins: how many units it has.
    """

    stage: str
    units: int
    samples: int = 0
    total: int | None = None


Listener = Callable[[Advance], None]
_listeners: list[Listener] = []
_lock = threading.Lock()


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """The listener hears every advance in this process while the block runs."""
    with _lock:
        _listeners.append(listener)
    try:
        yield
    finally:
        with _lock:
            _listeners.remove(listener)


def begin(stage: str, total: int) -> None:
    """Tells the listeners that a stage begins, or begins anew, with so many units to come."""
    tell(Advance(stage, 0, total=total))


def advance(stage: str, units: int, *, samples: int = 0) -> None:
    """Tells the listeners of a step forward."""
    tell(Advance(stage, units, samples))


def tell(step: Advance) -> None:
    """Tells the listeners of a step that was taken in this process or in another."""
    with _lock:
        heard = list(_listeners)
    for listener in heard:
        listener(step)
