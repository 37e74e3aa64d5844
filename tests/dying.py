"""Work that is killed: in forks of a process that has imported everything, so that each starts at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Self

import transforms.storage

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Ended:
    """How one piece of work ended.

    Attributes:
        killed: by SIGKILL; otherwise it came to its end.
        commits: the paths that it committed, each twice: before the file has its name, and after.
        result: what it returned.
    """

    killed: bool
    seconds: float
    commits: list[str] = field(default_factory=list)
    result: Any = None


class Forks:
    """A process that does this work as often as it is asked to, each time in a fork of itself.

    work: a function of a module, of JSON arguments and with a JSON result.
    """

    def __init__(self, work: Callable[..., Any], folder: Path) -> None:
        self._report, self._said = folder / "report.json", folder / "stderr.txt"
        self._errors = self._said.open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.dying", f"{work.__module__}:{work.__name__}", str(self._report)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(timeout=60)
        self._errors.close()

    def __call__(self, *given: Any, die_at: int | None = None, kill_after: float | None = None) -> Ended:
        """Does it; killed at its n-th moment of a commit, or after so many seconds."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._report.unlink(missing_ok=True)
        order = {"given": [str(one) if isinstance(one, Path) else one for one in given]}
        self._process.stdin.write(json.dumps({**order, "die_at": die_at, "kill_after": kill_after}) + "\n")
        self._process.stdin.flush()
        said = self._process.stdout.readline()
        assert said, self._said.read_text()
        status, seconds = json.loads(said)
        if status == signal.SIGKILL:
            return Ended(killed=True, seconds=seconds)
        assert status == 0, self._said.read_text()
        return Ended(killed=False, seconds=seconds, **json.loads(self._report.read_text()))


def main(name: str, report: Path) -> None:
    """Does what standard input asks for, line by line."""
    module, _, function = name.partition(":")
    work = getattr(import_module(module), function)
    for line in sys.stdin:
        order, started = json.loads(line), time.monotonic()
        if (child := os.fork()) == 0:
            _do(work, order, report)
        if order["kill_after"] is not None:
            time.sleep(order["kill_after"])
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        print(json.dumps([status, time.monotonic() - started]), flush=True)  # noqa: T201  (the answer)


def _do(work: Callable[..., Any], order: dict[str, Any], report: Path) -> None:
    commits: list[str] = []
    commit = transforms.storage._commit_local

    def moment(path: Any) -> None:
        commits.append(str(path))
        if len(commits) - 1 == order["die_at"]:
            os.kill(os.getpid(), signal.SIGKILL)

    def watched(final: Any) -> Iterator[Any]:
        held = commit(final)
        yield next(held)
        moment(final)
        yield from held
        moment(final)

    transforms.storage._commit_local = watched
    failed = True
    try:
        result = work(*order["given"])
        report.write_text(json.dumps({"commits": commits, "result": result}))
        failed = False
    except BaseException:  # noqa: BLE001  (said and counted, and nothing of the fork goes on)
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(failed)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
