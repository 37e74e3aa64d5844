"""Prism, Beam's portable reference runner: what a cluster asks of a pipeline, on one machine."""

# Beam's calls have no annotations:
# mypy: allow-untyped-calls

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer
from pydantic import Field

from curate.addresses import is_local
from curate.engine import Engine
from curate.plan import Plan
from curate.portable_engine import ADDRESS, PortableEngine, check_answers
from curate.reach import check_reach, with_absolute_store
from curate.reader_threads import quiet_readers
from curate.runner import Runner
from filters.core.errors import RunnerError

logger = logging.getLogger("curate.prism")
VARIABLE = "CURATE_PRISM"
START_SECONDS = 30.0
STOP_SECONDS = 10.0
IDLE_SECONDS = 60.0  # of a stream that has work: one was seen to stand still for ever (2.77)
IDLE = "30m"  # a Prism whose launcher was killed ends by itself


class Prism(Runner):
    """Prism on this machine, with worker threads of this process or workers of a pool."""

    binary: str | None = Field(
        default=None, description=f"Prism's program; else ${VARIABLE}, else `prism` on PATH."
    )
    worker_pool: str | None = Field(
        default=None,
        pattern=ADDRESS,
        description="host:port of `curate worker-pool`, which starts a process for each worker.",
    )
    shared_files: bool | None = Field(
        default=None,
        description="Workers see the same files at the same paths; true if not given and the pool is here.",
    )

    def check(self, plan: Plan) -> None:
        find_prism(self.binary)
        if self.worker_pool is None:
            return
        here = is_local(self.worker_pool.rpartition(":")[0])
        check_reach(self.name, plan, shared=here if self.shared_files is None else self.shared_files)
        check_answers(self.name, "worker pool", self.worker_pool)

    def seen_by_workers(self, plan: Plan) -> Plan:
        return with_absolute_store(plan)

    @contextmanager
    def start(self, title: str) -> Iterator[Engine]:
        quiet_readers()
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(running_prism(find_prism(self.binary)))
            pool = self.worker_pool or stack.enter_context(worker_threads())
            yield PortableEngine(
                self.workers,
                branches=self.workers,
                title=title,
                endpoint=server.endpoint,
                environment=("EXTERNAL", pool),
                look=server.look,
                idle_seconds=IDLE_SECONDS,
            )


def find_prism(given: str | None) -> str:
    """The path of Prism's program.

    Raises: RunnerError where there is none.
    """
    wanted = given or os.environ.get(VARIABLE) or "prism"
    found = shutil.which(wanted)
    if found is None:
        where = "the option `binary`" if given else f"${VARIABLE}" if os.environ.get(VARIABLE) else "PATH"
        msg = (
            f"runner prism: no program {wanted!r} (from {where}): deploy/prism.sh builds it and prints its "
            f"path; set {VARIABLE} to that"
        )
        raise RunnerError(msg)
    return str(Path(found).absolute())


@dataclass
class PrismServer:
    """A running Prism.

    Attributes:
        endpoint: host:port of its job interface; empty until it listens.
        said: its last lines.
    """

    process: subprocess.Popen[bytes]
    endpoint: str = ""
    said: deque[str] = field(default_factory=lambda: deque(maxlen=20))
    ready: threading.Event = field(default_factory=threading.Event)

    def listen(self) -> None:
        """Reads what Prism says until it ends: the address, and logs."""
        for line in self.process.stdout or ():
            text = line.decode(errors="backslashreplace").rstrip()
            self.said.append(text)
            found = _parsed(text)
            logger.debug("%s", found.get("msg", text))
            if "JobManagement" in str(found.get("msg")) and "endpoint" in found:
                self.endpoint = str(found["endpoint"])
                self.ready.set()
        self.ready.set()

    def look(self) -> str | None:
        """What is wrong with it; None while it runs."""
        code = self.process.poll()
        if code is None:
            return None
        how = f"was killed (signal {-code})" if code < 0 else f"ended with code {code}"
        return f"Prism (process {self.process.pid}) {how}"


@contextmanager
def running_prism(program: str) -> Iterator[PrismServer]:
    """Prism on a free port, ended after the block.

    It takes jobs from whoever reaches that port: it has no way to ask who they are.
    Raises: RunnerError where the program does not start, or is no Prism.
    """
    command = [program, "--job_port=0", "--serve_http=false", "--log_kind=json", "--log_level=info"]
    command.append(f"--idle_shutdown_timeout={IDLE}")
    try:
        process = subprocess.Popen(  # noqa: S603  (the user's own choice)
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
        )
    except OSError as cause:
        msg = f"runner prism: can't start {program}: {cause.strerror}"
        raise RunnerError(msg) from cause
    server = PrismServer(process)
    reader = threading.Thread(target=server.listen, name="prism-log", daemon=True)
    reader.start()
    try:
        server.ready.wait(START_SECONDS)
        if not server.endpoint:
            last = "; ".join(list(server.said)[-3:]) or "nothing"
            msg = f"runner prism: {program} does not start as Prism does; it said: {last[:500]}"
            raise RunnerError(msg)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reader.join(STOP_SECONDS)
        if process.stdout is not None:
            process.stdout.close()


@contextmanager
def worker_threads() -> Iterator[str]:
    """A worker pool in this process, whose workers are threads; gives its host:port."""
    address, server = BeamFnExternalWorkerPoolServicer.start()
    try:
        yield str(address)
    finally:
        server.stop(1).wait()


def _parsed(text: str) -> dict[str, object]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
