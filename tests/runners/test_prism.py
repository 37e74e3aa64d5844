"""Prism as a runner: found, started, watched over, ended."""

# Beam's transforms have no annotations:
# mypy: allow-untyped-calls, allow-subclassing-any

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.metrics.metric import Metrics, MetricsFilter

from curate.pipeline import split_evenly
from curate.portable_engine import PortableEngine
from curate.runners.prism import Prism, find_prism, running_prism
from filters.core.errors import RunnerError, StopRun, StoreError, StoreLocked, WorkerLost
from tests.curate.test_engine import FailAt
from tests.engines import prism_program, worker_pool
from tests.processes import children_of
from tests.running import EVERYDAY, plan_of


class Stay(beam.DoFn):
    """Says who works, and takes its time."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self._folder, self._seconds = folder, seconds

    def process(self, element: int) -> Iterator[int]:
        (self._folder / str(os.getpid())).touch()
        time.sleep(self._seconds)
        yield element


class CountApart(beam.DoFn):
    """Adds even numbers to one counter and odd ones to another."""

    def process(self, element: int) -> Iterator[int]:
        Metrics.counter("test", "odd" if element % 2 else "even").inc(element)
        yield element


@pytest.fixture(scope="module")
def program() -> str:
    return prism_program()


def kill_when_at_work(folder: Path, workers: int, whom: list[int]) -> threading.Thread:
    """Kills a process as soon as so many workers are at work: `whom`, or the first of them."""

    def kill() -> None:
        ends = time.monotonic() + 60
        while len(found := sorted(folder.iterdir())) < workers and time.monotonic() < ends:
            time.sleep(0.1)
        os.kill(whom[0] if whom else int(found[0].name), signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


def test_prism_is_found_by_option_variable_and_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("prism", "other"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.delenv("CURATE_PRISM", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_prism(None) == str(tmp_path / "prism")
    monkeypatch.setenv("CURATE_PRISM", str(tmp_path / "other"))
    assert find_prism(None) == str(tmp_path / "other")
    assert find_prism(str(tmp_path / "prism")) == str(tmp_path / "prism")


def test_an_absent_prism_is_refused_with_how_to_get_it(
    small_pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CURATE_PRISM", str(tmp_path / "absent"))
    with pytest.raises(RunnerError, match=r"absent' \(from \$CURATE_PRISM\): deploy/prism.sh builds it"):
        Prism().check(plan_of(EVERYDAY, small_pool, tmp_path / "store"))
    monkeypatch.delenv("CURATE_PRISM")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RunnerError, match=r"'prism' \(from PATH\)"):
        find_prism(None)


def test_a_program_that_is_no_prism_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "prism"
    other.write_text("#!/bin/sh\necho a rainbow\nexit 3\n")
    other.chmod(0o755)
    with (
        pytest.raises(RunnerError, match="does not start as Prism does; it said: a rainbow"),
        running_prism(str(other)),
    ):
        pass
    (tmp_path / "prism").write_text("no program")
    with pytest.raises(RunnerError, match="can't start"), running_prism(str(other)):
        pass


def test_prism_ends_with_the_run(program: str) -> None:
    with running_prism(program) as server:
        assert server.endpoint.startswith("localhost:")
        assert server.look() is None
    assert "was killed" in str(server.look()) or "ended with" in str(server.look())


@pytest.mark.parametrize("workers", [1, 2])
def test_the_error_of_a_step_is_the_error_of_the_run(program: str, workers: int) -> None:
    errors: list[StopRun] = [
        StoreError("no space left for /x: free some"),
        StoreLocked("two lines:\n  and: here"),
    ]
    with Prism(binary=program, workers=workers).start("test") as engine:
        for error in errors:
            with pytest.raises(StopRun) as caught, engine.pipeline("test") as pipeline:
                _ = pipeline | "Fail" >> engine.spread([1, 2, 3], FailAt(error))
            assert (type(caught.value), str(caught.value)) == (type(error), str(error))
        with pytest.raises(RuntimeError, match="plain"), engine.pipeline("test") as pipeline:
            _ = pipeline | "Fail" >> engine.spread([1, 2, 3], FailAt(ValueError("plain")))


def test_a_killed_prism_ends_the_run(program: str, tmp_path: Path) -> None:
    with Prism(binary=program).start("test") as engine:
        assert isinstance(engine, PortableEngine)
        (prism,) = children_of(os.getpid(), program)
        thread = kill_when_at_work(tmp_path, 1, [prism])
        with (
            pytest.raises(WorkerLost, match=rf"Prism \(process {prism}\) was killed \(signal 9\): run again"),
            engine.pipeline("test") as pipeline,
        ):
            _ = pipeline | "Stay" >> engine.spread([1], Stay(tmp_path, 5))
        thread.join()


def test_a_prism_that_died_between_two_stages_is_not_waited_for(
    program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.portable_engine.SERVER_SECONDS", 10_000)
    monkeypatch.setattr("curate.portable_engine.TRY_SECONDS", 0.2)
    with Prism(binary=program).start("test") as engine:
        (prism,) = children_of(os.getpid(), program)
        os.kill(prism, signal.SIGKILL)
        with (
            pytest.raises(WorkerLost, match=r"Prism .* was killed"),
            engine.pipeline("test") as pipeline,
        ):
            _ = pipeline | "Numbers" >> engine.spread([1], beam.DoFn())


@pytest.mark.slow
def test_a_killed_worker_of_a_pool_ends_the_run(program: str, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    with (
        worker_pool(tmp_path) as pool,
        Prism(binary=program, worker_pool=pool, workers=2).start("test") as engine,
    ):
        thread = kill_when_at_work(marks, 2, [])
        with pytest.raises(WorkerLost, match="a worker ended"), engine.pipeline("test") as pipeline:
            _ = pipeline | "Stay" >> engine.spread([1, 2], Stay(marks, 600))
        thread.join()
    assert len(list(marks.iterdir())) == 2


@pytest.mark.slow
def test_each_worker_elsewhere_counts_for_itself(program: str, tmp_path: Path) -> None:
    with (
        worker_pool(tmp_path) as pool,
        Prism(binary=program, worker_pool=pool, workers=2).start("test") as engine,
    ):
        with engine.pipeline("count") as pipeline:
            # The even ones are one worker's, the odd ones the other's.
            _ = pipeline | "Count" >> engine.spread([2, 1, 4, 3, 6, 5], CountApart())
        found = pipeline.result.metrics().query(MetricsFilter().with_namespace("test"))["counters"]
    assert {one.key.metric.name: one.committed for one in found} == {"even": 12, "odd": 9}


def test_a_stage_may_take_longer_than_a_server_has_to_answer(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.portable_engine.SERVER_SECONDS", 2)
    with Prism(binary=program).start("test") as engine, engine.pipeline("test") as pipeline:
        _ = pipeline | "Stay" >> engine.spread([1], Stay(tmp_path, 5))
    assert len(list(tmp_path.iterdir())) == 1


def test_an_absent_worker_pool_is_refused(
    program: str, small_pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.portable_engine.ANSWER_SECONDS", 0.5)
    plan = plan_of(EVERYDAY, small_pool, tmp_path / "store")
    with pytest.raises(RunnerError, match="no worker pool answers at localhost:1: start it"):
        Prism(binary=program, worker_pool="localhost:1").check(plan)


def test_a_worker_pool_elsewhere_must_see_the_same_files(
    program: str, small_pool: Path, tmp_path: Path
) -> None:
    plan = plan_of(EVERYDAY, small_pool, tmp_path / "store")
    with pytest.raises(RunnerError, match="its workers run elsewhere"):
        Prism(binary=program, worker_pool="far.example:50000").check(plan)


def test_a_lane_for_each_worker() -> None:
    engine = PortableEngine(3)
    assert [len(lane) for lane in split_evenly(list(range(7)), engine.lanes(7))] == [2, 2, 3]
    long = PortableEngine(2, lane_shards=4)
    assert [long.lanes(count) for count in (0, 1, 2, 8, 9)] == [0, 1, 2, 2, 3]
