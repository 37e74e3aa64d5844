"""What a pipeline runs on. The plain one is this process: Beam's FnApiRunner, pinned.

The default DirectRunner first tries to download another runner's binary and falls back silently;
naming the runner makes a run the same on every machine. Other engines: `curate.runners`.
"""

# Beam's transforms have no annotations, and grpc no types:
# mypy: allow-untyped-calls, disable-error-code=import-untyped

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import apache_beam as beam
import grpc
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.transforms.resources import ResourceHint

from filters.core import errors
from filters.core.errors import CurateError, StopRun, WorkerLost

STREAM = "stream"  # the stage of a pipeline without an end
GRAPH_BYTES = 1 << 20  # of tasks that a graph for another process holds; Dataflow refuses one of 20 MB


@dataclass(frozen=True)
class Engine:
    """This process, with so many worker threads, which share a loaded model.

    Attributes:
        workers: how many elements are worked on side by side.
        branches: into how many environments a step is placed, each with a worker of its own.
        outlives_workers: whether it can go on after it lost one.
        graph_bytes: the most bytes of tasks that a graph holds; None: any number.
        idle_seconds: how long a stream may have work and do none before it counts as lost; starting workers
            is part of it.
    """

    outlives_workers: ClassVar[bool] = False
    graph_bytes: ClassVar[int | None] = None

    workers: int = 1
    branches: int = 1
    idle_seconds: float = field(default=600.0, kw_only=True)

    def runner(self) -> Any:
        """The Beam runner of one pipeline."""
        return FnApiRunner()

    def options(self, stage: str, *, models: bool) -> PipelineOptions:  # noqa: ARG002  (clusters name jobs)
        """The Beam options of one pipeline; models: whether it runs any.

        Beam does not hand them to local workers, so steps carry their own.
        """
        options = PipelineOptions([])
        direct = options.view_as(DirectOptions)
        direct.direct_num_workers = self.workers
        direct.direct_running_mode = "multi_threading" if self.workers > 1 else "in_memory"
        return options

    def lanes(self, shards: int) -> int:
        """Into how many lanes so many shards are split; each lane is measured in one go."""
        return min(self.workers, shards)

    @contextmanager
    def pipeline(self, stage: str, *, models: bool = False) -> Iterator[beam.Pipeline]:
        """A pipeline that runs when the block ends; its first exception ends the run.

        Raises: the StopRun that a step raised, as the step said it; WorkerLost where a worker or
        the engine's server ended.
        """
        pipeline = beam.Pipeline(runner=self.runner(), options=self.options(stage, models=models))
        try:
            with self.explained(), pipeline:
                yield pipeline
        except KeyboardInterrupt:
            if (running := getattr(pipeline, "result", None)) is not None:
                running.cancel()
            raise

    @contextmanager
    def explained(self) -> Iterator[None]:
        """What Beam raises in the block, raised as what it was: a step's StopRun, or WorkerLost."""
        try:
            yield
        except self.failures() as error:
            stopped = _stop_of(error) or self.lost(error)
            if stopped is None:
                raise
            raise stopped from error

    @property
    def hints(self) -> Mapping[str, str]:
        """Resource hints, by Beam's names, of the step that measures."""
        return {}

    def failures(self) -> tuple[type[Exception], ...]:
        """What this engine raises where a pipeline fails."""
        return (CurateError, RuntimeError, grpc.RpcError)

    def lost(self, error: Exception) -> WorkerLost | None:  # noqa: ARG002  (this process can't be lost)
        """The error of a worker that ended, from what Beam made of it; None where it is another."""
        return None

    def alive(self) -> bool:
        """Whether it can run another pipeline after it lost a worker."""
        return self.outlives_workers

    def spread(
        self, elements: Sequence[Any], step: beam.DoFn, read: beam.DoFn | None = None
    ) -> beam.PTransform[Any, Any]:
        """One step over the elements, on all workers; read: over what this one makes of the elements."""
        return Spread(elements, step, max(1, min(self.branches, len(elements))), read)


class Branch(ResourceHint):
    """The number of a branch: Beam gives transforms with other hints another environment."""

    urn = "curate:resources:branch:v1"

    @classmethod
    def parse(cls, value: str) -> dict[str, bytes]:
        return {cls.urn: value.encode()}


ResourceHint.register_resource_hint("curate_branch", Branch)


class Spread(beam.PTransform[Any, Any]):
    """One step over elements that are shuffled first, so that they reach all workers.

    Prism gives an environment one worker. With several branches every branch is an environment,
    and takes every n-th element, n being their number.
    """

    def __init__(
        self, elements: Sequence[Any], step: beam.DoFn, branches: int = 1, read: beam.DoFn | None = None
    ) -> None:
        super().__init__()
        self._elements, self._step, self._branches, self._read = elements, step, branches, read

    def expand(self, pipeline: beam.Pipeline) -> Any:
        """The results of the step, in no order."""
        if self._branches == 1:
            spread = pipeline | "Elements" >> beam.Create(self._elements, reshuffle=True)
            if self._read is not None:
                spread = spread | "Read" >> beam.ParDo(self._read) | "Shuffle" >> beam.Reshuffle()
            return spread | "Run" >> beam.ParDo(self._step)
        found = []
        for number in range(self._branches):
            some = self._elements[number :: self._branches]
            one: beam.PTransform[Any, Any] = Spread(some, self._step, read=self._read)
            if number:  # the first stays where everything else runs
                one = one.with_resource_hints(curate_branch=str(number))
            found.append(pipeline | f"Branch{number}" >> one)
        return found | "Join" >> beam.Flatten()


def _stop_of(error: Exception) -> StopRun | None:
    """The error that a step raised, from what Beam made of it; None where it is none of ours.

    One worker: the same type, with the step's label behind the message. More: an error whose text
    holds the worker's traceback, the last line of which names the type.
    """
    if isinstance(error, StopRun):
        return type(error)(_without_step(str(error)))
    name, found, message = str(error).rpartition(f"\n{errors.__name__}.")[2].partition(": ")
    declared = getattr(errors, name, None) if found else None
    if isinstance(declared, type) and issubclass(declared, StopRun):
        return declared(_without_step(message))
    return None


def _without_step(message: str) -> str:
    """The message without the step's label, and whatever the engine says behind it."""
    return message.partition(" [while running '")[0]
