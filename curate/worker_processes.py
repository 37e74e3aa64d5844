"""Local worker processes, each with a device of its own, and the watch over them.

Beam's own worker processes share whatever devices there are, and when one is killed the runner
waits for it for ever: aborting a request does not end the wait for the request's data, only an
answer does. So a request to a worker that has ended is answered here, with an error.
"""

# Beam's calls have no annotations, and grpc no types:
# mypy: allow-untyped-calls, disable-error-code=import-untyped

from __future__ import annotations

import logging
import os
import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from apache_beam.portability.api import beam_fn_api_pb2
from apache_beam.runners.portability.fn_api_runner.worker_handlers import (
    DATA_BUFFER_TIME_LIMIT_MS,
    FNAPI_RUNNER_CAPABILITIES,
    MB_TO_BYTES,
    STATE_CACHE_SIZE_MB,
    ControlFuture,
    GrpcWorkerHandler,
    WorkerHandler,
)
from apache_beam.transforms import environments

from curate.worker_starter import WorkerProcess, WorkerStarter
from filters.core.errors import WorkerLost

logger = logging.getLogger("curate.workers")
URN = "curate:env:processes:v1"
STOP_SECONDS = 20.0  # a worker has so long to end by itself
VISIBLE = "CUDA_VISIBLE_DEVICES"


class ProcessEnvironment(environments.Environment):
    """Tells FnApiRunner to start workers as processes, one device each, in turn."""

    def __init__(self, devices: Sequence[str], starter: WorkerStarter) -> None:
        super().__init__(environments.python_sdk_capabilities())
        self._key = uuid.uuid4().hex
        _crews[self._key] = Crew(tuple(devices), starter)

    def to_runner_api_parameter(self, context: Any) -> tuple[str, bytes]:  # noqa: ARG002  (Beam's)
        """The name of this kind of environment, and what its handler needs."""
        return URN, self._key.encode()


@dataclass
class Crew:
    """The workers of one pipeline; when one is lost, all their requests are answered with an error."""

    devices: tuple[str, ...]
    starter: WorkerStarter
    members: list[ProcessHandler] = field(default_factory=list)
    lost: str | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def join(self, member: ProcessHandler) -> int:
        """Takes a worker in; returns its number."""
        with self.lock:
            self.members.append(member)
            return len(self.members) - 1

    def report(self, said: str) -> None:
        """Ends the pipeline, since a worker was lost."""
        logger.warning("%s", said)
        with self.lock:
            self.lost = self.lost or said
            members = list(self.members)
        for member in members:
            member.control_conn.answer_all(self.lost)


_crews: dict[str, Crew] = {}


class Line:
    """The control line to one worker: notes what it was asked, and can answer in its place."""

    def __init__(self, line: Any) -> None:
        self._line = line
        self._asked: list[ControlFuture] = []
        self._error: str | None = None
        self._lock = threading.Lock()

    def push(self, request: beam_fn_api_pb2.InstructionRequest) -> ControlFuture:
        """Asks the worker; the answer is an error where it has ended."""
        with self._lock:
            if self._error is not None:
                return ControlFuture(
                    request.instruction_id, beam_fn_api_pb2.InstructionResponse(error=self._error)
                )
            asked: ControlFuture = self._line.push(request)
            self._asked = [one for one in self._asked if not one.is_done()] + [asked]
            return asked

    def answer_all(self, said: str) -> None:
        """Answers everything with this error, from now on."""
        error = WorkerLost(said)
        # As the last line of a traceback, which is where the engine looks for the type.
        text = f"\n{type(error).__module__}.{type(error).__name__}: {error}"
        with self._lock:
            self._error = text
            for one in self._asked:
                if not one.is_done():
                    one.set(beam_fn_api_pb2.InstructionResponse(error=text))

    def close(self) -> None:
        """Tells the worker that there is nothing more to do."""
        self._line.close()


@WorkerHandler.register_environment(URN, bytes)
class ProcessHandler(GrpcWorkerHandler):
    """One worker process of a crew."""

    control_conn: Any  # a Line, in place of Beam's own

    def __init__(self, payload: bytes, state: Any, provision_info: Any, grpc_server: Any) -> None:
        super().__init__(state, provision_info, grpc_server)
        self.control_conn = Line(self.control_conn)
        self._key = payload.decode()
        self._crew = _crews[self._key]
        self._number = self._crew.join(self)
        self._worker: WorkerProcess | None = None
        self._stopping = threading.Event()

    def start_worker(self) -> None:
        """Starts the process and the watch over it."""
        harness = {
            "control_address": str(self.control_address),
            "worker_id": str(self.worker_id),
            "state_cache_size": STATE_CACHE_SIZE_MB * MB_TO_BYTES,
            "data_buffer_time_limit_ms": DATA_BUFFER_TIME_LIMIT_MS,
            "runner_capabilities": sorted(FNAPI_RUNNER_CAPABILITIES),
        }
        self._worker = self._crew.starter.start(
            harness, device_environment(self._device) if self._device else {}
        )
        threading.Thread(target=self._watch, name=f"watch-{self.worker_id}", daemon=True).start()

    def stop_worker(self) -> None:
        """Waits for the process to end; not long, and not at all once the work is lost."""
        self._stopping.set()
        if self._worker is not None and not self._worker.ended.wait(0 if self._crew.lost else STOP_SECONDS):
            self._crew.starter.kill(self._worker)
        _crews.pop(self._key, None)

    def close(self) -> None:
        """Ends the worker; of one that is lost, Beam's own lines only say again that they broke."""
        self._stopping.set()
        try:
            super().close()
        except grpc.RpcError:
            if not self._crew.lost:
                raise
        finally:
            self.stop_worker()

    @property
    def _device(self) -> str | None:
        devices = self._crew.devices
        return devices[self._number % len(devices)] if devices else None

    def _watch(self) -> None:
        if self._worker is None:
            return
        self._worker.ended.wait()
        if self._stopping.is_set():
            return
        code = self._worker.code
        who = ", ".join(filter(None, [self._device, f"process {self._worker.process}"]))
        how = f"was killed (signal {-code})" if code < 0 else f"ended with code {code}"
        self._crew.report(
            f"worker {self._number} ({who}) {how} before its work "
            "was done: run again, what is done stays done; if it ran out of memory, use fewer workers"
        )


def device_environment(device: str) -> dict[str, str]:
    """The environment variables that let a process see this device alone: cpu, cuda or cuda:N."""
    if device == "cpu":
        return {VISIBLE: ""}
    number = int(device.partition(":")[2] or 0)
    seen = [name for name in os.environ.get(VISIBLE, "").split(",") if name]
    return {VISIBLE: seen[number] if seen else str(number)}
