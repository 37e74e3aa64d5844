"""A batch taken to its commit where a worker stands: the loop's batch, its stages without an engine."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from curate.follow.batch import run_batch
from curate.follow.continuing import require_calibration
from curate.follow.ledger import Ledger, decided_shards
from curate.pipeline import Flow
from filters.core.errors import StoreLocked
from transforms.attempts import left_by
from transforms.deciding import DecideConfig, DecidePart, PartCounts, decide_part
from transforms.measuring import ShardReport
from transforms.pool import Shard
from transforms.relating import Relation, Task
from transforms.storage import Folder, redact
from transforms.store import Store
from transforms.writing import OutputShard, WriteConfig, write_shard

logger = logging.getLogger("curate.follow")
STREAM = "stream.json"  # of a continuous run: which stream may commit
AGAIN_SECONDS = 0.2  # between attempts to get the commit lock
PATIENCE_SECONDS = 120.0  # a batch of another stream takes as long at most, or it hangs


@dataclass(frozen=True)
class InPlaceFlow(Flow):
    """The stages as plain calls, one element after another: a worker can't run a pipeline of its own.

    `run` is the stream whose batch it is.
    """

    def _measure_lanes(self, lanes: Sequence[Iterable[Shard]]) -> list[ShardReport]:
        return [report for lane in lanes for report in self.attempts.measure(lane)]

    def _compare(self, relation: Relation, stage: str, tasks: Sequence[Task]) -> None:
        for task in tasks:
            relation.perform(stage, task)

    def decide(self, config: DecideConfig, parts: Sequence[DecidePart]) -> list[PartCounts]:
        """Writes the ledger; returns each part's counts, in pool order."""
        return sorted((decide_part(config, part) for part in parts), key=lambda counts: counts.number)

    def write(self, config: WriteConfig, outputs: Sequence[OutputShard]) -> None:
        """Writes the curated shards."""
        for output in outputs:
            write_shard(config, output)


def commit_shards(flow: InPlaceFlow, command: str, shards: Sequence[Shard]) -> dict[str, Any] | None:
    """Takes shards through one batch, unless they are decided; returns what is committed then.

    A batch that was begun before goes first. Done again after its commit it changes nothing.
    command: what makes a calibration, for the message.
    Raises: StoreLocked where another stream has begun since; whatever a batch raises.
    """
    ledger = Ledger(flow.plan.store.folder, flow.plan.continuous_id)
    with commit_lock(ledger):
        while True:
            check_stream(ledger, flow.run)
            manifest, begun = ledger.manifest(), ledger.begun()
            decided = decided_shards(manifest)
            left = [shard for shard in shards if shard.uri not in decided]
            if not left and begun is None:
                return manifest
            manifest = run_batch(flow, require_calibration(flow.plan, command), left)
            if begun is None:
                return manifest  # what is not decided now could not be read: it is recorded


@contextmanager
def commit_lock(ledger: Ledger) -> Iterator[None]:
    """Held for one commit: workers of a stream whose launcher was killed may still be at one.

    The store's own lock is held by the launcher, all the while.
    Raises: StoreLocked where it can't be had for two minutes.
    """
    commits, ends = _commits(ledger), time.monotonic() + PATIENCE_SECONDS
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(commits.lock(tidy=False))
                break
            except StoreLocked:
                if time.monotonic() > ends:
                    raise
                time.sleep(AGAIN_SECONDS)
        yield


def workers_are_busy(ledger: Ledger, stream: str) -> bool:
    """Whether a worker of this stream measures a shard or commits just now."""
    if left_by(stream, ledger.folder):
        return True
    try:
        with _commits(ledger).lock(tidy=False):
            return False
    except StoreLocked:
        return True


def _commits(ledger: Ledger) -> Store:
    """What is locked for a commit."""
    return Store(Folder(f"{ledger.folder.url}/follow/{ledger.name}", ledger.folder.options))


def begin_stream(ledger: Ledger, stream: str) -> None:
    """From now on only this stream commits."""
    with commit_lock(ledger):
        ledger.folder.write_json(ledger.file(STREAM), {"stream": stream})


def check_stream(ledger: Ledger, stream: str) -> None:
    """Raises StoreLocked where another stream has begun since this one."""
    if ledger.folder.read_json(ledger.file(STREAM))["stream"] != stream:
        where = redact(ledger.folder.url)
        msg = f"another stream has begun on {ledger.name} in {where}: this one ends, that one goes on"
        raise StoreLocked(msg)
