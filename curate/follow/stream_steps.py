"""The steps of the unbounded graph, each with the state that it needs; see `curate.follow.unbounded`."""

# Beam's transforms have no annotations:
# mypy: allow-untyped-calls

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import apache_beam as beam
from apache_beam.coders import PickleCoder, VarIntCoder
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec

from curate.engine import Engine
from curate.follow.arrivals import SHARDS_AT_ONCE, Arrivals, in_order
from curate.follow.in_place import InPlaceFlow, check_stream, commit_shards
from curate.follow.ledger import Committed, Ledger, decided_shards
from curate.follow.status import SESSION
from curate.plan import Plan
from curate.run import add_up
from filters.core.errors import RunnerError
from transforms.attempts import Attempts
from transforms.beam_steps import MeasureShards
from transforms.pool import Shard

logger = logging.getLogger("curate.follow")
SILENT_SECONDS = 300.0  # a launcher signs every ten


@dataclass(frozen=True)
class StreamConfig:
    """What the steps of a stream need to know.

    Attributes:
        plan: its shards do not matter.
        patterns: those of the pool.
        stream: names this stream; only the one that began last may commit.
        every: seconds between two looks.
        command: what makes a calibration, for the message.
        window_seconds: length of the windows in which verdicts are counted.
    """

    plan: Plan
    patterns: tuple[str, ...]
    stream: str
    every: float = 1.0
    decode_threads: int = 2
    command: str = "curate calibrate"
    window_seconds: float = 60.0

    @cached_property
    def ledger(self) -> Ledger:
        """What is committed, and where."""
        return Ledger(self.plan.store.folder, self.plan.continuous_id)


@dataclass(frozen=True)
class Arrived:
    """A shard that has arrived, in its batch.

    Attributes:
        batch: counted from 0 in this stream. of: shards of the batch. at: its place among them.
    """

    batch: int
    of: int
    at: int
    shard: Shard


@dataclass(frozen=True)
class Seen:
    """What a look leaves to the next.

    Attributes:
        looked: Unix seconds of the last look.
        batches: how many batches were made.
        before: URI -> part of the shards that waited.
        taken: URIs in batches that are not decided: under way, or not to be read.
    """

    looked: float = 0.0
    batches: int = 0
    before: dict[str, str] = field(default_factory=dict)
    taken: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Counts:
    """What batches came to; numbers: those of the batches in the manifest."""

    numbers: tuple[int, ...] = ()
    shards: int = 0
    verdicts: dict[str, int] = field(default_factory=dict)


@dataclass
class Launcher:
    """The process that launched the stream, as far as a worker sees it: by its signs of life."""

    ledger: Ledger
    _sign: bytes = b""
    _since: float = field(default_factory=time.monotonic)

    def check(self, silent_seconds: float) -> None:
        """Raises RunnerError where it has been silent for so long: it no longer holds the store's lock."""
        folder, name = self.ledger.folder, self.ledger.file(SESSION)
        sign = folder.read_bytes(name) if folder.exists(name) else b""
        now = time.monotonic()  # this worker's own: clocks of machines differ
        if sign != self._sign:
            self._sign, self._since = sign, now
        elif now - self._since > silent_seconds:
            msg = (
                f"nothing was heard of the process that launched this stream for {now - self._since:.0f} s: "
                "the stream ends; start it again, it goes on from there"
            )
            raise RunnerError(msg)


class LookForBatches(beam.DoFn):
    """Looks at the pool at every tick; yields the shards of new batches, in order."""

    SEEN = beam.DoFn.StateParam(ReadModifyWriteStateSpec("seen", PickleCoder()))

    _committed: Committed
    _launcher: Launcher

    def __init__(self, config: StreamConfig) -> None:
        self._config = config

    def setup(self) -> None:
        """What this worker remembers."""
        self._committed = Committed(self._config.ledger)
        self._launcher = Launcher(self._config.ledger)

    def process(self, element: tuple[str, Any], seen: Any = SEEN) -> Iterator[Arrived]:
        """The tick's time is in Unix seconds; one from before the last look was waited for in vain."""
        known: Seen = seen.read() or Seen()
        looked = time.time()
        # A last look from the future means a clock that was set back since.
        if float(element[1]) < known.looked <= looked:
            return
        check_stream(self._config.ledger, self._config.stream)
        self._launcher.check(SILENT_SECONDS + 2 * self._config.every)
        decided = decided_shards(self._committed.manifest())
        taken = known.taken - decided
        pool = self._config.plan.recipe.file.pool
        arrivals = Arrivals(self._config.patterns, pool, known.before)
        shards = in_order(arrivals.look(decided | taken))
        batches = [shards[at : at + SHARDS_AT_ONCE] for at in range(0, len(shards), SHARDS_AT_ONCE)]
        taken |= {shard.uri for shard in shards}
        seen.write(Seen(looked, known.batches + len(batches), arrivals.before, taken))
        for number, batch in enumerate(batches, start=known.batches):
            for at, shard in enumerate(batch):
                yield Arrived(number, len(batch), at, shard)


class MeasureArrived(beam.DoFn):
    """Measures a shard as every run does; yields it by its ledger, also where it could not be read."""

    def __init__(self, config: StreamConfig) -> None:
        self._ledger = config.ledger.name
        attempts = Attempts(config.plan.measure_config(config.decode_threads), config.stream)
        self._measure = MeasureShards(attempts)

    def process(self, arrived: Arrived) -> Iterator[tuple[str, Arrived]]:
        """Yields the shard once it is measured."""
        (report,) = self._measure.process([arrived.shard])
        logger.debug("measured %s: %s rows", report.uri, report.rows)
        yield self._ledger, arrived


class CommitInOrder(beam.DoFn):
    """Decides and writes batches in the order of their numbers, each once its last shard is measured."""

    WAITING = beam.DoFn.StateParam(BagStateSpec("waiting", PickleCoder()))
    NEXT = beam.DoFn.StateParam(ReadModifyWriteStateSpec("next", VarIntCoder()))

    def __init__(self, config: StreamConfig) -> None:
        self._config = config

    def process(
        self, element: tuple[str, Arrived], waiting: Any = WAITING, following: Any = NEXT
    ) -> Iterator[tuple[str, Counts]]:
        """Yields what each batch came to; a shard that comes again changes nothing."""
        name, arrived = element
        first = number = following.read() or 0
        if arrived.batch < number:
            return
        waiting.add(arrived)
        came: dict[int, dict[int, Arrived]] = {}
        for one in waiting.read():
            came.setdefault(one.batch, {})[one.at] = one
        while number in came and len(came[number]) == next(iter(came[number].values())).of:
            yield name, self._commit([one.shard for _, one in sorted(came.pop(number).items())])
            number += 1
        if number > first:
            following.write(number)
            waiting.clear()
            for batch in came.values():
                for one in batch.values():
                    waiting.add(one)

    def _commit(self, shards: Sequence[Shard]) -> Counts:
        config = self._config
        flow = InPlaceFlow(config.plan, Engine(), _say, config.decode_threads, run=config.stream)
        manifest = commit_shards(flow, config.command, shards)
        uris = {shard.uri for shard in shards}
        parts = [part for part in (manifest or {}).get("parts", ()) if part["uri"] in uris]
        numbers = sorted({int(part["batch"]) for part in parts})
        return Counts(tuple(numbers), len(parts), add_up([part["verdicts"] for part in parts]))


def add_counts(found: Iterable[Counts]) -> Counts:
    """The sum."""
    some = list(found)
    numbers = sorted({number for one in some for number in one.numbers})
    return Counts(tuple(numbers), sum(one.shards for one in some), add_up([one.verdicts for one in some]))


class WriteWindow(beam.DoFn):
    """Leaves the counts of a window, or of what came late to it, as a file of the store."""

    WINDOW = beam.DoFn.WindowParam

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def process(self, element: tuple[str, Counts], window: Any = WINDOW) -> Iterator[str]:
        """Yields the file's name: when the window began, and the first batch in it."""
        _, counts = element
        if not counts.numbers:  # nothing but shards that can't be read
            return
        begin, end = (datetime.fromtimestamp(float(edge), UTC) for edge in (window.start, window.end))
        content = {
            "begin": begin.isoformat(),
            "end": end.isoformat(),
            "batches": list(counts.numbers),
            "shards": counts.shards,
            "verdicts": counts.verdicts,
        }
        name = self._ledger.file(f"windows/{begin:%Y%m%dT%H%M%S}-{counts.numbers[0]:08d}.json")
        self._ledger.folder.write_json(name, content)
        logger.info("window %s: %s", begin.isoformat(), counts.verdicts, extra=content)
        yield name


def _say(text: str) -> None:
    logger.debug("%s", text)
