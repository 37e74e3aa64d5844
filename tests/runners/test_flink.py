"""Flink as far as it goes without its job server: options, the job as sent, its graph run by Beam's own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from curate.plan import Plan
from curate.run import RunOptions, run_recipe
from curate.runners.flink import Flink
from filters.core.errors import RunnerError
from tests.curate.test_reach import remote
from tests.engines import JobServer, beam_worker_pool, job_server, worker_pool
from tests.running import EVERYDAY, curate, files_of, plan_of

SHORT = """\
name: short
pool: {retry_seconds: []}
filters: [{min_side_pixels: 45}]
output: {samples_per_shard: 4, report: false}
"""


@pytest.fixture
def everyday(small_pool: Path, tmp_path: Path) -> Plan:
    return plan_of(EVERYDAY, small_pool, tmp_path / "store")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"job_endpoint": "localhost"}, "job_endpoint"),
        ({"job_endpoint": "http://flink:8099"}, "job_endpoint"),
        ({"worker_pool": "localhost"}, "worker_pool"),
        ({"workers": 0}, "workers"),
        ({"max_parallelism": 0}, "max_parallelism"),
        ({"retries": -1}, "retries"),
        ({"execution": "STREAMING"}, "execution"),
        ({"flink_master": "localhost:8081"}, "flink_master"),
    ],
)
def test_options_that_can_not_work_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=rf"(?s)validation error.*{said}"):
        Flink(**{"job_endpoint": "localhost:8099", **given})


def test_options_get_the_names_that_flinks_job_server_knows() -> None:
    assert Flink(job_endpoint="flink:8099", workers=16).flags() == (
        "--parallelism=16",
        "--number_of_execution_retries=3",
        "--execution_retry_delay=10000",
        "--execution_mode_for_batch=PIPELINED",
        "--object_reuse",
    )
    plain = Flink(job_endpoint="flink:8099", object_reuse=False, max_parallelism=128, execution="BATCH")
    assert plain.flags()[3:] == ("--execution_mode_for_batch=BATCH", "--max_parallelism=128")


def test_local_paths_and_credentials_are_refused_before_anything_is_asked(everyday: Plan) -> None:
    nowhere = Flink(job_endpoint="localhost:1")
    with pytest.raises(RunnerError, match=r"runner flink: .*can't see the store"):
        nowhere.check(everyday)
    with pytest.raises(RunnerError, match="storage option 'secret' would be stored with the job"):
        nowhere.check(remote(everyday, {"secret": "B"}))


def test_an_absent_job_server_is_refused(everyday: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.portable_engine.ANSWER_SECONDS", 0.5)
    with pytest.raises(RunnerError, match="runner flink: no job server answers at localhost:1: start it"):
        Flink(job_endpoint="localhost:1").check(remote(everyday))


def assert_as_flink_wants_it(server: JobServer, pool: str) -> None:
    """Every graph has one environment, the sidecar's; nothing is staged; models are in one job."""
    assert len(server.jobs()) == 3, "a job for each stage"
    for _, options, graph in server.jobs():
        assert options["beam:option:parallelism:v1"] == "2"
        assert options["beam:option:number_of_execution_retries:v1"] == "3"
        assert options["beam:option:execution_mode_for_batch:v1"] == "PIPELINED"
        assert options["beam:option:object_reuse:v1"] is True
        used = {step.environment_id for step in graph.components.transforms.values()} - {""}
        (place,) = (graph.components.environments[name] for name in used)
        assert place.urn == "beam:env:external:v1"
        assert pool.encode() in place.payload
        assert not place.dependencies, "workers have all they need in their image"
    stages = [name.removeprefix("curate-short-") for name, _, _ in server.jobs()]
    assert stages == ["measure", "decide", "write"]


@pytest.mark.slow
@pytest.mark.timeout(600)  # Beam's own pool starts a Python in each of three stages
@pytest.mark.parametrize("pool", [worker_pool, beam_worker_pool])
def test_the_jobs_that_flink_gets_give_the_same_bytes(
    pool: Callable[[Path], AbstractContextManager[str]], small_pool: Path, tmp_path: Path
) -> None:
    here = curate(SHORT, small_pool, tmp_path / "here")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with job_server(tmp_path / "server") as server, pool(elsewhere) as sidecar:
        runner = Flink(
            job_endpoint=server.endpoint, worker_pool=sidecar, workers=2, lane_shards=1, shared_files=True
        )
        plan = plan_of(SHORT, small_pool, tmp_path / "there")
        there = run_recipe(plan, RunOptions(runner=runner), lambda _: None)
    assert there.ledger == here.ledger
    assert files_of(tmp_path / "there") == files_of(tmp_path / "here")
    assert_as_flink_wants_it(server, sidecar)
