"""Timings that bear a noisy machine: sides by turns, ratios inside a round, medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Stopwatch:
    """Seconds of one block: on the wall, and of all this process's threads together."""

    wall: float = 0.0
    processor: float = 0.0


@contextmanager
def stopwatch() -> Iterator[Stopwatch]:
    """Fills in the seconds when the block ends."""
    watch = Stopwatch()
    wall, processor = time.perf_counter(), time.process_time()
    yield watch
    watch.wall = time.perf_counter() - wall
    watch.processor = time.process_time() - processor


def take_turns(sides: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each side in each round; every other round runs the sides in reverse order.

    A side returns its own seconds, so that making ready and clearing up do not count.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        names = list(sides) if number % 2 == 0 else list(reversed(list(sides)))
        for name in names:
            seconds[name].append(sides[name]())
        said = ", ".join(f"{name} {taken[-1]:.2f} s" for name, taken in seconds.items())
        print(f"  round {number + 1} of {rounds}: {said}", flush=True)
    return seconds


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median over rounds of above / below."""
    return statistics.median(one / other for one, other in zip(above, below, strict=True))


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """Median, with the least and the greatest."""
    middle = statistics.median(values)
    return f"{middle:{form}} ({min(values):{form}} to {max(values):{form}})"
