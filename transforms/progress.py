"""Tells whoever listens in this process how far the work is; nobody may be listening.

Workers on other machines have no listener: there, Beam's counters say the same.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Advance:
    """One step forward in a stage: so many units (shards, parts), with so many samples."""

    stage: str
    units: int
    samples: int = 0


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


def advance(stage: str, units: int, *, samples: int = 0) -> None:
    """Tells the listeners."""
    with _lock:
        heard = list(_listeners)
    for listener in heard:
        listener(Advance(stage, units, samples))
