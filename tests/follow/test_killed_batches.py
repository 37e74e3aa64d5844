"""A continuous run that is killed at any moment goes on to the bytes of one that never was."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.dying import Forks
from tests.follow.following import PLAIN, calibrated, curated_uids, follow, make_pool, manifest_of
from tests.running import ask, files_of, unlike


def two_batches(pool: str, store: str) -> None:
    """What is killed: two batches, the shards of the second arriving when the first is committed."""
    live = Path(store).with_name("live")
    live.mkdir(exist_ok=True)
    for names in (("00000", "00001"), ("00002", "00003")):
        for name in names:
            for path in (Path(pool) / f"{name}_stats.json", Path(pool) / f"{name}.tar"):
                if not (live / path.name).exists():
                    shutil.copy2(path, live / path.name)
        follow(PLAIN, live, Path(store))


def fresh(empty: Path) -> Path:
    """A store that is calibrated and has followed nothing; always at one path, as paths are in files."""
    shutil.rmtree(empty.with_name("now"), ignore_errors=True)
    shutil.rmtree(empty.with_name("live"), ignore_errors=True)
    return Path(shutil.copytree(empty, empty.with_name("now")))


def bytes_of(store: Path) -> dict[str, bytes]:
    """All files but those that say when something was."""
    return {name: content for name, content in files_of(store).items() if not name.endswith("session.json")}


STAGES = {"signals", "relations", "memory", "batch.json", "ledger", "curated", "commit"}


def stage_of(path: str) -> str:
    for name in ("signals", "relations", "memory", "batch.json", "ledger", "curated", "manifest.json"):
        if name in path.removesuffix("/layout.json"):
            return "commit" if path.endswith("manifest.json") else name
    return "other"


@pytest.mark.slow
def test_killed_batches_go_on_to_the_same_bytes(tmp_path: Path) -> None:
    pool, empty = make_pool(tmp_path / "pool", rows=6), tmp_path / "empty"
    calibrated(PLAIN, pool, empty)
    with Forks(two_batches, tmp_path) as forks:
        whole = forks(pool, store := fresh(empty))
        unbroken, ledger = bytes_of(store), manifest_of(store)["ledger"]
        assert manifest_of(store)["follow"]["batches"] == 2

        chance = random.Random(7)  # noqa: S311  (moments, not secrets)
        moments: dict[str, list[int]] = {}
        for at, path in enumerate(whole.commits):
            moments.setdefault(stage_of(path), []).append(at)
        assert moments.keys() >= {
            "signals",
            "relations",
            "memory",
            "batch.json",
            "ledger",
            "curated",
            "commit",
        }
        for found in moments.values():
            at = chance.choice(found)
            store = fresh(empty)
            assert forks(pool, store, die_at=at).killed
            assert not forks(pool, store).killed
            assert not unlike(bytes_of(store), unbroken), f"killed at {whole.commits[at]}"
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
