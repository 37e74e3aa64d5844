"""This machine: threads that share a GPU, processes that measure where there is none, or one for each GPU."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, ClassVar

import apache_beam as beam
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from pydantic import Field, field_validator, model_validator

from curate.engine import Engine
from curate.plan import Plan
from curate.reader_threads import quiet_readers
from curate.runner import Runner
from curate.worker_starter import WorkerStarter
from filters.core.errors import RunnerError, WorkerLost
from transforms.devices import gpus

BROKEN = "Channel closed prematurely"  # what Beam says of a line that a process left
DEVICE = re.compile(r"cpu|cuda(:\d+)?")


class Local(Runner):
    """This machine: threads; processes where there is no GPU to share, or one for each of `devices`."""

    devices: tuple[str, ...] = Field(
        default=(),
        description="One worker process for each: cuda:0, cuda:1, cpu; `all` stands for every GPU here.",
    )

    processes: bool | None = Field(
        default=None,
        description=(
            "Whether several workers measure as processes, each with a model of its own; if not given, where "
            "there is no GPU: threads share a model, but also Python's lock, which decoding keeps. With "
            "`devices` all stages do."
        ),
    )

    @field_validator("devices", mode="before")
    @classmethod
    def _listed(cls, given: Any) -> Any:
        """Also as one text: `cuda:0,cuda:1` or `all`."""
        return tuple(name.strip() for name in given.split(",")) if isinstance(given, str) else given

    @field_validator("devices")
    @classmethod
    def _known(cls, devices: tuple[str, ...]) -> tuple[str, ...]:
        if devices == ("all",):
            count = gpus()
            if not count:
                msg = "'all', but there is no usable GPU here: leave devices out, or write cpu"
                raise ValueError(msg)
            return tuple(f"cuda:{number}" for number in range(count))
        for name in devices:
            if not DEVICE.fullmatch(name):
                msg = f"{name!r} is no device: write cuda:0,cuda:1 or cpu, or `all` alone"
                raise ValueError(msg)
        return devices

    @model_validator(mode="before")
    @classmethod
    def _one_worker_each(cls, given: Any) -> Any:
        """As many workers as devices, where their number is not given."""
        if isinstance(given, dict) and given.get("devices") and "workers" not in given:
            named = cls._listed(given["devices"])
            return {**given, "workers": max(1, gpus() if tuple(named) == ("all",) else len(named))}
        return given

    @model_validator(mode="after")
    def _enough(self) -> Local:
        if self.workers < len(self.devices):
            msg = f"workers: {self.workers} can't use {len(self.devices)} devices: give at least as many"
            raise ValueError(msg)
        if self.devices and self.processes is False:
            msg = "processes: false, but devices are for processes: leave one of them out"
            raise ValueError(msg)
        return self

    def check(self, plan: Plan) -> None:
        count = gpus() if any(name.startswith("cuda") for name in self.devices) else 0
        for name in self.devices:
            if name.startswith("cuda") and int(name.partition(":")[2] or 0) >= count:
                msg = f"runner local: device {name!r}, but there are {count} usable GPUs here"
                raise RunnerError(msg)
        for item in plan.measures if self.devices else ():
            wanted = str(getattr(item.options, "device", "auto"))
            if wanted.startswith("cuda:"):
                msg = (
                    f"runner local: {item.name} wants {wanted!r}, but with devices each worker sees only its "
                    "own: leave `device` out of the measure"
                )
                raise RunnerError(msg)
        held = [url for url in (plan.store.folder.url, *(shard.uri for shard in plan.shards)) if _held(url)]
        if held and (self.devices or self._measures_in_processes()):
            msg = f"runner local: processes can't see {held[0]!r}, which this one holds: take one worker"
            raise RunnerError(msg)

    @contextmanager
    def start(self, title: str) -> Iterator[Engine]:  # noqa: ARG002  (nothing here has a name)
        with ExitStack() as stack:
            if self.devices:
                yield self._crew(stack)
            elif self.workers > 1:
                yield MeasuringEngine(self.workers, measuring=cache(partial(self._measuring, stack)))
            else:
                yield Engine()

    def _measuring(self, stack: ExitStack) -> Engine:
        return self._crew(stack) if self._measures_in_processes() else Engine(self.workers)

    def _crew(self, stack: ExitStack) -> Engine:
        quiet_readers()
        starter = stack.enter_context(WorkerStarter())
        return ProcessEngine(self.workers, devices=self.devices, starter=starter)

    def _measures_in_processes(self) -> bool:
        """Whether several workers do; asked only where it matters, since looking for GPUs takes seconds."""
        if self.workers == 1:
            return False
        return gpus() == 0 if self.processes is None else self.processes


@dataclass(frozen=True)
class ProcessEngine(Engine):
    """This machine, with worker processes that see one device each.

    Attributes:
        devices: dealt out to the workers in turn; empty: each sees what this process sees.
        starter: starts the worker processes of every stage.
    """

    outlives_workers: ClassVar[bool] = True

    devices: tuple[str, ...] = ()
    starter: WorkerStarter = field(kw_only=True, compare=False)

    def runner(self) -> Any:
        from curate.worker_processes import ProcessEnvironment  # noqa: PLC0415  (needed for processes alone)

        return FnApiRunner(default_environment=ProcessEnvironment(self.devices, self.starter))

    def options(self, stage: str, *, models: bool) -> PipelineOptions:
        options = super().options(stage, models=models)
        # This mode leaves the environment as it is; the others put Beam's own in its place.
        options.view_as(DirectOptions).direct_running_mode = "in_memory"
        return options

    def lost(self, error: Exception) -> WorkerLost | None:
        """A worker that ended while it was sending: its line breaks before the watch answers for it."""
        if BROKEN not in str(error):
            return None
        return WorkerLost(
            "a worker process ended before its work was done: run again, what is done stays done"
        )


@dataclass(frozen=True)
class MeasuringEngine(Engine):
    """This machine, with threads, but another engine for what decodes or runs models.

    Only there Python's lock is what threads wait for; and a change of thresholds, which measures
    nothing, starts no process.

    Attributes:
        measuring: the other engine, which is started at the first call.
    """

    outlives_workers: ClassVar[bool] = True

    measuring: Callable[[], Engine] = field(kw_only=True, compare=False)

    @contextmanager
    def pipeline(self, stage: str, *, models: bool = False) -> Iterator[beam.Pipeline]:
        engine = self.measuring() if models else Engine(self.workers)
        with engine.pipeline(stage, models=models) as pipeline:
            yield pipeline


def _held(url: str) -> bool:
    """Whether what is there exists in this process alone."""
    return url.startswith("memory:")
