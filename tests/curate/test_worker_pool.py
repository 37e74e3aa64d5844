"""A worker pool: starts what it is asked for, ends it, says where it listens."""

# Beam's calls have no annotations:
# mypy: allow-untyped-calls, disable-error-code=import-untyped

from __future__ import annotations

import os
import signal
import subprocess

import grpc
import pytest
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc
from typer.testing import CliRunner

from curate.cli import app
from curate.worker_pool import running_pool
from filters.core.errors import RunnerError
from tests.curate.test_worker_processes import wait_until
from tests.engines import CURATE
from tests.processes import children_of, runs


def test_workers_are_started_and_stopped_as_they_are_asked_for() -> None:
    with running_pool() as address, grpc.insecure_channel(address) as channel:
        pool = beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub(channel)
        asked = beam_fn_api_pb2.StartWorkerRequest(worker_id="one")
        asked.control_endpoint.url = "localhost:1"
        assert not pool.StartWorker(asked).error
        (server,) = children_of(os.getpid(), "curate.worker_main")
        wait_until(lambda: children_of(server), "the worker")
        (worker,) = children_of(server)
        stop = beam_fn_api_pb2.StopWorkerRequest(worker_id="one")
        assert not pool.StopWorker(stop).error
        assert not runs(worker)
        assert not pool.StopWorker(stop).error, "one that is not there is no fault"


def test_an_address_that_is_taken_is_refused() -> None:
    with (
        running_pool() as address,
        pytest.raises(RunnerError, match=rf"can't listen on {address}: .*give another --host or --port"),
        running_pool(port=int(address.rpartition(":")[2])),
    ):
        pass


def test_the_command_says_where_it_listens_and_ends_when_it_is_asked_to() -> None:
    command = [*CURATE, "worker-pool", "--host", "0.0.0.0", "--port", "0"]  # noqa: S104
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        assert said.startswith("workers for engines that ask at 0.0.0.0:")
        assert "let nobody but the engine reach this port" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_an_address_of_another_machine_is_refused_by_the_command() -> None:
    answer = CliRunner().invoke(app, ["worker-pool", "--host", "192.0.2.1", "--port", "1"])
    assert isinstance(answer.exception, RunnerError)
    assert "can't listen on 192.0.2.1:1" in str(answer.exception)
