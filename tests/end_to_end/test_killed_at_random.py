"""The run, one worker and Prism are killed at random moments, again and again: the same bytes in the end.

CURATE_KILLS says how often in all (5); three in five hit the run, the others a worker or Prism. Each
kind goes on in the store that its last kill left, so every kill finds the work further on.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Self

import pytest

from curate.run import RunOptions, run_recipe
from curate.runner import Runner
from curate.runners.local import Local
from curate.runners.prism import Prism
from filters.core.errors import WorkerLost
from tests.end_to_end.test_killed_runs import Driver
from tests.engines import prism_program
from tests.pools import photo, sample, write_tar
from tests.running import EVERYDAY, curate, files_of, plan_of

KILLS = int(os.environ.get("CURATE_KILLS", "5"))
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    for number in range(6):
        members = [
            member
            for at in range(12)
            for member in sample(
                f"{number}{at}", photo(100 * number + at // 2), f"a picture number {at // 2}"
            )
        ]
        write_tar(tmp_path / "pool" / f"{number:05d}.tar", members)
    return tmp_path / "pool"


def victims(sign: str) -> list[int]:
    """This process's children whose command line holds the sign."""
    listed = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(os.getpid())], capture_output=True, text=True, check=True
    )
    return [int(line.split()[0]) for line in listed.stdout.splitlines() if sign in line]


class Killer:
    """Kills one process during a run, so many seconds after the first with this sign is there."""

    def __init__(self, sign: str, after: float) -> None:
        self.killed = False
        self._sign, self._after = sign, after
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._kill)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _kill(self) -> None:
        while not victims(self._sign) and not self._over.wait(0.1):
            pass
        ends = time.monotonic() + self._after
        while time.monotonic() < ends and not self._over.wait(0.05):
            pass
        # Processes of one stage end before those of the next begin; the first that is there is taken.
        while not (found := victims(self._sign)) and not self._over.wait(0.05):
            pass
        if found and not self._over.is_set():
            os.kill(found[-1], signal.SIGKILL)
            self.killed = True


def hunt(runner: Runner, sign: str, kills: int, pool: Path, folder: Path) -> tuple[int, int]:
    """Kills so often, then lets the run end; (how many kills it took, how many ended their run)."""
    chance = random.Random(sign)  # noqa: S311  (moments, not secrets)
    started = time.monotonic()
    run_recipe(plan_of(EVERYDAY, pool, folder / "whole"), RunOptions(runner=runner), lambda _: None)
    seconds = time.monotonic() - started
    hit, ended, runs = 0, 0, 0
    store = folder / "store-0"
    while hit < kills:
        runs += 1
        assert runs <= 5 * kills, "the kills come too late to hit"
        with Killer(sign, chance.uniform(0, 0.8 * seconds)) as killer:
            try:
                run_recipe(plan_of(EVERYDAY, pool, store), RunOptions(runner=runner), lambda _: None)
            except WorkerLost:
                assert killer.killed, "nobody was killed"
                ended += 1
                done = False
            else:
                done = True
        hit += killer.killed
        if done:
            assert_whole(store, pool, folder)
            store = folder / f"store-{runs}"
    run_recipe(plan_of(EVERYDAY, pool, store), RunOptions(runner=runner), lambda _: None)
    assert_whole(store, pool, folder)
    return hit, ended


def assert_whole(store: Path, pool: Path, folder: Path) -> None:
    if not (folder / "unbroken").exists():
        curate(EVERYDAY, pool, folder / "unbroken")
    assert files_of(store) == files_of(folder / "unbroken")


def test_a_run_killed_at_random_moments(pool: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    driver = Driver(tmp_path, EVERYDAY, str(pool))
    request.addfinalizer(driver.close)
    status, seconds = driver.run(tmp_path / "unbroken")
    assert status == 0
    unbroken = files_of(tmp_path / "unbroken")
    chance = random.Random(7)  # noqa: S311  (moments, not secrets)
    hit = runs = 0
    store = tmp_path / "store-0"
    while hit < KILLS * 3 // 5:
        runs += 1
        status, _ = driver.run(store, kill_after=chance.uniform(0.05, seconds))
        hit += status == signal.SIGKILL
        if status == 0:
            assert files_of(store) == unbroken
            store = tmp_path / f"store-{runs}"
        assert runs <= 4 * KILLS, "the kills come too late to hit"
    assert driver.run(store)[0] == 0
    assert files_of(store) == unbroken


def test_a_worker_killed_at_random_moments(pool: Path, tmp_path: Path) -> None:
    runner = Local(devices=("cpu", "cpu"), workers=2)
    hit, _ = hunt(runner, "curate.worker_main", KILLS // 5, pool, tmp_path)
    assert hit == KILLS // 5


def test_prism_killed_at_random_moments(pool: Path, tmp_path: Path) -> None:
    program = prism_program()
    hit, ended = hunt(Prism(binary=program, workers=2), program, KILLS // 5, pool, tmp_path)
    assert hit == KILLS // 5
    assert ended > 0
