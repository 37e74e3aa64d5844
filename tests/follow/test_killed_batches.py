"""A continuous run that is killed at any moment goes on to the bytes of one that never was."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.follow.following import PLAIN, calibrated, curated_uids, make_pool, manifest_of
from tests.running import ask, files_of

# Two batches, the shards of the second arriving when the first is committed; a process that dies at
# one of its commits, before or after the file has its name.
CODE = textwrap.dedent(
    """
    import json, os, shutil, signal, sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    import transforms.storage as storage
    from tests.follow.following import PLAIN, follow

    events = []

    def run(pool, store, die_at):
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
        live = pool.parent / f"live-{store.name}"
        live.mkdir(exist_ok=True)
        for names in (("00000", "00001"), ("00002", "00003")):
            for name in names:
                for path in (pool / f"{name}_stats.json", pool / f"{name}.tar"):
                    if not (live / path.name).exists():
                        shutil.copy2(path, live / path.name)
            follow(PLAIN, live, store)

    for line in sys.stdin:
        order = json.loads(line)
        if (child := os.fork()) == 0:
            run(Path(order["pool"]), Path(order["store"]), order["die_at"])
            Path(order["store"] + ".events").write_text(json.dumps(events))
            os._exit(0)
        print(os.waitpid(child, 0)[1], flush=True)
    """
)


class Driver:
    """A process that has imported everything and follows in forks of itself."""

    def __init__(self, folder: Path, pool: Path, empty: Path) -> None:
        self._pool, self._empty, self._folder = pool, empty, folder
        script = folder / "driver.py"
        script.write_text(CODE)
        self._errors = (folder / "stderr.txt").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, str(script), str(Path(__file__).parents[2])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def store(self) -> Path:
        """A store that is calibrated and has followed nothing; always at one path, as paths are in files."""
        shutil.rmtree(self._folder / "now", ignore_errors=True)
        shutil.rmtree(self._folder / "live-now", ignore_errors=True)
        return Path(shutil.copytree(self._empty, self._folder / "now"))

    def run(self, store: Path, die_at: int = -1) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"pool": str(self._pool), "store": str(store), "die_at": die_at}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(timeout=60)
        self._errors.close()


def bytes_of(store: Path) -> dict[str, bytes]:
    """All files but those that say when something was."""
    return {name: content for name, content in files_of(store).items() if not name.endswith("session.json")}


def stage_of(path: str) -> str:
    for name in ("signals", "relations", "memory", "batch.json", "ledger", "curated", "manifest.json"):
        if name in path.removesuffix("/layout.json"):
            return "commit" if path.endswith("manifest.json") else name
    return "other"


@pytest.mark.slow
def test_killed_batches_go_on_to_the_same_bytes(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    pool, empty = make_pool(tmp_path / "pool", rows=6), tmp_path / "empty"
    calibrated(PLAIN, pool, empty)
    driver = Driver(tmp_path, pool, empty)
    request.addfinalizer(driver.close)
    store = driver.store()
    assert driver.run(store) == 0
    unbroken, ledger = bytes_of(store), manifest_of(store)["ledger"]
    assert manifest_of(store)["follow"]["batches"] == 2
    events = json.loads((tmp_path / "now.events").read_text())

    chance = random.Random(7)  # noqa: S311  (moments, not secrets)
    moments: dict[str, list[int]] = {}
    for at, path in enumerate(events):
        moments.setdefault(stage_of(path), []).append(at)
    assert moments.keys() >= {"signals", "relations", "memory", "batch.json", "ledger", "curated", "commit"}
    for found in moments.values():
        at = chance.choice(found)
        store = driver.store()
        assert driver.run(store, at) == signal.SIGKILL
        assert driver.run(store) == 0
        assert bytes_of(store) == unbroken, f"killed at {events[at]}"
        kept = [row["uid"] for row in ask(store, "SELECT uid FROM samples WHERE verdict = 'keep'")]
        assert curated_uids(store, ledger) == dict.fromkeys(kept, 1)


def test_sigterm_ends_after_the_batch(tmp_path: Path) -> None:
    """As a service manager stops it: exit code 0, everything committed, nothing half."""
    pool, store = make_pool(tmp_path / "pool", shards=2), tmp_path / "store"
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("name: words\nfilters: [{caption_words: 3}]\noutput: {report: false}\n")
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", "from curate.cli import main; main()", "run", str(recipe), "--follow"]
    command += ["--pool", f"{pool}/*.tar", "--store", str(store), "--log-format", "json", "--every", "0.1"]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            if not line.startswith("{"):
                continue
            said.append(json.loads(line))
            if said[-1]["message"].startswith("measuring"):
                process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert manifest_of(store)["rows"] == 16
    decided = [line for line in said if line["message"].startswith("decided")]
    assert [Path(line["shard"]).name for line in decided] == ["00000.tar", "00001.tar"]
    assert [line["batch"] for line in decided] == [1, 1]
    assert len({line["run"] for line in said}) == 1
    assert said[-1]["message"] == "stopped; the same command goes on from there"
    session = json.loads(next((store / "follow").glob("*/session.json")).read_text())
    assert session["ended"]
