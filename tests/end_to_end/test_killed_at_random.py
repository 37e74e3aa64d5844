"""The run, one worker and Prism are killed at random moments, again and again: the same bytes in the end.

CURATE_KILLS says how often in all (5); three in five hit the run, the others a worker or Prism. Each
kind goes on in the store that its last kill left, so every kill finds the work further on.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any, Self

import pytest

from curate.run import RunOptions, run_recipe
from curate.runner import find_runner
from filters.core.errors import WorkerLost
from tests.dying import Forks
from tests.end_to_end.test_killed_runs import run
from tests.engines import prism_program
from tests.pools import photo_shards
from tests.processes import children_of
from tests.running import EVERYDAY, curate, files_of, plan_of, unlike

KILLS = int(os.environ.get("CURATE_KILLS", "5"))
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

# A runner, its options, and what is killed: a sign in the command line, and the generation.
How = tuple[str, dict[str, Any], str, int]


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    return photo_shards(tmp_path / "pool", range(6), rows=12)


def victims(sign: str, generation: int) -> list[int]:
    """This process's children (generation 1) or theirs (2) whose command line holds the sign."""
    parents = [os.getpid()]
    for _ in range(generation):
        parents = [child for parent in parents for child in children_of(parent, sign)]
    return sorted(parents)


class Killer:
    """Kills one process during a run, so many seconds after the first of its kind is there."""

    def __init__(self, sign: str, generation: int, after: float) -> None:
        self.killed = False
        self._of, self._after = (sign, generation), after
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._kill)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _kill(self) -> None:
        while not victims(*self._of) and not self._over.wait(0.1):
            pass
        ends = time.monotonic() + self._after
        while time.monotonic() < ends and not self._over.wait(0.05):
            pass
        # Processes of one stage end before those of the next begin; the first that is there is taken.
        while not (found := victims(*self._of)) and not self._over.wait(0.05):
            pass
        if found and not self._over.is_set():
            os.kill(found[-1], signal.SIGKILL)
            self.killed = True


def hunted(pool: str, store: str, how: How, after: float) -> list[bool]:
    """One run in which a process is killed; whether one was, and whether that ended the run."""
    runner, options, *what = how
    work = RunOptions(runner=find_runner(runner)(**options))
    with Killer(*what, after) as killer:
        try:
            run_recipe(plan_of(EVERYDAY, pool, store), work, lambda _: None)
        except WorkerLost:
            assert killer.killed, "nobody was killed"
            return [True, True]
    return [killer.killed, False]


def hunt(pool: Path, folder: Path, how: How, kills: int, *, ending: bool) -> None:
    """Kills until so many processes are hit, or so many runs ended by that, then lets the run end."""
    chance = random.Random(how[0])  # noqa: S311  (moments, not secrets)
    curate(EVERYDAY, pool, folder / "unbroken")
    unbroken = files_of(folder / "unbroken")
    with Forks(hunted, folder) as forks:
        whole = forks(pool, folder / "whole", how, 1e9)
        assert not unlike(files_of(folder / "whole"), unbroken)
        hits = runs = 0
        store = folder / "store-0"
        while hits < kills:
            runs += 1
            assert runs <= 5 * kills + 5, "the kills come too late to hit"
            killed, ended = forks(pool, store, how, chance.uniform(0, 0.8 * whole.seconds)).result
            hits += ended if ending else killed
            if not ended:
                assert not unlike(files_of(store), unbroken)
                store = folder / f"store-{runs}"
        forks(pool, store, how, 1e9)
        assert not unlike(files_of(store), unbroken)


def test_a_run_killed_at_random_moments(pool: Path, tmp_path: Path) -> None:
    chance = random.Random(7)  # noqa: S311  (moments, not secrets)
    with Forks(run, tmp_path) as forks:
        whole = forks(pool, tmp_path / "unbroken")
        unbroken = files_of(tmp_path / "unbroken")
        hits = runs = 0
        store = tmp_path / "store-0"
        while hits < KILLS * 3 // 5:
            runs += 1
            assert runs <= 4 * KILLS, "the kills come too late to hit"
            killed = forks(pool, store, kill_after=chance.uniform(0.05, whole.seconds)).killed
            hits += killed
            if not killed:
                assert not unlike(files_of(store), unbroken)
                store = tmp_path / f"store-{runs}"
        assert not forks(pool, store).killed
        assert not unlike(files_of(store), unbroken)


def test_a_worker_killed_at_random_moments(pool: Path, tmp_path: Path) -> None:
    how = ("local", {"devices": ["cpu", "cpu"], "workers": 2}, "curate.worker_main", 2)
    hunt(pool, tmp_path, how, KILLS // 5, ending=False)


def test_prism_killed_at_random_moments(pool: Path, tmp_path: Path) -> None:
    program = prism_program()
    hunt(pool, tmp_path, ("prism", {"binary": program, "workers": 2}, program, 1), KILLS // 5, ending=True)
