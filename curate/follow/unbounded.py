"""The unbounded graph of a continuous run: what the loop does, as one pipeline that never ends.

    ticks -> look at the pool -> measure each shard -> commit batches in order -> count by window
             one key, state:     on every worker,     one key, state: what    files below
             what was seen       in no order          came before its turn    follow/<ledger>/windows/

A look makes batches as the loop does, and numbers them; batches are committed in that order whatever
order their shards were measured in, so the ledger is the loop's. State only bridges the time to a
commit: what is decided the store knows, and what was kept lies there by cluster (`transforms.memory`).
So a new stream goes on where the last one ended, on another engine too.
"""

# Beam's transforms have no annotations:
# mypy: allow-untyped-calls

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import apache_beam as beam
from apache_beam.transforms.periodicsequence import PeriodicImpulse, RebaseMode
from apache_beam.transforms.trigger import AccumulationMode, AfterCount, AfterWatermark
from apache_beam.transforms.window import FixedWindows
from apache_beam.utils.timestamp import Duration

from curate.follow.stream_steps import (
    Arrived,
    CommitInOrder,
    Counts,
    LookForBatches,
    MeasureArrived,
    StreamConfig,
    WriteWindow,
    add_counts,
)

NO_HINTS: Mapping[str, str] = MappingProxyType({})
LATENESS_SECONDS = 86_400  # counts of what comes later than that behind the watermark are not windowed


class Tick(beam.PTransform[Any, Any]):
    """A tick by ledger, so many seconds after the one before; it begins with the job."""

    def __init__(self, config: StreamConfig) -> None:
        super().__init__()
        self._config = config

    def expand(self, pipeline: beam.Pipeline) -> Any:
        """The ticks' times, in Unix seconds."""
        name = self._config.ledger.name
        return (
            pipeline
            | "Every" >> PeriodicImpulse(fire_interval=self._config.every, rebase=RebaseMode.REBASE_START)
            | "Key" >> beam.Map(_keyed, name).with_output_types(tuple[str, float])
        )


class FollowPool(beam.PTransform[Any, Any]):
    """From ticks to windows.

    branches: how many workers measure, each in an environment of its own. hints: what measuring asks for.
    """

    def __init__(self, config: StreamConfig, branches: int = 1, hints: Mapping[str, str] = NO_HINTS) -> None:
        super().__init__()
        self._config, self._measure = config, MeasureInBranches(config, branches, hints)

    def expand(self, ticks: Any) -> Any:
        """The names of the windows' files."""
        arrived = ticks | "Look" >> beam.ParDo(LookForBatches(self._config))
        measured = arrived | "Measure" >> self._measure
        return measured | "Commit" >> CommitAndCount(self._config)


class MeasureInBranches(beam.PTransform[Any, Any]):
    """Measures shards on so many workers."""

    def __init__(self, config: StreamConfig, branches: int, hints: Mapping[str, str]) -> None:
        super().__init__()
        self._config, self._branches, self._hints = config, branches, hints

    def expand(self, arrived: Any) -> Any:
        """The shards by ledger, in no order."""
        found = []
        for number in range(self._branches):
            shards = arrived | f"Deal{number}" >> beam.Filter(_in_turn, number, self._branches)
            one: beam.PTransform[Any, Any] = MeasureOneByOne(self._config)
            apart = {"curate_branch": str(number)} if number else {}  # the first stays with the rest
            found.append(shards | f"Branch{number}" >> one.with_resource_hints(**self._hints, **apart))
        return found | "Join" >> beam.Flatten()


class MeasureOneByOne(beam.PTransform[Any, Any]):
    """Measures shards after a shuffle, without which looking would wait for measuring."""

    def __init__(self, config: StreamConfig) -> None:
        super().__init__()
        self._config = config

    def expand(self, shards: Any) -> Any:
        """The shards by ledger."""
        return (
            shards
            | "Spread" >> beam.Reshuffle()
            | "Run" >> beam.ParDo(MeasureArrived(self._config)).with_output_types(tuple[str, Arrived])
        )


class CommitAndCount(beam.PTransform[Any, Any]):
    """Commits measured shards and counts verdicts in windows of the ticks' time."""

    def __init__(self, config: StreamConfig) -> None:
        super().__init__()
        self._config = config

    def expand(self, measured: Any) -> Any:
        """The names of the windows' files."""
        return (
            measured
            | "InOrder" >> beam.ParDo(CommitInOrder(self._config)).with_output_types(tuple[str, Counts])
            | "Window"
            >> beam.WindowInto(
                FixedWindows(self._config.window_seconds),
                trigger=AfterWatermark(late=AfterCount(1)),
                accumulation_mode=AccumulationMode.DISCARDING,
                allowed_lateness=Duration(LATENESS_SECONDS),
            )
            | "Count" >> beam.CombinePerKey(add_counts)
            | "Write" >> beam.ParDo(WriteWindow(self._config.ledger))
        )


def _keyed(tick: Any, name: str) -> tuple[str, float]:
    return name, float(tick)


def _in_turn(arrived: Arrived, branch: int, branches: int) -> bool:
    """Whether the shard is this branch's: they take one after another."""
    return (arrived.batch + arrived.at) % branches == branch
