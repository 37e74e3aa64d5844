"""Calls a function in a fresh Python process, so that imports, threads and memory peaks do not mix."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Answer:
    """What the function returned, and the process's highest resident memory."""

    value: Any
    peak_bytes: int


def call_fresh(
    function: Callable[..., Any], *, torch_threads: int | None = None, **arguments: object
) -> Answer:
    """What a module-level function returns in a process of its own.

    Arguments and result are JSON values. torch_threads: set in the environment, because a number
    set in a running process does not reach the threads that exist already.
    Raises: CalledProcessError where the function failed; it has said why on stderr.
    """
    environment = dict(os.environ)
    if torch_threads is not None:
        environment |= {name: str(torch_threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    with tempfile.TemporaryDirectory(prefix="curate-bench-") as folder:
        output = Path(folder) / "answer.json"
        call = [function.__module__, function.__name__, json.dumps(arguments), str(output)]
        subprocess.run(
            [sys.executable, "-m", "benchmarks.fresh", *call], cwd=ROOT, env=environment, check=True
        )
        found = json.loads(output.read_text(encoding="utf-8"))
    return Answer(found["value"], found["peak_bytes"])


def peak_bytes() -> int:
    """This process's highest resident memory so far.

    Not `getrusage`: its figure begins with that of the process that started this one.
    """
    return _status("VmHWM")


def resident_bytes() -> int:
    """This process's resident memory now."""
    return _status("VmRSS")


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    msg = f"/proc/self/status has no {name}: these benchmarks need Linux"
    raise OSError(msg)


def _main(module: str, function: str, arguments: str, output: str) -> None:
    value = getattr(importlib.import_module(module), function)(**json.loads(arguments))
    content = {"value": value, "peak_bytes": peak_bytes()}
    Path(output).write_text(json.dumps(content), encoding="utf-8")


if __name__ == "__main__":
    _main(*sys.argv[1:])
