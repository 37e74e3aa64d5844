"""Starts local worker processes, which `curate.worker_main` forks, and knows when they end."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from transforms.progress import Advance, tell

STOP_SECONDS = 10.0  # that the server has to end


@dataclass(eq=False)
class WorkerProcess:
    """A worker process.

    Attributes:
        process: its id; 0 until it is started.
        code: how it ended, as subprocess says it.
    """

    process: int = 0
    code: int = 0
    ended: threading.Event = field(default_factory=threading.Event)


class WorkerStarter:
    """The process that forks workers; used as a context, after which none of them is left."""

    def __enter__(self) -> Self:
        self._workers: list[WorkerProcess] = []
        self._lock = threading.Lock()
        self._server = subprocess.Popen(  # noqa: S603  (this program itself)
            [sys.executable, "-m", "curate.worker_main", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._listener = threading.Thread(target=self._listen, name="workers", daemon=True)
        self._listener.start()
        return self

    def __exit__(self, *_: object) -> None:
        orders, answers = self._server.stdin, self._server.stdout
        if orders is not None and answers is not None:
            orders.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                # It ends the workers that are left; where none is, nothing is waited for.
                if not all(worker.ended.is_set() for worker in self._workers):
                    self._server.wait(STOP_SECONDS)
            self._server.kill()
            self._listener.join()
            answers.close()

    def start(self, harness: Mapping[str, Any], environment: Mapping[str, str]) -> WorkerProcess:
        """Starts a worker; harness: as for `worker_main.work`. One that can't start has ended."""
        worker = WorkerProcess()
        with self._lock:
            self._workers.append(worker)
            key = len(self._workers) - 1
        work = {"harness": dict(harness), "level": logging.getLogger("curate").getEffectiveLevel()}
        self._order({"start": key, "work": work, "environment": dict(environment)}, worker)
        return worker

    def kill(self, worker: WorkerProcess) -> None:
        """Ends a worker by force, if it has not ended; returns when it has."""
        self._order({"kill": self._workers.index(worker)}, worker)
        worker.ended.wait()

    def _order(self, order: Mapping[str, object], worker: WorkerProcess) -> None:
        try:
            with self._lock:
                if self._server.stdin is not None:
                    self._server.stdin.write(json.dumps(order).encode() + b"\n")
                    self._server.stdin.flush()
        except OSError:  # the server has ended
            self._end(worker, self._server.wait())

    def _listen(self) -> None:
        for line in self._server.stdout or ():
            answer = json.loads(line)
            if "advance" in answer:
                tell(Advance(**answer["advance"]))
                continue
            worker = self._workers[answer["key"]]
            if "process" in answer:
                worker.process = answer["process"]
            else:
                self._end(worker, answer["code"])
        code = self._server.wait()
        for worker in list(self._workers):
            self._end(worker, code)

    @staticmethod
    def _end(worker: WorkerProcess, code: int) -> None:
        if not worker.ended.is_set():
            worker.code = code
            worker.ended.set()
