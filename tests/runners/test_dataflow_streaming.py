"""The stream's graph as Dataflow gets it, run on Prism: verdicts and bytes are the local loop's."""

# Beam's calls have no annotations:
# mypy: allow-untyped-calls

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.dataflow.dataflow_runner import DataflowRunner
from apache_beam.runners.runner import PipelineResult
from apache_beam.transforms import environments

from curate.engine import Engine
from curate.portable_engine import JobRunner, PortableEngine
from curate.runners.dataflow import Dataflow, DataflowEngine
from curate.runners.prism import running_prism, worker_threads
from tests.engines import prism_program
from tests.follow.following import (
    PLAIN,
    calibrated,
    committed_files,
    make_pool,
    manifest_of,
    replayed,
    streamed,
)
from tests.runners.test_dataflow import PLACE


class OnPrism(DataflowRunner):
    """Builds a job as Dataflow gets it, puts our workers in place of its image, and gives it to Prism."""

    def __init__(self, prism: PortableEngine) -> None:
        super().__init__()
        self._prism = prism

    def run_pipeline(self, pipeline: Any, options: Any, pipeline_proto: Any = None) -> PipelineResult:
        super().run_pipeline(pipeline, options, pipeline_proto)
        kind, address = self._prism.environment
        assert kind == "EXTERNAL"
        workers = environments.ExternalEnvironment(address).to_runner_api(None)
        for place in self.proto_pipeline.components.environments.values():
            replaced = beam_runner_api_pb2.Environment()
            replaced.CopyFrom(workers)
            replaced.capabilities.extend(place.capabilities)
            place.CopyFrom(replaced)
        return JobRunner(self._prism.look).run_portable_pipeline(
            self.proto_pipeline, self._prism.options("stream", models=True)
        )


@dataclass(frozen=True, kw_only=True)
class EngineOnPrism(DataflowEngine):
    """Dataflow's engine with its graphs run on Prism."""

    prism: PortableEngine

    def runner(self) -> Any:
        return OnPrism(self.prism)

    def options(self, stage: str, *, models: bool) -> PipelineOptions:
        return PipelineOptions([*self.given.flags(self.title, stage, models=models), "--dry_run=True"])


class DataflowOnPrism(Dataflow):
    """Dataflow's options, with a local store and pool."""

    def check(self, plan: Any) -> None:
        """Nothing here is out of the workers' reach."""

    @property
    def name(self) -> str:
        return "dataflow"

    @contextmanager
    def start(self, title: str) -> Iterator[Engine]:
        with running_prism(prism_program()) as server, worker_threads() as pool:
            prism = PortableEngine(endpoint=server.endpoint, environment=("EXTERNAL", pool), look=server.look)
            yield EngineOnPrism(given=self, title=title, prism=prism)


@pytest.mark.slow
def test_the_streams_graph_that_dataflow_gets_decides_as_the_loop(tmp_path: Path) -> None:
    pool = make_pool(tmp_path / "pool", shards=4)
    for name in ("stream", "loop"):
        calibrated(PLAIN, pool, tmp_path / name)
    streamed(PLAIN, pool, tmp_path / "stream", DataflowOnPrism(**PLACE, gpu="L4")).follow()
    manifest = manifest_of(tmp_path / "stream")
    assert len(manifest["parts"]) == 4
    replayed(PLAIN, manifest, tmp_path / "loop")
    assert committed_files(tmp_path / "stream") == committed_files(tmp_path / "loop")
