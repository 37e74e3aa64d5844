"""A pool of worker processes for engines that ask for them: `curate worker-pool`.

Beam's own starts a Python for each worker, which then spends seconds on importing Beam, at every
stage of a run. Here workers are forks of one that has.
"""

# Beam's calls have no annotations, and grpc no types:
# mypy: allow-untyped-calls, allow-subclassing-any, disable-error-code=import-untyped

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc
from rich.console import Console

from curate.addresses import is_local
from curate.stopping import ending_on_signals
from curate.worker_starter import WorkerProcess, WorkerStarter
from filters.core.errors import RunnerError

logger = logging.getLogger("curate.workers")
BUFFER_MILLISECONDS = -1  # elements are sent when a buffer is full or a bundle ends
CALLS = 16  # answered side by side
err = Console(stderr=True)


class WorkerPool(beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolServicer):
    """Beam's service of an external worker pool."""

    def __init__(self, starter: WorkerStarter) -> None:
        self._starter = starter
        self._workers: dict[str, WorkerProcess] = {}

    def StartWorker(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802  (Beam's names)
        """Starts a process that works for the runner at the given address."""
        harness = {
            "control_address": request.control_endpoint.url,
            "worker_id": request.worker_id,
            "data_buffer_time_limit_ms": BUFFER_MILLISECONDS,
        }
        self._workers[request.worker_id] = self._starter.start(harness, {})
        logger.info("worker %s for %s", request.worker_id, request.control_endpoint.url)
        return beam_fn_api_pb2.StartWorkerResponse()

    def StopWorker(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802
        """Ends the worker at once: an engine asks for that when it has what it wants."""
        worker = self._workers.pop(request.worker_id, None)
        if worker is not None:
            self._starter.kill(worker)
        return beam_fn_api_pb2.StopWorkerResponse()


@contextmanager
def running_pool(host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """A worker pool at this address while the block runs; gives its host:port. 0 takes a free port.

    It runs what it is sent by whoever reaches it.
    Raises: RunnerError where the address can't be had.
    """
    with WorkerStarter() as starter, ThreadPoolExecutor(CALLS, thread_name_prefix="pool") as calls:
        server = grpc.server(calls, options=[("grpc.so_reuseport", 0)])
        beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(WorkerPool(starter), server)
        try:
            bound = server.add_insecure_port(f"{host}:{port}")
        except RuntimeError as cause:
            msg = f"can't listen on {host}:{port}: {cause}; give another --host or --port"
            raise RunnerError(msg) from cause
        server.start()
        try:
            yield f"{host}:{bound}"
        finally:
            server.stop(0).wait()


def offer_workers(host: str, port: int) -> None:
    """Runs a worker pool until it is asked to stop."""
    stop = threading.Event()
    with ending_on_signals(stop), running_pool(host, port) as address:
        err.print(f"workers for engines that ask at {address}; Ctrl-C ends this", highlight=False)
        if not is_local(host):
            err.print("it runs what it is sent: let nobody but the engine reach this port", style="yellow")
        stop.wait()
