"""Decode threads that survive an image that never ends decoding.

A thread can't be killed. So a job that runs over its time is given up: its row becomes a
`timeout`, its thread is written off and replaced, and it ends whenever Pillow lets go of it.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from transforms.decode import DecodedSample, failed
from transforms.pool import RawSample

MAX_WAITING_BYTES = 128 * 2**20
GATHER_SECONDS = 0.1  # that samples are waited for together, before each by itself


@dataclass(eq=False)
class DecodeJob:
    """One sample on its way through the decode threads."""

    raw: RawSample
    work: Callable[[RawSample], DecodedSample]
    started: float | None = None
    given_up: bool = False  # it or `done` is set, under the pool's lock: never both
    done: threading.Event = field(default_factory=threading.Event)
    result: DecodedSample | None = None
    error: BaseException | None = None


class DecodePool:
    """A fixed number of decode threads, with a bound on what waits for them.

    Submitting blocks while too many samples, or too many bytes, are on their way: so memory does
    not grow with the shard, and reading runs ahead of the model by that much and no more.

    Threads wake for many samples, not for each: between two cores that costs as much as reading does.
    """

    def __init__(self, threads: int, *, ahead: int, timeout_seconds: float) -> None:
        self._timeout = timeout_seconds
        self._jobs: queue.SimpleQueue[DecodeJob | None] = queue.SimpleQueue()
        self._room = threading.Condition()
        self._ahead = ahead
        self._refill = ahead * 3 // 4  # once full, submitting goes on when so few samples are on their way
        self._samples = 0
        self._bytes = 0
        self._closed = False
        self._threads = threads
        for _ in range(threads):
            self._spawn()

    def submit(self, raw: RawSample, work: Callable[[RawSample], DecodedSample]) -> DecodeJob | None:
        """The job, or None where the pool was closed while waiting for room."""
        job = DecodeJob(raw, work)
        size = len(raw.image or b"")
        with self._room:
            if not self._fits(size, self._ahead - 1):
                self._room.wait_for(lambda: self._closed or self._fits(size, self._refill))
            if self._closed:
                return None
            self._samples += 1
            self._bytes += size
        self._jobs.put(job)
        return job

    def results(self, jobs: Sequence[DecodeJob]) -> Iterator[DecodedSample]:
        """The decoded samples, in the order of the jobs, each as `result` gives it."""
        jobs[-1].done.wait(GATHER_SECONDS)
        for job in jobs:
            yield self.result(job)

    def result(self, job: DecodeJob) -> DecodedSample:
        """The decoded sample; waits for it, but not longer than the time-out after its start."""
        while not job.done.wait(self._patience(job)):
            if self._overdue(job) and self._give_up(job):
                break
        with self._room:
            self._samples -= 1
            self._tell_room()
        if job.error is not None:
            raise job.error
        if job.result is None:
            sample = failed(job.raw, "timeout", f"decoding took longer than {self._timeout:g} s")
            _let_go(job.raw)
            return sample
        return job.result

    def close(self) -> None:
        """Ends the threads, each after the sample it is at, and wakes whoever waits for room."""
        with self._room:
            self._closed = True
            self._room.notify_all()
        for _ in range(self._threads):
            self._jobs.put(None)

    def _fits(self, size: int, most: int) -> bool:
        """Whether another sample may come where at most so many are on their way; the only one always may."""
        room = self._samples <= most and self._bytes + size <= MAX_WAITING_BYTES
        return room or self._samples == 0

    def _tell_room(self) -> None:
        if self._samples <= self._refill:
            self._room.notify_all()

    @property
    def on_their_way(self) -> int:
        """How many samples were submitted and not taken yet."""
        return self._samples

    def _patience(self, job: DecodeJob) -> float:
        if job.started is None:
            return 0.05
        return max(0.0, self._timeout - (time.monotonic() - job.started))

    def _overdue(self, job: DecodeJob) -> bool:
        return job.started is not None and time.monotonic() - job.started >= self._timeout

    def _give_up(self, job: DecodeJob) -> bool:
        """Writes the job's thread off, unless it is done after all."""
        with self._room:
            if job.done.is_set():
                return False
            job.given_up = True
        self._spawn()
        return True

    def _spawn(self) -> None:
        threading.Thread(target=self._work, name="decode", daemon=True).start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None and not self._closed:
            job.started = time.monotonic()
            size = len(job.raw.image or b"")
            result = error = None
            try:
                result = job.work(job.raw)
            except BaseException as raised:  # noqa: BLE001  (handed to the thread that waits)
                error = raised
            with self._room:
                self._bytes -= size
                self._tell_room()
                if job.given_up:
                    return
                job.result, job.error = result, error
                _let_go(job.raw)
                job.done.set()


def _let_go(raw: RawSample) -> None:
    """Frees the sample's bytes, so that those of few samples are alive at once."""
    raw.image = raw.caption = raw.metadata = None
