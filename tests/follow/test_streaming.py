"""Continuous runs as one unbounded pipeline on Prism, beside the local loop."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from curate.follow.status import read_status
from curate.follow.stream_steps import Arrived, MeasureArrived
from curate.runner import Runner, load_runner
from curate.runners.prism import Prism
from filters.core.errors import RunnerError, WorkerLost
from tests.engines import ROOT, prism_program, worker_pool
from tests.follow.following import (
    COMPARED,
    DEMO,
    PLAIN,
    ROWS_ONLY,
    calibrated,
    committed_files,
    make_pool,
    manifest_of,
    pool_for,
    replayed,
    streamed,
)
from tests.processes import children_of
from transforms.store import Store


@pytest.fixture(scope="module")
def program() -> str:
    return prism_program()


def add(pool: Path, live: Path, number: int) -> None:
    """Lets a shard of the pool arrive: what says that it is complete comes last."""
    for name in (f"{number:05d}.tar", f"{number:05d}_stats.json"):
        shutil.copy(pool / name, live)


def stream_until(text: str, live: Path, store: Path, runner: Runner, **when: Any) -> dict[str, Any]:
    """Streams until so many batches are told, each of which lets something arrive; stops it then.

    when: batches: how many; arrive: called with the number of each but the last.
    """
    one = streamed(text, live, store, runner, until_idle=False)

    def say(said: str) -> None:
        if said.startswith("batch "):
            number = int(said.split()[1].rstrip(":"))
            if number >= when["batches"]:
                one.stop.set()
            else:
                when["arrive"](number)

    one.say = say
    limit = threading.Timer(240, one.stop.set)
    limit.start()
    one.follow()
    limit.cancel()
    return manifest_of(store)


@pytest.mark.slow
@pytest.mark.parametrize("text", [PLAIN, COMPARED, DEMO])
def test_a_growing_folder_is_decided_on_prism_as_by_the_loop(tmp_path: Path, program: str, text: str) -> None:
    pool, live = pool_for(text, tmp_path / "pool", shards=5), tmp_path / "live"
    for name in ("stream", "loop"):
        calibrated(text, pool, tmp_path / name)
    live.mkdir()
    add(pool, live, 0)
    add(pool, live, 1)
    prism = Prism(binary=program, workers=2)
    manifest = stream_until(
        text, live, tmp_path / "stream", prism, batches=2, arrive=lambda _: add(pool, live, 2)
    )
    assert [part["batch"] for part in manifest["parts"]] == [1, 1, 2]
    # Another stream knows nothing of that one but what the store holds.
    for number in (3, 4):
        add(pool, live, number)
    streamed(text, live, tmp_path / "stream", prism).follow()
    manifest = manifest_of(tmp_path / "stream")
    assert [Path(part["uri"]).stem for part in manifest["parts"]] == [f"{number:05d}" for number in range(5)]
    assert replayed(text, manifest, tmp_path / "loop") == manifest
    assert committed_files(tmp_path / "stream") == committed_files(tmp_path / "loop")
    status = read_status(Store.at(str(tmp_path / "stream")))
    assert status["shards"] == {"done": 5, "waiting": 0, "failed": 0}
    assert not status["running"]


@pytest.mark.slow
@pytest.mark.parametrize("text", [COMPARED, DEMO])
def test_workers_elsewhere_stream_the_same_bytes(tmp_path: Path, program: str, text: str) -> None:
    pool = pool_for(text, tmp_path / "pool", shards=3)
    for name in ("stream", "loop"):
        calibrated(text, pool, tmp_path / name)
    (tmp_path / "elsewhere").mkdir()
    with worker_pool(tmp_path / "elsewhere") as workers:
        prism = Prism(binary=program, worker_pool=workers, workers=2)
        streamed(text, pool, tmp_path / "stream", prism).follow()
    manifest = manifest_of(tmp_path / "stream")
    assert len(manifest["parts"]) == 3
    assert replayed(text, manifest, tmp_path / "loop") == manifest
    assert committed_files(tmp_path / "stream") == committed_files(tmp_path / "loop")


@pytest.mark.slow
def test_a_shard_that_can_t_be_read_is_tried_once_by_each_stream(tmp_path: Path, program: str) -> None:
    pool, store = make_pool(tmp_path / "pool", shards=2), tmp_path / "store"
    calibrated(PLAIN, pool, store)
    (pool / "00002.tar").mkdir()  # a name that can be listed and not read
    (pool / "00002_stats.json").write_text("{}")
    for batches in (1, 2):
        streamed(PLAIN, pool, store, Prism(binary=program)).follow()
        manifest = manifest_of(store)
        assert [(Path(lost["shard"]).name, lost["batch"]) for lost in manifest["failed_shards"]] == [
            ("00002.tar", batches)
        ]
        assert [part["rows"] for part in manifest["parts"]] == [8, 8]


@pytest.mark.slow
def test_a_stream_whose_engine_is_killed_says_so_and_the_next_goes_on(tmp_path: Path, program: str) -> None:
    pool, live = make_pool(tmp_path / "pool", shards=3), tmp_path / "live"
    live.mkdir()
    add(pool, live, 0)
    one = streamed(ROWS_ONLY, live, tmp_path / "stream", Prism(binary=program), until_idle=False)

    def say(said: str) -> None:
        if said.startswith("batch 1:"):
            add(pool, live, 1)
            (prism,) = children_of(os.getpid(), program)
            os.kill(prism, signal.SIGKILL)

    one.say = say
    with pytest.raises(WorkerLost, match=r"was killed .*: run again"):
        one.follow()
    add(pool, live, 2)
    streamed(ROWS_ONLY, live, tmp_path / "stream", Prism(binary=program)).follow()
    manifest = manifest_of(tmp_path / "stream")
    assert [Path(part["uri"]).stem for part in manifest["parts"]] == ["00000", "00001", "00002"]
    assert replayed(ROWS_ONLY, manifest, tmp_path / "loop") == manifest
    assert committed_files(tmp_path / "stream") == committed_files(tmp_path / "loop")


@pytest.mark.slow
def test_a_stream_whose_engine_forgets_work_begins_anew(
    tmp_path: Path, program: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As was seen once on Prism: nothing fails, and nothing comes."""
    forgotten: list[str] = []
    measure = MeasureArrived.process

    def forget(step: MeasureArrived, arrived: Arrived) -> Iterator[tuple[str, Arrived]]:
        if len(forgotten) < 2:
            forgotten.append(arrived.shard.uri)
            return
        yield from measure(step, arrived)

    monkeypatch.setattr(MeasureArrived, "process", forget)
    monkeypatch.setattr("curate.runners.prism.IDLE_SECONDS", 5.0)
    pool = make_pool(tmp_path / "pool", shards=2)
    streamed(ROWS_ONLY, pool, tmp_path / "stream", Prism(binary=program)).follow()
    assert re.search("2 shards wait, .* the engine has lost work.*; the stream begins anew", caplog.text)
    manifest = manifest_of(tmp_path / "stream")
    assert replayed(ROWS_ONLY, manifest, tmp_path / "loop") == manifest
    assert committed_files(tmp_path / "stream") == committed_files(tmp_path / "loop")


@pytest.mark.slow
def test_a_stream_that_outlives_its_launcher_gives_way_to_the_next(tmp_path: Path, program: str) -> None:
    pool, live, store = make_pool(tmp_path / "pool", shards=4), tmp_path / "live", tmp_path / "stream"
    live.mkdir()
    add(pool, live, 0)
    (tmp_path / "recipe.yaml").write_text(ROWS_ONLY)
    (tmp_path / "elsewhere").mkdir()
    orphans: list[int] = []
    with worker_pool(tmp_path / "elsewhere") as workers:
        try:
            with launcher(tmp_path, f"binary: {program}\nworker_pool: {workers}\n") as killed:
                wait_for(lambda: committed(store) == 1)
                orphans = children_of(killed.pid, program)
                killed.kill()
            add(pool, live, 1)
            wait_for(lambda: committed(store) == 2)  # its workers go on without it
            with launcher(tmp_path, f"binary: {program}\n") as ended:
                wait_for(lambda: launched_by(store) == ended.pid)
                add(pool, live, 2)
                wait_for(lambda: committed(store) == 3)
                add(pool, live, 3)
                wait_for(lambda: committed(store) == 4)
                ended.send_signal(signal.SIGTERM)
                assert ended.wait(60) == 0
        finally:
            for process in orphans:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
    manifest = manifest_of(store)
    assert [Path(part["uri"]).stem for part in manifest["parts"]] == [f"{number:05d}" for number in range(4)]
    assert replayed(ROWS_ONLY, manifest, tmp_path / "loop") == manifest
    assert committed_files(store) == committed_files(tmp_path / "loop")
    assert "another stream has begun" in (tmp_path / "elsewhere" / "worker_pool.log").read_text()


@contextmanager
def launcher(folder: Path, options: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command line's own process, streaming from `live` to `stream`; killed where it goes on."""
    (folder / "prism.yaml").write_text(options)
    command = [
        sys.executable,
        "-c",
        "from curate.cli import main; main()",
        "run",
        str(folder / "recipe.yaml"),
    ]
    command += ["--pool", f"{folder}/live/*.tar", "--store", f"{folder}/stream", "--every", "0.5"]
    command += ["--follow", "--streaming", "--runner", "prism", "--options", f"{folder}/prism.yaml"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def committed(store: Path) -> int:
    """How many batches are."""
    found = sorted(store.glob("ledger/*/manifest.json"))
    return int(json.loads(found[0].read_text())["follow"]["batches"]) if found else 0


def launched_by(store: Path) -> int:
    """The process that gave the last sign of life."""
    return int(json.loads(next(store.glob("follow/*/session.json")).read_text())["pid"])


def wait_for(met: Callable[[], bool]) -> None:
    """Waits until it is so."""
    ends = time.monotonic() + 120
    while not met():
        assert time.monotonic() < ends
        time.sleep(0.1)


def test_an_engine_that_can_t_stream_is_refused(tmp_path: Path) -> None:
    one = streamed(PLAIN, tmp_path, tmp_path / "store", load_runner("local"))
    with pytest.raises(
        RunnerError, match=r"--streaming needs an engine .* prism, flink, dataflow or portable, not local"
    ):
        one.follow()


def test_an_empty_pool_is_idle_at_once(tmp_path: Path, program: str) -> None:
    streamed(PLAIN, tmp_path, tmp_path / "store", Prism(binary=program)).follow()
    assert not (tmp_path / "store" / "ledger").exists()
