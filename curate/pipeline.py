"""The whole data flow on one page: measure, fit and relate, decide, write.

Each stage is one pipeline over small descriptors; bytes, columns and results stay in the store.
What a stage finds done it does not do again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import apache_beam as beam

from curate.engine import Engine
from curate.plan import Plan
from filters.core.decide import Step
from filters.core.declaration import FittedFilter, RelationalFilter
from transforms import beam_steps as steps
from transforms.deciding import DecideConfig, DecidePart, PartCounts
from transforms.measuring import ShardReport
from transforms.pool import Shard
from transforms.writing import OutputShard, WriteConfig

Element = TypeVar("Element")
RESULTS = "runs/results"


@dataclass(frozen=True)
class Flow:
    """A plan on an engine."""

    plan: Plan
    engine: Engine
    decode_threads: int = 2

    def measure(self, shards: Sequence[Shard]) -> list[ShardReport]:
        """Measures what the shards lack; a lane of neighbouring shards keeps one model busy."""
        step = steps.MeasureShards(self.plan.measure_config(self.decode_threads))
        lanes = split_evenly(shards, self.engine.workers)
        return [ShardReport(**found) for found in self._results("Measure", lanes, step)]

    def fit(self, config: DecideConfig, parts: Sequence[DecidePart], before: Sequence[Step], step: Step, name: str) -> None:
        """One pass of a fitted filter: counts the population and refines the artefact `name`."""
        if not isinstance(step.rule, FittedFilter):
            raise TypeError(step.name)
        with self.engine.pipeline() as pipeline:
            _ = (
                pipeline
                | "Parts" >> beam.Create(parts, reshuffle=True)
                | "Accumulate" >> beam.ParDo(steps.AccumulatePart(config, before, step))
                | "Add" >> beam.CombineGlobally(steps.AddAccumulators(step.rule))
                | "Advance" >> beam.ParDo(steps.AdvanceFit(self.plan.store, step, name))
            )

    def relate(self, config: DecideConfig, parts: Sequence[DecidePart], before: Sequence[Step], step: Step) -> None:
        """Compares survivors: what each part brings, by bucket, and the answers back by part."""
        if not isinstance(step.rule, RelationalFilter):
            raise TypeError(step.name)
        with self.engine.pipeline() as pipeline:
            described = pipeline | "Parts" >> beam.Create(parts, reshuffle=True)
            answers = (
                described
                | "Bring" >> beam.ParDo(steps.RelationEntries(config, before, step)).with_output_types(tuple[int, steps.pa.Table])
                | "ByBucket" >> beam.GroupByKey()
                | "Compare" >> beam.ParDo(steps.CompareBucket(step)).with_output_types(tuple[int, steps.pa.Table])
            )
            by_number = described | "ByNumber" >> beam.Map(lambda part: (part.number, part)).with_output_types(tuple[int, DecidePart])
            _ = (
                {"parts": by_number, "answers": answers}
                | "ByPart" >> beam.CoGroupByKey()
                | "Write" >> beam.ParDo(steps.WriteRelation(config, before, step))
            )

    def decide(self, config: DecideConfig, parts: Sequence[DecidePart]) -> list[PartCounts]:
        """Writes the ledger; returns each part's counts, in pool order."""
        found = self._results("Decide", parts, steps.DecideParts(config))
        return sorted((PartCounts(**counts) for counts in found), key=lambda counts: counts.number)

    def write(self, config: WriteConfig, outputs: Sequence[OutputShard]) -> None:
        """Writes the curated shards."""
        with self.engine.pipeline() as pipeline:
            _ = (
                pipeline
                | "Outputs" >> beam.Create(outputs, reshuffle=True)
                | "Write" >> beam.ParDo(steps.WriteShards(config))
            )

    def _results(self, verb: str, elements: Sequence[Any], step: beam.DoFn) -> list[dict[str, Any]]:
        """Runs one step over the elements and hands back what it said, through a file of the store."""
        name = f"{RESULTS}/{verb.lower()}.json"
        with self.engine.pipeline() as pipeline:
            _ = (
                pipeline
                | "Elements" >> beam.Create(elements, reshuffle=True)
                | verb >> beam.ParDo(step)
                | "Gather" >> beam.combiners.ToList()
                | "Save" >> beam.ParDo(steps.WriteReports(self.plan.store, name))
            )
        results: list[dict[str, Any]] = self.plan.store.folder.read_json(name)
        return results


def prepare_steps(
    flow: Flow, config: DecideConfig, parts: Sequence[DecidePart], say: Callable[[str], None]
) -> DecideConfig:
    """Brings every fitted and relational filter to where it can judge, in the recipe's order."""
    store, plan = config.store, flow.plan
    names = [part.part for part in parts]
    ready: list[Step] = []
    for number, step in enumerate(config.steps, start=1):
        name = plan.decision_fingerprint(number, names)
        if isinstance(step.rule, FittedFilter):
            path = f"artefacts/{name}.json"
            artefact = store.folder.read_json(path) if store.folder.exists(path) else step.rule.start()
            passes = 0
            while not step.rule.complete(artefact):
                passes += 1
                say(f"fitting {step.name}, pass {passes}")
                flow.fit(config, parts, ready, replace(step, artefact=artefact), path)
                artefact = store.folder.read_json(path)
            step = replace(step, artefact=artefact)  # noqa: PLW2901
        elif isinstance(step.rule, RelationalFilter):
            group = f"relations/{name}"
            config = replace(config, relations={**config.relations, step.name: group})
            done = set(store.folder.names(group))
            if any(f"{part.part}.done.json" not in done for part in parts):
                say(f"comparing survivors for {step.name}")
                flow.relate(config, parts, ready, step)
        ready.append(step)
    return replace(config, steps=tuple(ready))


def split_evenly(items: Sequence[Element], pieces: int) -> list[list[Element]]:
    """The items in so many runs of neighbours, sizes differing by at most one; no empty run."""
    count = max(1, min(pieces, len(items)))
    bounds = [len(items) * at // count for at in range(count + 1)]
    return [list(items[first:last]) for first, last in zip(bounds, bounds[1:], strict=False) if last > first]
