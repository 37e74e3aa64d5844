"""Engines beyond this process that tests run recipes on: Prism, and Beam's worker pool."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.end_to_end.conftest import absent, free_port

ROOT = Path(__file__).parents[1]


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
def worker_pool(folder: Path, python_path: str = "") -> Iterator[str]:
    """A Beam worker pool in a process and folder of its own; gives its host:port.

    It starts a process for each worker that is asked for, by the name of `python` on PATH.
    """
    port = free_port()
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment["PYTHONPATH"] = python_path
    command = [
        sys.executable,
        "-m",
        "apache_beam.runners.worker.worker_pool_main",
        "--service_port",
        str(port),
    ]
    with (folder / "worker_pool.log").open("wb") as log:
        # In a session of its own, so that its workers end with it.
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            wait_for_worker_pool(process, port)
            yield f"localhost:{port}"
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for_worker_pool(process: subprocess.Popen[bytes], port: int) -> None:
    """Waits until it listens; importing Beam takes seconds, on a busy machine many."""
    ends = time.monotonic() + 120
    while time.monotonic() < ends and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("localhost", port), timeout=1):
            return
        time.sleep(0.2)
    pytest.fail(f"the worker pool does not listen on port {port}")
