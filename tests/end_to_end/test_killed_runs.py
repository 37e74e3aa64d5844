"""A run that is killed at any moment and started again leaves the bytes of an unbroken run."""

from __future__ import annotations

import random
from pathlib import Path

from tests.dying import Forks
from tests.pools import broken_pool, photo_shards
from tests.running import EVERYDAY, curate, files_of, unlike


def run(pool: str, store: str) -> None:
    """What is killed."""
    curate(EVERYDAY, pool, Path(store))


def stage_of(path: str) -> str:
    for stage, folders in {
        "measure": ("/signals/", "/failures/"),
        "decide": ("/relations/", "/artefacts/", "/ledger/"),
        "write": ("/curated/", "/subsets/"),
    }.items():
        if any(folder in path for folder in folders):
            return stage
    return "other"


def test_killed_runs_go_on_to_the_same_bytes(tmp_path: Path) -> None:
    broken_pool(tmp_path / "pool")
    pool = photo_shards(tmp_path / "pool", range(3, 7), rows=8)
    with Forks(run, tmp_path) as forks:
        whole = forks(pool, tmp_path / "unbroken")
        unbroken = files_of(tmp_path / "unbroken")

        chance = random.Random(20)  # noqa: S311  (moments, not secrets)
        moments = {}
        for stage in ("measure", "decide", "write"):
            moments[stage] = [at for at, path in enumerate(whole.commits) if stage_of(path) == stage]
            assert len(moments[stage]) >= 6
        chosen = [at for found in moments.values() for at in chance.sample(found, 2)]
        for at in chosen:
            store = tmp_path / f"killed-{at}"
            assert forks(pool, store, die_at=at).killed
            assert not forks(pool, store).killed
            assert not unlike(files_of(store), unbroken), f"killed at {whole.commits[at]}"

        # Killed from outside, again and again, wherever the clock finds it.
        store = tmp_path / "hunted"
        for _ in range(4):
            forks(pool, store, kill_after=chance.uniform(0.1, whole.seconds))
        assert not forks(pool, store).killed
        assert not unlike(files_of(store), unbroken)
