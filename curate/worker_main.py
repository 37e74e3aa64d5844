"""Local worker processes: `python -m curate.worker_main LAUNCHER` forks one for each that is ordered.

Forks, since a worker of its own would spend seconds on importing Beam before every stage. Nothing
here touches a device or opens a line before it forks. `curate.worker_starter` is the other side.
"""

# Beam's calls have no annotations:
# mypy: allow-untyped-calls

from __future__ import annotations

import json
import logging
import os
import secrets
import select
import signal
import sys
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from apache_beam.runners.worker import sdk_worker

import curate.pipeline  # noqa: F401  (imports what the steps need, once for all workers)
from curate.logs import set_up_logs
from transforms.apart import PARENT_SECONDS, end_with
from transforms.progress import listening

ORDERS, ERRORS = 0, 2  # file descriptors


def work(harness: Mapping[str, Any], level: int) -> None:
    """Works for a runner until it says that nothing is left.

    harness: what Beam's worker is made with: `control_address`, `worker_id`, …; level: of the log.
    """
    set_up_logs(verbose=level <= logging.INFO)
    end_with(os.getppid())
    sdk_worker.SHORT_ID_CACHE = MetricIds(f"{secrets.token_hex(4)}-")
    capabilities = frozenset(harness.get("runner_capabilities", ()))
    sdk_worker.SdkHarness(**{**harness, "runner_capabilities": capabilities}).run()


class MetricIds(sdk_worker.ShortIdCache):
    """The ids by which a worker's metrics are short for the runner, each beginning with `prefix`.

    Beam's own count from 1 in each process. Prism (2.77) has one table of them for all processes of a
    job: it takes one worker's metric for another's, and panics where their types differ.
    """

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self._prefix = prefix

    def get_short_id(self, monitoring_info: Any) -> str:
        """The id of a metric; one is made at its first time."""
        return f"{self._prefix}{super().get_short_id(monitoring_info)}"

    def get_infos(self, short_ids: Iterable[str]) -> dict[str, Any]:
        """What ids stand for. Raises: KeyError for one that was not given here."""
        infos = super().get_infos(one.removeprefix(self._prefix) for one in short_ids)
        return {f"{self._prefix}{one}": info for one, info in infos.items()}


@dataclass
class Server:
    """Forks workers and tells when they end, until its launcher is done or has ended.

    Orders and answers are lines of JSON: {"start": key, "work": arguments of `work`, "environment":
    variables} and {"kill": key}; {"key": key, "process": id} and {"key": key, "code": exit code}. Workers
    write to the same pipe how far they are: {"advance": …}, what `transforms.progress.advance` is told.

    Attributes:
        launcher: the process that gives the orders.
        answers: the file descriptor that answers go to.
        workers: process -> key of those that have not ended.
    """

    launcher: int
    answers: int
    workers: dict[int, int] = field(default_factory=dict)

    def serve(self) -> None:
        """Does what it is told."""
        woken, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the launcher decides what an interrupt ends
        begun = b""
        while os.getppid() == self.launcher:
            ready, _, _ = select.select([ORDERS, woken], [], [], PARENT_SECONDS)
            if woken in ready:
                os.read(woken, 4096)
                self._bury()
            if ORDERS in ready:
                read = os.read(ORDERS, 65536)
                if not read:
                    break
                *orders, begun = (begun + read).split(b"\n")
                for order in orders:
                    self._do(json.loads(order))
        for process in self.workers:
            os.kill(process, signal.SIGKILL)

    def _bury(self) -> None:
        while self.workers:
            process, status = os.waitpid(-1, os.WNOHANG)
            if process == 0:
                return
            self._tell(key=self.workers.pop(process), code=os.waitstatus_to_exitcode(status))

    def _do(self, order: dict[str, Any]) -> None:
        if "kill" in order:
            for process in [one for one, key in self.workers.items() if key == order["kill"]]:
                os.kill(process, signal.SIGKILL)
            return
        process = os.fork()
        if process == 0:
            _become_worker(order, self.answers)
        self.workers[process] = order["start"]
        self._tell(key=order["start"], process=process)

    def _tell(self, **answer: int) -> None:
        _write_line(self.answers, answer)


def _write_line(pipe: int, content: object) -> None:
    """Lines are short, and so are written whole, whoever else writes."""
    os.write(pipe, json.dumps(content).encode() + b"\n")


def _become_worker(order: dict[str, Any], answers: int) -> NoReturn:
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.dup2(os.open(os.devnull, os.O_RDONLY), ORDERS)
        os.environ.update(order["environment"])
        with listening(lambda step: _write_line(answers, {"advance": vars(step)})):
            work(**order["work"])
        code = 0
    except BaseException:  # noqa: BLE001  (said, and nothing of the server goes on here)
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)


def main(launcher: str) -> None:
    """Serves the launcher; what workers print goes to where errors go."""
    # Python warns of forks beside threads; the only ones are numpy's, which it ends and starts itself.
    warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)
    answers = os.dup(1)
    os.dup2(ERRORS, 1)
    Server(int(launcher), answers).serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
