"""The whole data flow on one page: measure, fit and relate, decide, write.

Each stage is one pipeline over small descriptors; bytes, columns and results stay in the store.
What a stage finds done it does not do again.
"""

# Beam's transforms have no annotations:
# mypy: allow-untyped-calls

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, TypeVar

import apache_beam as beam

from curate.engine import Engine
from curate.forecast import refuse_quadratic
from curate.lost_workers import measure_despite_losses
from curate.plan import Plan
from filters.core.decide import Step
from filters.core.declaration import FittedFilter
from filters.core.errors import StoreError, WorkerLost
from transforms import beam_steps as steps
from transforms.attempts import Attempts, left_by
from transforms.deciding import DecideConfig, DecidePart, PartCounts
from transforms.diversity_of_parts import Diversity, DiversityOptions, diversity_scope
from transforms.measuring import ShardReport
from transforms.pool import Shard
from transforms.progress import begin
from transforms.relating import Relation, Task, find_relation
from transforms.relating import Scope as RelationScope
from transforms.tasks import lay_out
from transforms.writing import OutputShard, WriteConfig

Element = TypeVar("Element")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Flow:
    """A plan on an engine."""

    plan: Plan
    engine: Engine
    say: Say
    decode_threads: int = 2
    laps: dict[str, float] = field(default_factory=dict)  # seconds of measuring and of comparisons
    reports: list[ShardReport] = field(default_factory=list)  # on the shards that were measured
    run: str = field(default_factory=lambda: uuid.uuid4().hex)  # names it in the marks of what it measures

    def measure(self, shards: Sequence[Shard]) -> list[ShardReport]:
        """Measures what the shards lack; a lane of neighbouring shards keeps one model busy."""
        begin("measure", len(shards))
        started = time.perf_counter()
        try:
            if self.engine.outlives_workers:
                workers = self.engine.workers
                found = measure_despite_losses(shards, workers, self._measure_lanes, self.attempts)
            else:
                found = self._measure_lanes(split_evenly(shards, self.engine.lanes(len(shards))))
        except WorkerLost:
            raise
        except BaseException:
            self._clear_of_suspicion()
            raise
        self.laps["measure"] = time.perf_counter() - started
        self.reports.extend(found)
        return found

    @property
    def attempts(self) -> Attempts:
        """Measures shards for this run."""
        return Attempts(self.plan.measure_config(self.decode_threads), self.run)

    def _clear_of_suspicion(self) -> None:
        """No shard has killed this run: it is ending by an error, or an interrupt."""
        folder = self.plan.store.folder
        with contextlib.suppress(StoreError, OSError):
            for mark in left_by(self.run, folder):
                folder.remove(mark)

    def _measure_lanes(self, lanes: Sequence[Iterable[Shard]]) -> list[ShardReport]:
        with self.engine.pipeline("measure", models=True) as pipeline:
            name = self.add_measure(pipeline, lanes)
        return [ShardReport(**report) for report in steps.read_reports(self.plan.store, name)]

    def add_measure(self, pipeline: beam.Pipeline, lanes: Sequence[Iterable[Shard]]) -> str:
        """Adds to a pipeline all that measuring takes; returns the folder of its reports."""
        step = steps.MeasureShards(self.attempts)
        return self._add_reports(pipeline, "Measure", lanes, step)

    def fit(self, step: Step, before: Sequence[Step], config: DecideConfig, scope: Scope) -> None:
        """One pass of a fitted filter: counts the population and refines its artefact."""
        if not isinstance(step.rule, FittedFilter):
            raise TypeError(step.name)
        begin(f"fit {step.name}", len(scope.parts))
        with self.engine.pipeline("fit") as pipeline:
            _ = (
                pipeline
                | "Accumulate" >> self._spread(scope.parts, steps.AccumulatePart(config, before, step))
                | "Add" >> beam.CombineGlobally(steps.AddAccumulators(step.rule))
                | "Advance" >> beam.ParDo(steps.AdvanceFit(config.store, step, scope.artefact))
            )

    def relate(self, relation: Relation, parts: Sequence[DecidePart]) -> None:
        """Compares survivors, stage by stage; only descriptors of tasks are elements."""
        for stage in relation.stages:
            tasks = relation.waiting(stage, parts)
            if not tasks:
                continue
            label = f"{relation.scope.name}: {stage}"
            begin(label, len(tasks))
            started = time.perf_counter()
            self._compare(relation, stage, tasks)
            self.laps[label] = time.perf_counter() - started
        relation.finish(parts)

    def _compare(self, relation: Relation, stage: str, tasks: Sequence[Task]) -> None:
        with self.engine.pipeline("compare") as pipeline:
            _ = pipeline | "Compare" >> self._spread(tasks, steps.RunTask(relation, stage))

    def decide(self, config: DecideConfig, parts: Sequence[DecidePart]) -> list[PartCounts]:
        """Writes the ledger; returns each part's counts, in pool order."""
        begin("decide", len(parts))
        with self.engine.pipeline("decide") as pipeline:
            name = self._add_reports(pipeline, "Decide", parts, steps.DecideParts(config))
        found = steps.read_reports(self.plan.store, name)
        return sorted((PartCounts(**counts) for counts in found), key=lambda counts: counts.number)

    def write(self, config: WriteConfig, outputs: Sequence[OutputShard]) -> None:
        """Writes the curated shards."""
        begin("write", len(outputs))
        with self.engine.pipeline("write") as pipeline:
            _ = pipeline | "Write" >> self._spread(outputs, steps.WriteShards(config))

    def _add_reports(
        self, pipeline: beam.Pipeline, verb: str, elements: Sequence[Any], step: beam.DoFn
    ) -> str:
        """Adds one step over the elements; returns the folder of the store that will hold what it says."""
        name = f"runs/results/{verb.lower()}"
        self.plan.store.folder.remove(name)
        writing = steps.WriteReports(self.plan.store, name, len(self.plan.shards))
        _ = pipeline | verb >> self._spread(elements, step) | "Report" >> writing
        return name

    def _spread(self, elements: Sequence[Any], step: beam.DoFn) -> beam.PTransform[Any, Any]:
        """One step over elements, which are in files of the store where a graph would not hold them."""
        folder, most = self.plan.store.folder, self.engine.graph_bytes
        storage = self.plan.shards[0].options if self.plan.shards else {}
        laid_out = None if most is None else lay_out(folder, elements, most, storage)
        if laid_out is None:
            return self.engine.spread(elements, step)
        names, reader = laid_out
        return self.engine.spread(names, step, steps.ReadTasks(reader))


@dataclass(frozen=True)
class Scope:
    """What a filter is prepared on: the parts, and the fingerprint of all that comes before."""

    parts: Sequence[DecidePart]
    fingerprint: str

    @property
    def artefact(self) -> str:
        """The file of what a fitted filter judges with."""
        return f"artefacts/{self.fingerprint}.json"


def measure_pool(flow: Flow, config: DecideConfig, parts: Sequence[DecidePart]) -> DecideConfig:
    """Computes the measures that compare the pool's rows with one another; says where they lie."""
    rows = sum(part.rows for part in parts)
    names = [part.part for part in parts]
    for measure in flow.plan.collective:
        group = flow.plan.collective_group(measure, names)
        scope = RelationScope(config, (), measure.name, measure.options, group, rows, flow.engine.workers)
        _relate(flow, scope, parts)
        written = {column.name: group for column in measure.columns()}
        config = replace(config, writers={**config.writers, **written})
    return config


def measure_diversity(flow: Flow, config: DecideConfig, counts: Sequence[PartCounts], at_most: int) -> None:
    """Measures how diverse the decision's kept samples are, unless that was done before."""
    parts = [DecidePart(part.part, part.number, part.rows) for part in counts]
    readable = sum(part.rows - part.verdicts.get("failed", 0) for part in counts)
    options = DiversityOptions(at_most, readable, sum(part.kept for part in counts))
    relation = Diversity(diversity_scope(config, options, parts, flow.engine.workers))
    if not relation.complete():
        flow.say("measuring the diversity of what is kept")
        flow.relate(relation, parts)


def prepare_steps(flow: Flow, config: DecideConfig, parts: Sequence[DecidePart]) -> DecideConfig:
    """Brings every fitted and relational filter to where it can judge, in the recipe's order."""
    names = [part.part for part in parts]
    rows = sum(part.rows for part in parts)
    ready: list[Step] = []
    for number, step in enumerate(config.steps, start=1):
        scope = Scope(parts, flow.plan.decision_fingerprint(number, names))
        if step.rule.relation is not None:
            group = f"relations/{flow.plan.relation_fingerprint(number, names)}"
            config = replace(config, relations={**config.relations, step.name: group})
            before, workers = tuple(ready), flow.engine.workers
            _relate(flow, RelationScope(config, before, step.name, step.rule, group, rows, workers), parts)
        fitted = isinstance(step.rule, FittedFilter)
        ready.append(_fit(flow, step, ready, config, scope) if fitted else step)
    return replace(config, steps=tuple(ready))


def _relate(flow: Flow, scope: RelationScope, parts: Sequence[DecidePart]) -> None:
    """Compares the survivors, unless that was done before."""
    relation = find_relation(scope)
    if not relation.complete():
        exchange = relation.forecast(scope.rule, scope.rows, len(parts), scope.workers, 0)
        refuse_quadratic(scope.name, scope.rows, exchange)
        flow.say(f"comparing {'survivors' if scope.before else 'samples'} for {scope.name}")
        flow.relate(relation, parts)


def _fit(flow: Flow, step: Step, before: Sequence[Step], config: DecideConfig, scope: Scope) -> Step:
    """The step with its artefact, as far as it was fitted before and then to the end."""
    folder, rule = config.store.folder, step.rule
    if not isinstance(rule, FittedFilter):
        raise TypeError(step.name)
    pool_rows = sum(part.rows for part in scope.parts)
    known = folder.exists(scope.artefact)
    artefact = folder.read_json(scope.artefact) if known else rule.start_on(pool_rows)
    passes = 0
    while not rule.complete(artefact):
        passes += 1
        flow.say(f"fitting {step.name}, pass {passes}")
        flow.fit(replace(step, artefact=artefact), before, config, scope)
        artefact = folder.read_json(scope.artefact)
    return replace(step, artefact=artefact)


def split_evenly(items: Sequence[Element], pieces: int) -> list[list[Element]]:
    """The items in so many runs of neighbours, sizes differing by at most one; no empty run."""
    count = max(1, min(pieces, len(items)))
    bounds = [len(items) * at // count for at in range(count + 1)]
    return [list(items[first:last]) for first, last in pairwise(bounds) if last > first]
