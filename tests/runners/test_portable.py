"""The portable runner: any Beam job server. Here Beam's own reference server, in a process of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest

from curate.plan import Plan
from curate.run import RunOptions, run_recipe
from curate.runners.portable import Portable
from filters.core.errors import RunnerError, WorkerLost
from tests.engines import job_server
from tests.running import EVERYDAY, curate, files_of, plan_of


@pytest.fixture
def everyday(small_pool: Path, tmp_path: Path) -> Plan:
    return plan_of(EVERYDAY, small_pool, tmp_path / "store")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"job_endpoint": "nowhere"}, "job_endpoint"),
        ({"environment_type": "SSH"}, "environment_type"),
        ({"environment_type": "EXTERNAL"}, "environment_config: EXTERNAL needs host:port of a worker pool"),
        ({"environment_type": "DOCKER"}, "environment_config: DOCKER needs the worker image"),
        ({"environment_type": "PROCESS"}, "environment_config: PROCESS needs JSON"),
    ],
)
def test_options_that_can_not_work_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=rf"(?s)validation error.*{said}"):
        Portable(**{"job_endpoint": "localhost:8099", **given})


def test_workers_elsewhere_must_see_pool_and_store(everyday: Plan) -> None:
    runner = Portable(job_endpoint="localhost:1", environment_type="DOCKER", environment_config="image")
    with pytest.raises(RunnerError, match=r"runner portable: .*can't see the store"):
        runner.check(everyday)


def test_an_absent_job_server_is_refused(everyday: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.portable_engine.ANSWER_SECONDS", 0.5)
    with pytest.raises(RunnerError, match="runner portable: no job server answers at localhost:1"):
        Portable(job_endpoint="localhost:1", environment_type="LOOPBACK").check(everyday)


@pytest.mark.slow
def test_a_job_server_elsewhere_gives_the_same_bytes_and_its_end_is_told(
    small_pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.portable_engine.SERVER_SECONDS", 2)
    curate(EVERYDAY, small_pool, tmp_path / "here")
    with job_server(tmp_path / "server") as server:
        runner = Portable(job_endpoint=server.endpoint, environment_type="LOOPBACK", workers=2)
        run_recipe(
            plan_of(EVERYDAY, small_pool, tmp_path / "there"), RunOptions(runner=runner), lambda _: None
        )
        assert files_of(tmp_path / "there") == files_of(tmp_path / "here")
        again = plan_of(EVERYDAY, small_pool, tmp_path / "again")
        runner.check(again)
        server.process.kill()
        server.process.wait()
        with (
            runner.start("everyday") as engine,
            pytest.raises(WorkerLost, match=f"the job server at {server.endpoint} no longer answers"),
            engine.pipeline("test") as pipeline,
        ):
            _ = pipeline | "Numbers" >> engine.spread([1], beam.DoFn())
