"""Engines behind Beam's job interface: pipelines go to a job server, workers are processes elsewhere."""

# Beam's calls have no annotations, and grpc no types:
# mypy: allow-untyped-calls, disable-error-code=import-untyped

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import grpc
from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions
from apache_beam.runners.portability.job_server import ExternalJobServer
from apache_beam.runners.portability.portable_runner import PortableRunner

from curate.engine import GRAPH_BYTES, Engine
from filters.core.errors import RunnerError, WorkerLost

ADDRESS = r"^[^\s/:]+:\d+$|^\[[0-9a-f:]+\]:\d+$"  # host:port, also with an IPv6 address
ANSWER_SECONDS = 10.0  # that a server has, to take a connection
SERVER_SECONDS = 30  # that it has before each stage
TRY_SECONDS = 2  # between two looks at whether it still runs
ENDING_SECONDS = 1.0  # from when a server's lines close until its process counts as ended
JOB_SECONDS = 10_000_000  # that a job may take, in calls that wait for it
# What Prism says of a worker that went away, in the error of the job.
GONE = ("SDK worker disconnected", "didn't get control connection")


class JobRunner(PortableRunner):
    """Beam's runner, for which a server has SERVER_SECONDS to answer, and a job as long as it takes.

    Beam has one timeout for both: a short one cuts jobs off, a long one waits for a server that died.
    """

    def __init__(self, look: Callable[[], str | None]) -> None:
        super().__init__()
        self._look = look

    def create_job_service(self, options: PipelineOptions) -> Any:
        """The server, once it answers. Raises: grpc.FutureTimeoutError."""
        endpoint = options.view_as(PortableOptions).job_endpoint
        ends = time.monotonic() + SERVER_SECONDS
        while True:
            try:
                return self.create_job_service_handle(
                    ExternalJobServer(endpoint, TRY_SECONDS).start(), options
                )
            except grpc.FutureTimeoutError:
                if self._look() is not None or time.monotonic() >= ends:
                    raise


@dataclass(frozen=True)
class PortableEngine(Engine):
    """A job server at `endpoint`, such as Prism's or Flink's.

    Attributes:
        endpoint: host:port of the job server.
        environment: how workers are started, and what that needs: ("EXTERNAL", "host:port").
        lane_shards: most shards measured in one go; None: one lane for each worker.
        title: what the jobs are for; more: further Beam options, such as --parallelism=4.
        look: says what is wrong with the job server; None while nothing is.
    """

    graph_bytes: ClassVar[int | None] = GRAPH_BYTES

    endpoint: str = ""
    environment: tuple[str, str] = ("LOOPBACK", "")
    lane_shards: int | None = None
    title: str = "recipe"
    more: tuple[str, ...] = ()
    look: Callable[[], str | None] = lambda: None

    def runner(self) -> Any:
        return JobRunner(self.look)

    def options(self, stage: str, *, models: bool) -> PipelineOptions:  # noqa: ARG002  (as the base says)
        """The options of one pipeline, all of them Beam's own."""
        kind, config = self.environment
        flags = [f"--job_endpoint={self.endpoint}", f"--environment_type={kind}"]
        flags += [f"--job_server_timeout={JOB_SECONDS}"]
        flags += [f"--job_name=curate-{self.title}-{stage}"]
        flags += [f"--environment_config={config}"] if config else []
        return PipelineOptions([*flags, *self.more])

    def lanes(self, shards: int) -> int:
        return lanes_of(shards, self.workers, self.lane_shards)

    def failures(self) -> tuple[type[Exception], ...]:
        return (*super().failures(), grpc.FutureTimeoutError)

    def lost(self, error: Exception) -> WorkerLost | None:
        """A worker that ended, or a job server that no longer answers."""
        silent = isinstance(error, grpc.RpcError | grpc.FutureTimeoutError)
        said, ends = self.look(), time.monotonic() + ENDING_SECONDS
        while silent and said is None and time.monotonic() < ends:
            time.sleep(0.05)
            said = self.look()
        if said is None and silent:
            said = f"the job server at {self.endpoint} no longer answers ({_code(error)})"
        if said is None and any(sign in str(error) for sign in GONE):
            said = "a worker ended, or could not be started"
        if said is None:
            return None
        return WorkerLost(f"{said}: run again, what is done stays done")

    def alive(self) -> bool:
        return self.look() is None and _answers(self.endpoint)


def lanes_of(shards: int, workers: int, most: int | None) -> int:
    """Into how many lanes shards are split: one for each worker, more where lanes may not be longer."""
    if most is None:
        return min(workers, shards)
    return max(min(workers, shards), -(-shards // most))


def check_answers(runner: str, what: str, address: str) -> None:
    """Raises RunnerError where nothing speaks gRPC at an address; what: how messages call it."""
    if not _answers(address):
        msg = f"runner {runner}: no {what} answers at {address}: start it, or correct the address"
        raise RunnerError(msg)


def _answers(address: str) -> bool:
    """Whether something speaks gRPC there."""
    with grpc.insecure_channel(address) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=ANSWER_SECONDS)
        except grpc.FutureTimeoutError:
            return False
    return True


def _code(error: grpc.RpcError) -> str:
    code = getattr(error, "code", None)
    return str(code().name if callable(code) else type(error).__name__)
