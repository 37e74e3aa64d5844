"""Where pipelines run. Locally: Beam's FnApiRunner, pinned.

The default DirectRunner first tries to download another runner's binary and falls back silently;
naming the runner makes a run the same on every machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

from filters.core import errors
from filters.core.errors import CurateError, StopRun


@dataclass(frozen=True)
class Engine:
    """A local engine with so many worker threads."""

    workers: int = 1

    @contextmanager
    def pipeline(self) -> Iterator[beam.Pipeline]:
        """A pipeline that runs when the block ends; its first exception ends the run.

        Threads share a loaded model; Beam does not hand options to workers, so steps carry theirs.
        Raises: the StopRun that a step raised, as the step said it.
        """
        options = PipelineOptions([])
        direct = options.view_as(DirectOptions)
        direct.direct_num_workers = self.workers
        direct.direct_running_mode = "multi_threading" if self.workers > 1 else "in_memory"
        try:
            with beam.Pipeline(runner=FnApiRunner(), options=options) as pipeline:
                yield pipeline
        except (CurateError, RuntimeError) as error:
            stopped = _stop_of(error)
            if stopped is None:
                raise
            raise stopped from error


def _stop_of(error: Exception) -> StopRun | None:
    """The error that a step raised, from what Beam made of it; None where it is none of ours.

    One worker: the same type, with the step's label behind the message. More: a RuntimeError
    whose text is the worker's traceback, the last line of which names the type.
    """
    if isinstance(error, StopRun):
        return type(error)(_without_step(str(error)))
    name, found, message = str(error).rpartition(f"\n{errors.__name__}.")[2].partition(": ")
    declared = getattr(errors, name, None) if found else None
    if isinstance(declared, type) and issubclass(declared, StopRun):
        return declared(_without_step(message))
    return None


def _without_step(message: str) -> str:
    """Beam adds the step's label to an error's message; a user has no use for it."""
    return re.sub(r"( \[while running '[^']*'\])+\s*$", "", message)
