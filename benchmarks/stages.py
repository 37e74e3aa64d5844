"""The stages of the measure step, each alone: decode without a model, the model without decoding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.timing import stopwatch
from curate.plan import Plan
from transforms.decode import Picture
from transforms.measure import Measured, Meter, NamedMeasure, SampleMeasure
from transforms.measures.clip import Clip
from transforms.stream import ShardTask, stream_shards


class PrepareOnly(SampleMeasure):
    """CLIP's preparation in the decode threads, with a model that does nothing."""

    clip: Clip

    @property
    def batch_size(self) -> int:
        """CLIP's own."""
        return self.clip.batch_size

    def meter(self, name: str) -> Meter:
        return _Prepare(self.clip.meter(name))


class _Prepare:
    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def prepare(self, picture: Picture, caption: str) -> Any:
        return self._meter.prepare(picture, caption)

    def measure(self, prepared: Sequence[Any]) -> Measured:  # noqa: ARG002
        return Measured({}, {})


class _Keep(_Prepare):
    """Keeps what was prepared, for the model to be fed from memory."""

    def __init__(self, meter: Meter, kept: list[Any]) -> None:
        super().__init__(meter)
        self._kept = kept

    def measure(self, prepared: Sequence[Any]) -> Measured:
        self._kept.extend(prepared)
        return Measured({}, {})


class KeepPrepared(SampleMeasure):
    """CLIP's preparation, kept in a list that the caller gives."""

    clip: Clip
    kept: Any

    def meter(self, name: str) -> Meter:
        return _Keep(self.clip.meter(name), self.kept.list)


class Prepared:
    """Prepared samples in memory; pydantic copies lists, but not this."""

    def __init__(self) -> None:
        self.list: list[Any] = []


def clip_of(plan: Plan) -> Clip:
    """The plan's CLIP measure."""
    return next(measure.options for measure in plan.measures if isinstance(measure.options, Clip))


def stream_seconds(plan: Plan, decode_threads: int, replacement: SampleMeasure | None = None) -> float:
    """Seconds of the product's stream over the plan's shards; results are let go.

    replacement: stands in for CLIP where it is given.
    """
    measures = []
    for measure in plan.measures:
        if isinstance(measure.options, Clip) and replacement is not None:
            measures.append(NamedMeasure(measure.name, measure.kind, replacement))
        elif isinstance(measure.options, SampleMeasure):
            measures.append(measure)
    names = frozenset(measure.name for measure in measures)
    tasks = [ShardTask(shard, names) for shard in plan.shards]
    options = plan.recipe.file.pool.options()
    with stopwatch() as watch:
        for _ in stream_shards(tasks, measures, options, decode_threads=decode_threads):
            pass
    return watch.wall


def prepared_pairs(plan: Plan, decode_threads: int) -> list[Any]:
    """What CLIP's preparation makes of the plan's shards."""
    prepared = Prepared()
    stream_seconds(plan, decode_threads, KeepPrepared(clip=clip_of(plan), kept=prepared))
    return prepared.list


def model_seconds(plan: Plan, pairs: Sequence[Any], images: int) -> float:
    """Seconds of the model alone, fed from memory in its batches; pairs are used over and over."""
    clip = clip_of(plan)
    meter = clip.meter("clip")
    starts = range(0, images, clip.batch_size)
    with stopwatch() as watch:
        for start in starts:
            many = min(clip.batch_size, images - start)
            meter.measure([pairs[(start + each) % len(pairs)] for each in range(many)])
    return watch.wall
