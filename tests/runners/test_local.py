"""The local runner: threads, or a process for each device."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from curate.engine import Engine
from curate.runner import load_runner
from curate.runners.local import Local, ProcessEngine
from filters.core.errors import RunnerError
from tests.compared import RECIPE, compared_pool
from tests.running import EVERYDAY, plan_of


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine with two GPUs, as far as counting goes."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_without_devices_it_is_this_process() -> None:
    with Local(workers=3).start("t") as engine:
        assert engine == Engine(3)
        assert (engine.lanes(2), engine.lanes(9)) == (2, 3)


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
