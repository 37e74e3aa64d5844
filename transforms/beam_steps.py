"""The Beam layer: thin steps around functions that need no engine.

Elements are descriptors and small counts; bytes, embeddings and columns stay in files. Results
of a pipeline are files of the store too, so that every engine can hand them back.
"""

# Beam's transforms have no annotations:
# mypy: allow-untyped-calls

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from zlib import crc32

import apache_beam as beam
import pyarrow as pa
from apache_beam.coders import Coder
from apache_beam.coders.typecoders import registry as coders
from apache_beam.metrics.metric import Metrics

from filters.core.decide import VERDICTS, Step
from filters.core.declaration import Accumulator, FittedFilter
from transforms import deciding
from transforms.attempts import Attempts
from transforms.deciding import DecideConfig, DecidePart, PartCounts
from transforms.measuring import ShardReport
from transforms.pool import Shard
from transforms.progress import advance
from transforms.relating import Relation, Task
from transforms.store import Store
from transforms.tasks import TaskReader
from transforms.writing import OutputShard, WriteConfig, write_shard

REPORTS_IN_A_FILE = 10_000


class ArrowTableCoder(Coder):
    """Arrow IPC; without it Beam pickles tables, and a pickled slice holds its whole buffer."""

    def encode(self, table: pa.Table) -> bytes:
        """The table as an IPC stream."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        return bytes(sink.getvalue())

    def decode(self, encoded: bytes) -> pa.Table:
        """The table of an IPC stream."""
        with pa.ipc.open_stream(encoded) as reader:
            return reader.read_all()

    def estimate_size(self, table: pa.Table) -> int:
        """Bytes in memory; without it Beam encodes samples to find out."""
        return int(table.nbytes)

    def is_deterministic(self) -> bool:
        """Equal tables are equal bytes."""
        return True

    def to_type_hint(self) -> type[pa.Table]:
        """The type that this coder is for."""
        return pa.Table  # type: ignore[no-any-return]


coders.register_coder(pa.Table, ArrowTableCoder)


class MeasureShards(beam.DoFn):
    """Measures a lane of shards, one pass over each, into the store."""

    def __init__(self, attempts: Attempts) -> None:
        self._attempts = attempts
        # Any: Beam's counters have no types.
        self._rows: Any = Metrics.counter("curate", "rows_measured")
        self._failed: Any = Metrics.counter("curate", "rows_failed")
        self._shards: Any = Metrics.counter("curate", "shards_measured")

    def process(self, lane: Iterable[Shard]) -> Iterator[ShardReport]:
        """Yields a report for each shard as it is committed."""
        for report in self._attempts.measure(lane):
            self._rows.inc(report.rows)
            self._failed.inc(report.failed_rows)
            self._shards.inc()
            advance("measure", 1)
            yield report


class ReadTasks(beam.DoFn):
    """Tasks that lie in files of the store."""

    def __init__(self, reader: TaskReader) -> None:
        self._reader = reader

    def process(self, name: str) -> Iterator[Any]:
        """Yields the tasks of one file."""
        yield from self._reader.read(name)


class WriteReports(beam.PTransform[Any, Any]):
    """Commits what is said of shards and parts as JSON files in a folder of the store.

    expected: about how many results there will be. They are spread over files by the name of their part.
    """

    def __init__(self, store: Store, name: str, expected: int) -> None:
        super().__init__()
        self._store, self._name = store, name
        self._files = -(-max(1, expected) // REPORTS_IN_A_FILE)

    def expand(self, reports: Any) -> Any:
        """The names of the files."""
        return (
            reports
            | "Number" >> beam.Map(lambda report: (crc32(report.part.encode()) % self._files, vars(report)))
            | "Gather" >> beam.GroupByKey()
            | "Save" >> beam.MapTuple(self._save)
        )

    def _save(self, number: int, reports: Iterable[dict[str, Any]]) -> str:
        """The file's order does not depend on that of the results."""
        name = f"{self._name}/{number:06d}.json"
        self._store.folder.write_json(name, sorted(reports, key=repr))
        return name


def read_reports(store: Store, name: str) -> Iterator[dict[str, Any]]:
    """What `WriteReports` wrote, in no order."""
    for file in store.folder.names(name):
        yield from store.folder.read_json(f"{name}/{file}")


class AccumulatePart(beam.DoFn):
    """What one part contributes to one pass of a fitted filter."""

    def __init__(self, config: DecideConfig, before: Sequence[Step], step: Step) -> None:
        self._config, self._before, self._step = config, tuple(before), step

    def process(self, part: DecidePart) -> Iterator[Accumulator]:
        """Yields the part's accumulator."""
        yield deciding.accumulate_part(self._config, part, self._before, self._step)
        advance(f"fit {self._step.name}", 1)


class AddAccumulators(beam.CombineFn):
    """Adds up integer accumulators; the order does not matter."""

    def __init__(self, rule: FittedFilter) -> None:
        self._rule = rule

    def create_accumulator(self) -> Accumulator | None:
        """Nothing yet."""
        return None

    def add_input(self, total: Accumulator | None, one: Accumulator) -> Accumulator:
        """The total with one more."""
        return one if total is None else self._rule.merge(total, one)

    def merge_accumulators(self, totals: Iterable[Accumulator | None]) -> Accumulator | None:
        """The sum of totals."""
        result: Accumulator | None = None
        for total in totals:
            if total is not None:
                result = self.add_input(result, total)
        return result

    def extract_output(self, total: Accumulator | None) -> Accumulator | None:
        """The total as it is."""
        return total


class AdvanceFit(beam.DoFn):
    """Refines the artefact with what a pass has counted and commits it."""

    def __init__(self, store: Store, step: Step, name: str) -> None:
        self._store, self._step, self._name = store, step, name

    def process(self, total: Accumulator | None) -> Iterator[str]:
        """Yields the artefact's file name."""
        rule = self._step.rule
        if not isinstance(rule, FittedFilter) or self._step.artefact is None:
            msg = f"{self._step.name} is not being fitted"
            raise TypeError(msg)
        self._store.folder.write_json(self._name, rule.advance(self._step.artefact, total))
        yield self._name


class RunTask(beam.DoFn):
    """Does one task of a stage of a comparison."""

    def __init__(self, relation: Relation, stage: str) -> None:
        self._relation, self._stage = relation, stage

    def process(self, task: Task) -> Iterator[int]:
        """Yields the task's number; what it made lies in the store."""
        self._relation.perform(self._stage, task)
        advance(f"{self._relation.scope.name}: {self._stage}", 1)
        yield task.number


class DecideParts(beam.DoFn):
    """Writes one part of the ledger."""

    def __init__(self, config: DecideConfig) -> None:
        self._config = config
        self._verdicts: dict[str, Any] = {
            verdict: Metrics.counter("curate", f"rows_{verdict}") for verdict in VERDICTS
        }

    def process(self, part: DecidePart) -> Iterator[PartCounts]:
        """Yields the part's counts."""
        counts = deciding.decide_part(self._config, part)
        for verdict, rows in counts.verdicts.items():
            self._verdicts[verdict].inc(rows)
        advance("decide", 1, samples=counts.rows)
        yield counts


class WriteShards(beam.DoFn):
    """Writes one curated shard."""

    def __init__(self, config: WriteConfig) -> None:
        self._config = config
        self._samples: Any = Metrics.counter("curate", "samples_written")

    def process(self, output: OutputShard) -> Iterator[int]:
        """Yields how many samples it holds."""
        samples = write_shard(self._config, output)
        self._samples.inc(samples)
        advance("write", 1, samples=samples)
        yield samples
