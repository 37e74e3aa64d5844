"""A run that is killed at any moment and started again leaves the bytes of an unbroken run."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.pools import broken_pool, photo, sample, write_tar
from tests.running import EVERYDAY, files_of

CODE = textwrap.dedent(
    """
    import os, random, signal, sys, time, json
    sys.path.insert(0, sys.argv[1])
    import transforms.storage as storage
    from tests.running import curate

    text, pool = open(sys.argv[2]).read(), sys.argv[3]
    events = []

    def run(store, die_at=None):
        # Every commit is two moments: before the file has its name, and after.
        true_commit = storage._commit_local

        def moment(path):
            events.append(str(path))
            if len(events) - 1 == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

        def commit(final):
            held = true_commit(final)
            yield next(held)
            moment(final)
            yield from held
            moment(final)

        storage._commit_local = commit
        curate(text, pool, store, workers=1)

    def child(work):
        if (pid := os.fork()) == 0:
            work()
            os._exit(0)
        return pid

    for line in sys.stdin:
        order = json.loads(line)
        started = time.monotonic()

        def work():
            run(order["store"], order.get("die_at"))
            with open(order["store"] + ".events", "w") as stream:
                json.dump(events, stream)

        pid = child(work)
        if "kill_after" in order:
            time.sleep(order["kill_after"])
            os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
        print(json.dumps({"status": status, "seconds": time.monotonic() - started}), flush=True)
    """
)


class Driver:
    """A process that has imported everything and runs each order in a fork of itself."""

    def __init__(self, folder: Path, text: str, pool: str) -> None:
        script, recipe = folder / "driver.py", folder / "recipe.yaml"
        script.write_text(CODE)
        recipe.write_text(text)
        root = Path(__file__).parents[2]
        self._errors = (folder / "stderr.txt").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, str(script), str(root), str(recipe), pool],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def run(self, store: Path, **how: float) -> tuple[int, float]:
        """Exit status (9 where it was killed) and seconds."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"store": str(store), **how}) + "\n")
        self._process.stdin.flush()
        said = json.loads(self._process.stdout.readline())
        return said["status"], said["seconds"]

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(timeout=60)
        self._errors.close()


def stage_of(path: str) -> str:
    for stage, folders in {
        "measure": ("/signals/", "/failures/"),
        "decide": ("/relations/", "/artefacts/", "/ledger/"),
        "write": ("/curated/", "/subsets/"),
    }.items():
        if any(folder in path for folder in folders):
            return stage
    return "other"


def test_killed_runs_go_on_to_the_same_bytes(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    broken_pool(tmp_path / "pool")
    for number in range(3, 7):
        members = [
            member
            for at in range(8)
            for member in sample(
                f"n{number}{at}", photo(100 * number + at // 2), f"a picture number {at // 2}"
            )
        ]
        write_tar(tmp_path / "pool" / f"{number:05d}.tar", members)
    driver = Driver(tmp_path, EVERYDAY, str(tmp_path / "pool"))
    request.addfinalizer(driver.close)
    status, seconds = driver.run(tmp_path / "unbroken")
    assert status == 0
    unbroken = files_of(tmp_path / "unbroken")
    events = json.loads((tmp_path / "unbroken.events").read_text())

    chance = random.Random(20)  # noqa: S311  (moments, not secrets)
    moments = {}
    for stage in ("measure", "decide", "write"):
        moments[stage] = [at for at, path in enumerate(events) if stage_of(path) == stage]
        assert len(moments[stage]) >= 6
    chosen = [at for found in moments.values() for at in chance.sample(found, 2)]
    for at in chosen:
        store = tmp_path / f"killed-{at}"
        assert driver.run(store, die_at=at)[0] == 9
        assert driver.run(store)[0] == 0
        assert files_of(store) == unbroken, f"killed at {events[at]}"

    # Killed from outside, again and again, wherever the clock finds it.
    store = tmp_path / "hunted"
    for _ in range(4):
        driver.run(store, kill_after=chance.uniform(0.1, seconds))
    assert driver.run(store)[0] == 0
    assert files_of(store) == unbroken
