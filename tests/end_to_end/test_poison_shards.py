"""A shard that kills the process that decodes it costs that shard alone, and whoever read it first.

Where workers are processes that is a worker; with one worker it is the run itself, and the next gets past it.
"""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import duckdb
import pytest

from curate.run import RunOptions, RunResult, run_recipe
from curate.runners.local import Local
from curate.runners.prism import Prism
from filters.core.errors import TooManyFailures, WorkerLost
from tests.engines import CURATE, prism_program, worker_pool
from tests.follow.following import manifest_of, streamed
from tests.pools import photo, sample, write_tar
from tests.running import curate, plan_of

# Loaded by every Python that starts with this folder in PYTHONPATH: a decoder that crashes, as a
# library with a fault in its C code does, at pictures of this size.
CRASHING_DECODER = """\
import os, signal
from PIL import ImageFile
true_load = ImageFile.ImageFile.load

def load(image):
    if image.size == (66, 66):
        os.kill(os.getpid(), signal.SIGSEGV)
    return true_load(image)

ImageFile.ImageFile.load = load
"""
RECIPE = """\
name: short
pool: {retry_seconds: []}
filters: [{min_side_pixels: 30}]
output: {report: false, shards: false}
max_failed_fraction: 1
"""


@pytest.fixture
def crashing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Worker processes crash at poison; this process does not."""
    folder = tmp_path / "crashing"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(CRASHING_DECODER)
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{Path(__file__).parents[2]}")


def shard(folder: Path, number: int, *, poison: bool = False) -> None:
    members = [m for at in range(4) for m in sample(f"{number}{at}", photo(10 * number + at), "a b c d")]
    if poison:
        members += sample(f"{number}p", photo(99, side=66), "looks like any other")
    write_tar(folder / f"{number:05d}.tar", members)


def run_with_processes(pool: Path, store: Path, workers: int) -> RunResult:
    runner = Local(devices=("cpu",) * workers, workers=workers)
    return run_recipe(plan_of(RECIPE, pool, store), RunOptions(runner=runner), lambda _: None)


@pytest.mark.slow
@pytest.mark.timeout(600)  # processes start anew for every stage and attempt
@pytest.mark.usefixtures("crashing")
def test_a_poison_shard_is_recorded_and_all_others_are_decided(tmp_path: Path) -> None:
    poison = 3  # the last of two lanes
    for number in range(4):
        shard(tmp_path / "pool", number, poison=number == poison)
    run = run_with_processes(tmp_path / "pool", tmp_path / "store", 2)
    name = f"{poison:05d}.tar"
    ((failed),) = run.manifest["failed_shards"]
    assert (Path(failed["shard"]).name, failed["code"]) == (name, "worker_killed")
    assert [part["rows"] for part in run.manifest["parts"]] == [4, 4, 4]
    recorded = duckdb.sql(f"SELECT code, shard FROM '{tmp_path}/store/failures/*/*.parquet'").fetchall()  # noqa: S608
    assert [(code, Path(uri).name) for code, uri in recorded] == [("worker_killed", name)]
    # Without the poison everything is as if that shard had never been there.
    (tmp_path / "pool" / name).rename(tmp_path / name)
    alone = curate(RECIPE, tmp_path / "pool", tmp_path / "alone")
    assert alone.counts == run.counts


@pytest.mark.slow
@pytest.mark.timeout(600)  # processes start anew for every stage and attempt
@pytest.mark.usefixtures("crashing")
def test_the_next_run_tries_a_poison_shard_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard(tmp_path / "pool", 0, poison=True)
    bounded = RECIPE.replace("max_failed_fraction: 1", "max_failed_fraction: 0.5")
    plan = plan_of(bounded, tmp_path / "pool", tmp_path / "store")
    with pytest.raises(TooManyFailures, match=r"00000.tar \(worker_killed\)"):
        run_recipe(plan, RunOptions(runner=Local(devices=("cpu",))), lambda _: None)
    monkeypatch.delenv("PYTHONPATH")  # as with a mended decoder
    run = curate(RECIPE, tmp_path / "pool", tmp_path / "store")
    assert run.manifest["failed_shards"] == []
    assert run.manifest["rows"] == 5
    assert not list((tmp_path / "store" / "failures").rglob("*.parquet"))


@pytest.mark.slow
@pytest.mark.timeout(600)  # processes start anew for every stage and attempt
@pytest.mark.usefixtures("crashing")
def test_a_machine_where_everything_dies_stops_the_run(tmp_path: Path) -> None:
    for number in range(3):
        shard(tmp_path / "pool", number, poison=True)
    with pytest.raises(WorkerLost, match=r"3 shards in a row ended the process that read them"):
        run_with_processes(tmp_path / "pool", tmp_path / "store", 1)


@pytest.mark.slow
@pytest.mark.timeout(600)  # processes start anew for every attempt
@pytest.mark.usefixtures("crashing")
def test_a_stream_begins_anew_and_gets_past_a_poison_shard(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pool, store = tmp_path / "pool", tmp_path / "store"
    for number in range(3):
        shard(pool, number, poison=number == 1)
        (pool / f"{number:05d}.done").touch()
    with worker_pool(tmp_path) as address:
        prism = Prism(binary=prism_program(), worker_pool=address, workers=2)
        streamed(RECIPE, pool, store, prism).follow()
        manifest = manifest_of(store)
        assert [(Path(one["shard"]).name, one["code"]) for one in manifest["failed_shards"]] == [
            ("00001.tar", "worker_killed")
        ]
        assert [Path(part["uri"]).name for part in manifest["parts"]] == ["00000.tar", "00002.tar"]
        assert "the stream begins anew" in caplog.text
        # The next stream tries it once more, in a process of its own: nothing else is lost.
        shard(pool, 3)
        (pool / "00003.done").touch()
        caplog.clear()
        streamed(RECIPE, pool, store, prism).follow()
    manifest = manifest_of(store)
    assert [Path(one["shard"]).name for one in manifest["failed_shards"]] == ["00001.tar"]
    assert [part["rows"] for part in manifest["parts"]] == [4, 4, 4]
    assert "the stream begins anew" not in caplog.text


def command(*more: str) -> int:
    """The exit code of `curate run`; below 0: the signal that ended it."""
    return subprocess.run([*CURATE, "run", *more], check=False).returncode


@pytest.mark.slow
@pytest.mark.timeout(600)  # processes start anew for every attempt
@pytest.mark.usefixtures("crashing")
@pytest.mark.parametrize("more", [(), ("--follow", "--until-idle")])
def test_a_run_of_one_process_is_lost_once_and_the_next_gets_past(
    tmp_path: Path, more: tuple[str, ...]
) -> None:
    pool, store, recipe = tmp_path / "pool", tmp_path / "store", tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE)
    for number in range(3):
        shard(pool, number, poison=number == 1)
        (pool / f"{number:05d}.done").touch()
    asked = (str(recipe), "--pool", f"{pool}/*.tar", "--store", str(store), *more)
    assert command(*asked) == -signal.SIGSEGV
    assert list((store / "attempts").iterdir())
    for _ in range(2):  # and the one after that tries it in a process of its own at once
        assert command(*asked) == 0
        manifest = manifest_of(store)
        assert [(Path(one["shard"]).name, one["code"]) for one in manifest["failed_shards"]] == [
            ("00001.tar", "worker_killed")
        ]
        assert [part["rows"] for part in manifest["parts"]] == [4, 4]
