"""The local runner: threads, processes that measure, or a process for each device."""

# Beam's transforms have no annotations:
# mypy: allow-untyped-calls, allow-subclassing-any

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam
import pytest
import torch

from curate.engine import Engine
from curate.runner import load_runner
from curate.runners.local import Local, ProcessEngine
from filters.core.errors import RunnerError
from tests.compared import RECIPE, compared_pool
from tests.running import EVERYDAY, plan_of
from transforms.beam_steps import WriteReports, read_reports
from transforms.progress import Advance, advance, listening
from transforms.store import Store


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine with two GPUs, as far as counting goes."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@dataclass(frozen=True)
class Where:
    """What a process says: its id stands where reports name their part."""

    part: str


class WhereIt(beam.DoFn):
    """Gives the process that works."""

    def process(self, element: int) -> Iterator[Where]:  # noqa: ARG002  (any will do)
        advance("look", 1, samples=5)
        yield Where(str(os.getpid()))


def processes_of(engine: Engine, *, models: bool) -> set[int]:
    """Who works on a stage of two elements."""
    with tempfile.TemporaryDirectory() as folder:
        with engine.pipeline("look", models=models) as pipeline:
            found = pipeline | "Look" >> engine.spread([1, 2], WhereIt())
            _ = found | WriteReports(Store.at(folder), "found", 2)
        return {int(report["part"]) for report in read_reports(Store.at(folder), "found")}


def test_one_worker_is_this_process() -> None:
    with Local().start("t") as engine:
        assert engine == Engine(1)
        assert processes_of(engine, models=True) == {os.getpid()}


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_several_workers_measure_as_processes_and_do_all_else_as_threads() -> None:
    heard: list[Advance] = []
    with Local(workers=2).start("t") as engine:
        assert (engine.workers, engine.lanes(1), engine.lanes(9)) == (2, 1, 2)
        assert processes_of(engine, models=False) == {os.getpid()}
        with listening(heard.append):
            measuring = processes_of(engine, models=True)
        assert len(measuring) == 2
        assert os.getpid() not in measuring
    assert heard == [Advance("look", 1, 5)] * 2


@pytest.mark.usefixtures("two_gpus")
def test_workers_that_share_a_gpu_are_threads() -> None:
    with Local(workers=2).start("t") as engine:
        assert processes_of(engine, models=True) == {os.getpid()}


@pytest.mark.usefixtures("no_gpu")
def test_workers_are_threads_where_that_is_asked_for() -> None:
    with Local(workers=2, processes=False).start("t") as engine:
        assert processes_of(engine, models=True) == {os.getpid()}
    with pytest.raises(RunnerError, match="processes: false, but devices are for processes"):
        load_runner("local", None, {"devices": "cpu", "processes": False})


@pytest.mark.usefixtures("no_gpu")
def test_a_store_that_one_process_holds_is_refused_to_several(small_pool: Path) -> None:
    plan = plan_of(EVERYDAY, small_pool, "memory://store")
    Local().check(plan)
    Local(workers=2, processes=False).check(plan)
    for runner in (Local(workers=2), Local(devices=("cpu",))):
        with pytest.raises(RunnerError, match=r"processes can't see 'memory://store'.*take one worker"):
            runner.check(plan)


@pytest.mark.usefixtures("two_gpus")
def test_every_device_gets_a_process() -> None:
    runner = load_runner("local", None, {"devices": "cuda:0, cuda:1"})
    assert isinstance(runner, Local)
    assert runner.devices == ("cuda:0", "cuda:1")
    with runner.start("t") as engine:
        assert isinstance(engine, ProcessEngine)
        assert (engine.workers, engine.devices) == (2, ("cuda:0", "cuda:1"))
    assert load_runner("local", None, {"devices": "all"}) == runner


def test_more_workers_than_devices_share_them() -> None:
    runner = Local(devices=("cpu",), workers=4)
    assert runner.workers == 4


def test_fewer_workers_than_devices_are_refused() -> None:
    with pytest.raises(RunnerError, match=r"workers: 1 can't use 2 devices"):
        load_runner("local", None, {"devices": "cpu,cpu", "workers": 1})


@pytest.mark.usefixtures("no_gpu")
def test_all_gpus_where_there_is_none_are_refused() -> None:
    with pytest.raises(RunnerError, match="no usable GPU here"):
        load_runner("local", None, {"devices": "all"})


@pytest.mark.parametrize("devices", ["gpu0", "cuda:x", "all,cpu", ""])
def test_what_is_no_device_is_refused(devices: str) -> None:
    with pytest.raises(RunnerError, match="is no device"):
        load_runner("local", None, {"devices": devices})


@pytest.mark.usefixtures("two_gpus")
def test_a_device_that_is_not_here_is_refused_before_the_run(small_pool: Path, tmp_path: Path) -> None:
    plan = plan_of(EVERYDAY, small_pool, tmp_path / "store")
    Local(devices=("cuda:1", "cuda", "cpu"), workers=3).check(plan)
    with pytest.raises(RunnerError, match=r"device 'cuda:2', but there are 2 usable GPUs"):
        Local(devices=("cuda:2",)).check(plan)


@pytest.mark.usefixtures("two_gpus")
def test_a_measure_that_wants_a_gpu_of_its_own_is_refused_with_devices(tmp_path: Path) -> None:
    wanting = RECIPE.replace('"}}', '", device: "cuda:1"}}')
    assert wanting != RECIPE
    plan = plan_of(wanting, compared_pool(tmp_path / "pool"), tmp_path / "store")
    Local().check(plan)
    with pytest.raises(RunnerError, match=r"clip wants 'cuda:1'.*leave `device` out"):
        Local(devices=("cuda:0",)).check(plan)
