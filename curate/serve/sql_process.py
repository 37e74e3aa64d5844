"""SQL in a process of its own: one question can neither stop the service nor eat its memory.

DuckDB can be interrupted between steps, and counts most of its memory, but not all: one call of
`repeat` may take gigabytes and many seconds. A process that does not answer in time, or takes more
memory than it may, is ended and replaced.

Run as `python -m curate.serve.sql_process`, it reads a line of JSON for each question and answers
with a line of JSON, followed by as many bytes of Arrow stream as that says.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from curate.console import Answer, Bounds, Console
from curate.query import open_decision
from curate.serve.errors import BusyError
from filters.core.errors import QueryError, StopRun
from transforms.store import Store

GRACE_SECONDS = 2.0  # for DuckDB to notice its interruption
START_SECONDS = 30.0
WAIT_SECONDS = 10.0  # for other people's questions
_LOOK_SECONDS = 0.05
_ENDED = "the process ended"
_USUAL = Bounds()


@dataclass(frozen=True)
class Place:
    """Which store the questions are about."""

    url: str
    options: Mapping[str, Any]


class SqlProcess:
    """Asks questions of a process that is started when first needed; one question at a time."""

    def __init__(self, place: Place, bounds: Bounds = _USUAL) -> None:
        self._place = place
        self._bounds = bounds
        self._process: subprocess.Popen[bytes] | None = None
        self._answers = False  # whether the process has started so far that it gave an answer
        self._turn = threading.Lock()

    def prepare(self) -> None:
        """Starts the process where there is none, without waiting for it: a question will follow."""
        if self._turn.acquire(blocking=False):
            try:
                if self._ended():
                    self._started()
            finally:
                self._turn.release()

    def ask(self, ledger: str, sql: str, rows: int | None = None) -> Answer:
        """The answer to one SELECT over the views of a decision.

        Raises: QueryError as `Console.ask` does, and where the process had to be ended; BusyError
        where others have asked for too long.
        """
        if not self._turn.acquire(timeout=WAIT_SECONDS):
            msg = "other questions are still running: try again in a moment"
            raise BusyError(msg)
        try:
            return self._answer({"ledger": ledger, "sql": sql, "rows": rows})
        finally:
            self._turn.release()

    def close(self) -> None:
        """Ends the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()
            process.wait()

    def _answer(self, question: Mapping[str, Any]) -> Answer:
        started = time.perf_counter()
        process = self._started() if self._ended() else self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise TypeError(process)
        patience = self._bounds.seconds + GRACE_SECONDS + (0 if self._answers else START_SECONDS)
        try:
            process.stdin.write(json.dumps(question).encode() + b"\n")
            process.stdin.flush()
            self._wait(process.stdout, process.pid, patience)
            header = json.loads(_line(process.stdout))
            body = _exactly(process.stdout, header.get("bytes", 0))
            self._answers = True
        except TimeoutError as cause:
            self.close()
            msg = f"stopped after {self._bounds.seconds:g} s: ask for less, or aggregate first"
            raise QueryError(msg) from cause
        except MemoryError as cause:
            self.close()
            msg = f"the question needs more than {self._bounds.memory_mib} MiB: ask for less, or aggregate"
            raise QueryError(msg) from cause
        except (OSError, ValueError) as cause:
            self.close()
            msg = f"the question broke its process ({cause}): ask for less, or aggregate"
            raise QueryError(msg) from cause
        if "error" in header:
            raise QueryError(header["error"])
        table = pa.ipc.open_stream(body).read_all()
        return Answer(table, header["truncated"], time.perf_counter() - started)

    def _wait(self, stream: IO[bytes], pid: int, seconds: float) -> None:
        """Returns when the answer begins.

        Raises: TimeoutError, or MemoryError where the process grew beyond what it may take.
        """
        most = (2 * self._bounds.memory_mib << 20) + _resident(pid)
        deadline = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            while not selector.select(_LOOK_SECONDS):
                if time.monotonic() > deadline:
                    raise TimeoutError(seconds)
                if _resident(pid) > most:
                    raise MemoryError(most)

    def _ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def _started(self) -> subprocess.Popen[bytes]:
        self.close()
        self._answers = False
        command = [sys.executable, "-m", "curate.serve.sql_process"]
        self._process = subprocess.Popen(  # noqa: S603  (our own module, no arguments)
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        if self._process.stdin is not None:
            about = {"place": asdict(self._place), "bounds": asdict(self._bounds)}
            self._process.stdin.write(json.dumps(about).encode() + b"\n")
        return self._process


def _resident(pid: int) -> int:
    """The memory of a process in bytes; 0 where it has ended."""
    try:
        with Path(f"/proc/{pid}/statm").open(encoding="ascii") as stream:
            return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def _line(stream: IO[bytes]) -> bytes:
    """The next line; the stream is not buffered, so what follows it stays there."""
    found = bytearray()
    while not found.endswith(b"\n"):
        byte = stream.read(1)
        if not byte:
            raise ValueError(_ENDED)
        found += byte
    return bytes(found)


def _exactly(stream: IO[bytes], count: int) -> bytes:
    found = bytearray()
    while len(found) < count:
        some = stream.read(min(count - len(found), 1 << 20))
        if not some:
            raise ValueError(_ENDED)
        found += some
    return bytes(found)


# --- in the process


def main() -> None:
    """Answers questions until there are no more."""
    about = json.loads(sys.stdin.buffer.readline())
    store = Store.at(about["place"]["url"], about["place"]["options"])
    bounds = Bounds(**about["bounds"])
    for line in sys.stdin.buffer:
        question = json.loads(line)
        header, body = _reply(store, bounds, question)
        sys.stdout.buffer.write(json.dumps(header).encode() + b"\n" + body)
        sys.stdout.buffer.flush()


def _reply(store: Store, bounds: Bounds, question: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
    try:
        decision = open_decision(store, question["ledger"])
        answer = Console(decision, bounds).ask(question["sql"], question["rows"])
    except StopRun as error:
        return {"error": str(error)}, b""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, answer.table.schema) as writer:
        writer.write_table(answer.table)
    body = sink.getvalue().to_pybytes()
    return {"truncated": answer.truncated, "bytes": len(body)}, body


if __name__ == "__main__":
    main()
