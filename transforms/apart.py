"""Measures shards in a process of its own: `python -m transforms.apart PARENT` answers on its pipes.

For shards that may kill whoever decodes them. Its requests are pickled shards, its answers reports.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Self

from filters.core.errors import WorkerLost
from transforms.measuring import MeasureConfig, ShardReport, measure_shards
from transforms.pool import Shard

PARENT_SECONDS = 0.5  # between looks at whether the parent still lives


@dataclass
class Apart:
    """The other process, which starts at its first shard and anew after its death; used as a context."""

    config: MeasureConfig
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def measure(self, shard: Shard) -> ShardReport | None:
        """The report on the shard; None where measuring it raised something.

        Raises: WorkerLost where it ended the process.
        """
        process = self._process = self._process or self._start()
        if process.stdin is None or process.stdout is None:
            raise TypeError(process)
        try:
            pickle.dump(shard, process.stdin)
            process.stdin.flush()
            report: ShardReport | None = pickle.load(process.stdout)  # noqa: S301  (our own process)
        except (OSError, EOFError, pickle.UnpicklingError) as cause:
            self._end()
            msg = f"the process that measured {shard.uri} by itself ended"
            raise WorkerLost(msg) from cause
        return report

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(  # noqa: S603  (this program itself)
            [sys.executable, "-m", __name__, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        if process.stdin is not None:
            with contextlib.suppress(OSError):  # it has ended, as its answer will say
                pickle.dump(self.config, process.stdin)
        return process

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def end_with(parent: int) -> None:
    """From now on this process ends at once when its parent does: another run may hold the store then."""
    threading.Thread(target=_watch, args=(parent,), name="parent", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_SECONDS)
    os._exit(1)


def main(parent: str) -> None:
    """Answers until nothing more is asked; what is printed meanwhile goes to where errors go."""
    end_with(int(parent))
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    config: MeasureConfig = pickle.load(requests)  # noqa: S301  (our parent's)
    while True:
        try:
            shard: Shard = pickle.load(requests)  # noqa: S301  (our parent's)
        except EOFError:
            return
        try:
            (report,) = measure_shards([shard], config)
        except Exception:  # noqa: BLE001  (the parent meets it again, where it is told)
            report = None
        pickle.dump(report, answers)
        answers.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
