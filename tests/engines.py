"""Engines beyond this process that tests run recipes on: Prism, Beam's worker pool and job server."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from apache_beam.portability.api import beam_runner_api_pb2

from tests.end_to_end.conftest import absent, free_port

ROOT = Path(__file__).parents[1]
CURATE = [sys.executable, "-c", "from curate.cli import main; main()"]  # the command, of this checkout


def prism_program() -> str:
    """Prism's path: built by deploy/prism.sh, which keeps it; where it can't be had the test skips."""
    given = os.environ.get("CURATE_PRISM")
    if given:
        return given
    if not list((ROOT / ".cache" / "bin").glob("prism-v*")) and shutil.which("go") is None:
        absent("no Prism: it is not in .cache/bin, and there is no Go to build it with")
    built = subprocess.run([str(ROOT / "deploy" / "prism.sh")], capture_output=True, text=True, check=False)
    if built.returncode != 0:
        absent(f"no Prism: deploy/prism.sh could not build it: {built.stderr[-300:]}")
    return built.stdout.strip()


@contextmanager
def worker_pool(folder: Path) -> Iterator[str]:
    """`curate worker-pool` in a process and folder of its own; gives its host:port."""
    port = free_port()
    command = [*CURATE, "worker-pool", "--port", str(port), "--verbose"]
    with _listening(command, port, folder):
        yield f"localhost:{port}"


@contextmanager
def beam_worker_pool(folder: Path) -> Iterator[str]:
    """Beam's own worker pool, which starts a Python for each worker."""
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "apache_beam.runners.worker.worker_pool_main",
        "--service_port",
        str(port),
    ]
    with _listening(command, port, folder):
        yield f"localhost:{port}"


@contextmanager
def _listening(command: Sequence[str], port: int, folder: Path) -> Iterator[None]:
    # Beam's pool starts workers by the name of `python` on PATH.
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": os.environ.get("PYTHONPATH", str(ROOT))}
    with (folder / "worker_pool.log").open("wb") as log:
        # In a session of its own, so that its workers end with it.
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            wait_for_port(process, port)
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for_port(process: subprocess.Popen[bytes], port: int) -> None:
    """Waits until a process listens; importing Beam takes seconds, on a busy machine many."""
    ends = time.monotonic() + 120
    while time.monotonic() < ends and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("localhost", port), timeout=1):
            return
        time.sleep(0.2)
    pytest.fail(f"{process.args} does not listen on port {port}")


@dataclass(frozen=True)
class JobServer:
    """Beam's reference job server, in a process of its own.

    Attributes:
        folder: where it keeps what it was sent.
    """

    endpoint: str
    folder: Path
    process: subprocess.Popen[bytes]

    def jobs(self) -> list[tuple[str, dict[str, Any], Any]]:
        """Name, options and graph of each job, in order."""
        return [
            (
                path.stem.partition("-")[2],
                json.loads(path.read_text()),
                beam_runner_api_pb2.Pipeline.FromString(path.with_suffix(".pb").read_bytes()),
            )
            for path in sorted(self.folder.glob("*.json"))
        ]


@contextmanager
def job_server(folder: Path) -> Iterator[JobServer]:
    """A job server as Flink's or Spark's would be, which runs its jobs in its own process."""
    folder.mkdir()
    port = free_port()
    command = [sys.executable, "-m", "tests.job_server", str(port), str(folder)]
    with (folder / "job_server.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        try:
            wait_for_port(process, port)
            yield JobServer(f"localhost:{port}", folder, process)
        finally:
            process.kill()
            process.wait()
