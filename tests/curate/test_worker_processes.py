"""Local worker processes: same results, one device each, and a lost worker ends the run at once."""

# Beam's transforms have no annotations:
# mypy: allow-untyped-calls, allow-subclassing-any

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.portability.api import beam_fn_api_pb2, metrics_pb2
from apache_beam.runners.portability.fn_api_runner.worker_handlers import ControlConnection

from curate.run import RunOptions, run_recipe
from curate.runners.local import Local
from curate.worker_main import MetricIds
from curate.worker_processes import Line, device_environment
from curate.worker_starter import WorkerStarter
from filters.core.errors import PoolError, WorkerLost
from tests.curate.test_engine import FailAt
from tests.processes import parent_of, runs
from tests.running import curate, files_of, plan_of

SHORT = """\
name: short
pool: {retry_seconds: []}
filters: [{min_side_pixels: 45}]
output: {samples_per_shard: 4, report: false}
"""
NOWHERE = {"control_address": "localhost:1", "worker_id": "w"}  # a worker that waits for its runner
SECONDS = 60.0  # for what takes two or three on a machine that is not busy


class WriteDevice(beam.DoFn):
    """Writes down who worked, and what device it saw."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def process(self, element: int) -> Iterator[int]:
        seen = os.environ.get("CUDA_VISIBLE_DEVICES")
        (self._folder / f"{element}.txt").write_text(f"{os.getpid()} {seen}")
        yield element


class Stay(beam.DoFn):
    """Says that it works, and never ends."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def process(self, element: int) -> Iterator[int]:
        (self._folder / str(os.getpid())).touch()
        time.sleep(600)
        yield element


def wait_until(done: object, what: str) -> None:
    """Waits for a condition."""
    assert callable(done)
    ends = time.monotonic() + SECONDS
    while not done():
        assert time.monotonic() < ends, what
        time.sleep(0.1)


@pytest.mark.slow
def test_processes_give_the_bytes_that_one_thread_gives(small_pool: Path, tmp_path: Path) -> None:
    curate(SHORT, small_pool, tmp_path / "one")
    plan = plan_of(SHORT, small_pool, tmp_path / "two")
    run_recipe(plan, RunOptions(runner=Local(devices=("cpu", "cpu"), workers=2)), lambda _: None)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")


def test_every_worker_is_a_process_that_sees_its_device(tmp_path: Path) -> None:
    runner = Local(devices=("cuda:3", "cpu"), workers=2)
    with runner.start("test") as engine, engine.pipeline("test") as pipeline:
        _ = pipeline | "Note" >> engine.spread([1, 2], WriteDevice(tmp_path))
    notes = [path.read_text().split(" ") for path in sorted(tmp_path.glob("*.txt"))]
    assert sorted(seen for _, seen in notes) == ["", "3"]
    assert len({process for process, _ in notes} | {str(os.getpid())}) == 3


def test_the_error_of_a_step_in_a_process_is_the_error_of_the_run() -> None:
    with (
        pytest.raises(PoolError, match=r"^no image column$"),
        Local(devices=("cpu",), workers=2).start("test") as engine,
        engine.pipeline("test") as pipeline,
    ):
        _ = pipeline | "Fail" >> engine.spread([1, 2, 3], FailAt(PoolError("no image column")))


@pytest.mark.slow
def test_a_killed_worker_ends_the_run_at_once(tmp_path: Path) -> None:
    killed: list[tuple[int, float]] = []

    def kill_one() -> None:
        wait_until(lambda: len(list(tmp_path.iterdir())) == 2, "two workers at work")
        first = int(min(tmp_path.iterdir()).name)
        os.kill(first, signal.SIGKILL)
        killed.append((first, time.monotonic()))

    thread = threading.Thread(target=kill_one)
    thread.start()
    runner = Local(devices=("cpu", "cpu"), workers=2)
    with (
        pytest.raises(WorkerLost) as caught,
        runner.start("test") as engine,
        engine.pipeline("test") as pipeline,
    ):
        _ = pipeline | "Stay" >> engine.spread([1, 2], Stay(tmp_path))
    thread.join()
    ((process, when),) = killed
    assert time.monotonic() - when < 20
    assert f"process {process}) was killed (signal 9)" in str(caught.value)
    assert "run again, what is done stays done" in str(caught.value)
    for path in tmp_path.iterdir():
        assert not runs(int(path.name)), "the other worker was left behind"


LAUNCHER = """\
import time
from curate.worker_starter import WorkerStarter
with WorkerStarter() as starter:
    worker = starter.start({"control_address": "localhost:1", "worker_id": "w"}, {})
    while not worker.process:
        time.sleep(0.1)
    print(worker.process, flush=True)
    time.sleep(600)
"""


def test_workers_end_with_their_launcher() -> None:
    with subprocess.Popen([sys.executable, "-c", LAUNCHER], stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout is not None
        worker = int(launcher.stdout.readline())
        left = [worker, parent_of(worker)]
        time.sleep(1)
        assert all(map(runs, left))
        launcher.kill()
        wait_until(lambda: not any(map(runs, left)), "a worker or its server lives on")


def test_workers_end_with_the_run_and_by_force() -> None:
    with WorkerStarter() as starter:
        first, second = (starter.start(NOWHERE, {}) for _ in range(2))
        starter.kill(first)
        assert first.code == -signal.SIGKILL
        assert runs(second.process)
    assert not runs(second.process)
    assert second.ended.wait(SECONDS)


def test_a_server_of_workers_that_died_counts_as_the_end_of_its_workers() -> None:
    with WorkerStarter() as starter:
        first = starter.start(NOWHERE, {})
        wait_until(lambda: first.process, "the worker")
        os.kill(parent_of(first.process), signal.SIGKILL)
        second = starter.start(NOWHERE, {})
        for worker in (first, second):
            assert worker.ended.wait(SECONDS)
            assert worker.code == -signal.SIGKILL
    wait_until(lambda: not runs(first.process), "the worker lives on")


@pytest.mark.parametrize(
    ("device", "before", "after"),
    [
        ("cpu", None, ""),
        ("cuda", None, "0"),
        ("cuda:2", None, "2"),
        ("cuda:1", "4,6", "6"),
        ("cuda:0", "GPU-a", "GPU-a"),
    ],
)
def test_a_device_is_counted_among_those_that_can_be_seen(
    device: str, before: str | None, after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if before is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", before)
    assert device_environment(device) == {"CUDA_VISIBLE_DEVICES": after}


def test_what_a_lost_worker_was_asked_is_answered_and_what_it_will_be_asked_too() -> None:
    line = Line(ControlConnection())
    asked = line.push(beam_fn_api_pb2.InstructionRequest(instruction_id="before"))
    assert not asked.is_done()
    line.answer_all("gone")
    later = line.push(beam_fn_api_pb2.InstructionRequest(instruction_id="after"))
    for future in (asked, later):
        assert future.get(timeout=1).error.endswith("WorkerLost: gone")


def test_metrics_of_two_workers_have_ids_of_their_own() -> None:
    infos = [
        metrics_pb2.MonitoringInfo(urn=f"beam:metric:user:{kind}_int64:v1", payload=b"\1")
        for kind in ("sum", "max")
    ]
    one, other = MetricIds("a-"), MetricIds("b-")
    ids = [one.get_short_id(info) for info in infos]
    assert ids == [one.get_short_id(info) for info in infos]
    assert len({*ids, *(other.get_short_id(info) for info in infos)}) == 4
    assert [info.urn for info in one.get_infos(ids).values()] == [info.urn for info in infos]
    with pytest.raises(KeyError):
        other.get_infos(ids[:1])
