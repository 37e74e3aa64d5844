"""A continuous run as one unbounded pipeline, and the process that launched it.

The launcher holds the store's lock, looks at what is committed, tells it, and ends the pipeline.
Nothing that it knows is needed to go on.
"""

# Beam's transforms have no annotations:
# mypy: allow-untyped-calls

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import apache_beam as beam
from apache_beam.options.pipeline_options import StandardOptions
from apache_beam.runners.runner import PipelineState

from curate.engine import STREAM, Engine
from curate.follow.arrivals import Arrivals, Waiting
from curate.follow.in_place import begin_stream, commit_lock, workers_are_busy
from curate.follow.ledger import Committed, Ledger, committed_batches
from curate.follow.loop import Follower
from curate.follow.standstill import Standstill
from curate.follow.stream_steps import StreamConfig
from curate.follow.unbounded import FollowPool, Tick
from filters.core.errors import RunnerError, StoreLocked, WorkerLost
from transforms.attempts import MOST_IN_A_ROW
from transforms.removal import finish_removals

logger = logging.getLogger("curate.follow")


@dataclass
class StreamFollower(Follower):
    """Launches the pipeline and watches it."""

    engines: ClassVar[tuple[str, ...]] = ("prism", "portable", "flink", "dataflow")
    refusal: ClassVar[str] = (
        "--streaming needs an engine that runs pipelines without an end: use --runner prism, flink, "
        "dataflow or portable"
    )

    def _go_on(self, engine: Engine, arrivals: Arrivals) -> list[Waiting]:
        """Follows until there is an end; returns what waits then."""
        with self.store.lock():
            finish_removals(self.store)
            waiting = self._look(arrivals)
            while not self._make_plan(waiting):
                if self.options.until_idle or self.stop.wait(self.options.every):
                    return waiting
                waiting = self._look(arrivals)
            return self._stream(engine, arrivals)

    def _stream(self, engine: Engine, arrivals: Arrivals) -> list[Waiting]:
        """Streams until there is an end; after a lost worker it begins anew, where the engine lives."""
        in_a_row = 0
        while True:
            first = committed_batches(self._manifest)
            try:
                return self._stream_once(engine, arrivals)
            except WorkerLost as lost:
                in_a_row = 1 if committed_batches(self._manifest) > first else in_a_row + 1
                if in_a_row == MOST_IN_A_ROW or not engine.alive():
                    raise
                logger.warning("%s", f"{lost}; the stream begins anew")

    def _stream_once(self, engine: Engine, arrivals: Arrivals) -> list[Waiting]:
        config = StreamConfig(
            self._planned(),
            tuple(_absolute(pattern) for pattern in arrivals.patterns),
            uuid.uuid4().hex,
            self.options.every,
            self.run.decode_threads,
            self.options.command,
        )
        begin_stream(config.ledger, config.stream)
        committed = Committed(config.ledger)
        self._notice(committed)
        first = committed_batches(self._manifest)
        # A shard may take two looks until it counts as complete, and a third may come late.
        still = Standstill(engine.idle_seconds + 3 * self.options.every)
        with launched(engine, config) as job:
            while True:
                check_running(job)
                self._notice(committed)
                # Each stream tries what failed before once more.
                lost = self._manifest["failed_shards"] if self._manifest else ()
                self._retried |= {one["shard"] for one in lost if one.get("batch", 0) > first}
                waiting = self._look(arrivals)
                if (self.options.until_idle and not waiting) or self.stop.wait(self.options.every):
                    break
                batches = committed_batches(self._manifest)
                still.check(len(waiting), batches, lambda: workers_are_busy(config.ledger, config.stream))
        self._await_commit(config.ledger)
        self._notice(committed)
        return self._look(arrivals)

    def _notice(self, committed: Committed) -> None:
        """Tells the batches that were committed since."""
        manifest = committed.manifest()
        before, now = committed_batches(self._manifest), committed_batches(manifest)
        if now > before:
            self._committed(manifest)
            for batch in range(before + 1, now + 1):
                self._tell(batch, "streamed")

    def _await_commit(self, ledger: Ledger) -> None:
        """Lets a batch that is being committed come to its end, where its worker still lives."""
        try:
            with commit_lock(ledger):
                pass
        except StoreLocked as locked:
            logger.warning("not waited for any longer: %s", locked)


def _absolute(pattern: str) -> str:
    """The pattern as workers can follow it, who may run in another folder."""
    return pattern if "://" in pattern else str(Path(pattern).absolute())


@contextmanager
def launched(engine: Engine, config: StreamConfig) -> Iterator[Any]:
    """The job while it runs; it is cancelled when the block ends.

    Raises: the StopRun that a step raised; WorkerLost where a worker or the engine's server ended.
    """
    options = engine.options(STREAM, models=True)
    options.view_as(StandardOptions).streaming = True
    with engine.explained():
        pipeline = beam.Pipeline(runner=engine.runner(), options=options)
        follow = FollowPool(config, max(1, engine.branches), engine.hints)
        _ = pipeline | "Tick" >> Tick(config) | "Follow" >> follow
        job = pipeline.run()
        try:
            yield job
        finally:
            with contextlib.suppress(*engine.failures()):  # where it has ended, the reason is known
                job.cancel()


def check_running(job: Any) -> None:
    """Raises what ended the job, as soon as it has ended."""
    state = job.state
    if PipelineState.is_terminal(state):
        job.wait_until_finish()
        msg = f"the stream ended by itself ({state}): start it again, it goes on from there"
        raise RunnerError(msg)
