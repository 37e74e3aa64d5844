"""Dataflow as far as it goes without Google: options, the job that would be sent, its graph run here."""

# Beam's calls have no annotations:
# mypy: allow-untyped-calls

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.dataflow.dataflow_runner import DataflowRunner
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.runners.runner import PipelineResult
from apache_beam.transforms import environments

from curate.engine import Engine
from curate.follow.stream_steps import StreamConfig
from curate.follow.unbounded import FollowPool, Tick
from curate.pipeline import Flow, split_evenly
from curate.plan import Plan
from curate.run import RunOptions, run_recipe
from curate.runners.dataflow import Dataflow, DataflowEngine
from filters.core.errors import RunnerError
from tests.compared import RECIPE, compared_pool
from tests.curate.test_reach import remote
from tests.end_to_end.conftest import absent
from tests.running import EVERYDAY, files_of, plan_of
from transforms.attempts import Attempts
from transforms.beam_steps import MeasureShards
from transforms.tasks import FOLDER

GOLDEN = Path(__file__).parent / "dataflow_jobs.json"
PLACE: dict[str, Any] = {
    "project": "my-project",
    "region": "us-central1",
    "temp_location": "gs://bucket/tmp",
    "image": "us-docker.pkg.dev/my-project/curate/worker@sha256:00",
}
# Jobs whose description is kept in GOLDEN: options, and the stage.
JOBS: dict[str, tuple[dict[str, Any], str]] = {
    "measuring on L4": (
        {"gpu": "L4", "workers": 32, "labels": {"team": "data"}, "public_ips": False, "threads": 2},
        "measure",
    ),
    "deciding beside L4": ({"gpu": "L4", "workers": 32, "autoscale": False}, "decide"),
    "measuring on two H100": (
        {"gpu": "H100", "gpus_per_machine": 2, "machine_type": "a3-highgpu-2g", "worker_zone": "us-east4-a"},
        "measure",
    ),
    "measuring with Prime": ({"gpu": "A100", "prime": True, "min_ram_gb": 60}, "measure"),
    "measuring without a GPU": (
        {"one_process": False, "beam_options": ("--flexrs_goal=COST_OPTIMIZED",)},
        "measure",
    ),
    "streaming on L4": ({"gpu": "L4", "workers": 8}, "stream"),
    "streaming with Prime": ({"gpu": "A100", "prime": True}, "stream"),
}


@pytest.fixture(scope="module")
def apiclient() -> Any:
    """Beam's client of the service, which builds a job's description without asking Google anything."""
    try:
        return importlib.import_module("apache_beam.runners.dataflow.internal.apiclient")
    except ImportError as missing:
        return absent(f"Beam's Google Cloud parts are not installed (curate[dataflow]): {missing}")


@pytest.fixture
def everyday(small_pool: Path, tmp_path: Path) -> Plan:
    return plan_of(EVERYDAY, small_pool, tmp_path / "store")


def refused(**given: Any) -> str:
    """What is said against these options."""
    with pytest.raises(ValueError, match="validation error") as caught:
        Dataflow(**{**PLACE, **given})
    return str(caught.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"project": "My Project"}, "project"),
        ({"region": "somewhere"}, "region"),
        ({"temp_location": "/tmp/here"}, "temp_location"),  # noqa: S108  (what is refused)
        ({"temp_location": "gs://bucket"}, "temp_location"),
        ({"image": ""}, "image"),
        ({"gpu": "V100"}, "gpu"),
        ({"gpus_per_machine": 2}, "gpus_per_machine: there is no GPU: name one in `gpu`"),
        (
            {"gpu": "L4", "gpus_per_machine": 2},
            "machine_type: name the one with 2 L4: it is not the smallest",
        ),
        ({"gpu": "A100", "gpus_per_machine": 4}, "machine_type: name the one with 4 A100"),
        ({"prime": True, "machine_type": "n1-standard-4"}, "machine_type: Prime chooses machines by hints"),
        ({"min_ram_gb": 16}, "min_ram_gb: a hint that counts with prime: true"),
    ],
)
def test_options_that_can_not_work_are_refused(given: dict[str, Any], said: str) -> None:
    assert said in refused(**given)


def test_prime_takes_several_gpus_without_a_machine() -> None:
    runner = Dataflow(**PLACE, gpu="A100", gpus_per_machine=2, prime=True)
    assert runner.hints()["accelerator"].startswith("type:nvidia-tesla-a100;count:2")


def test_a_local_store_or_pool_is_refused(everyday: Plan) -> None:
    with pytest.raises(RunnerError, match=r"runner dataflow: .*can't see the store '.*', the shard '"):
        Dataflow(**PLACE).check(everyday)


def test_credentials_are_refused(everyday: Plan) -> None:
    with pytest.raises(RunnerError, match="storage option 'secret' would be stored with the job"):
        Dataflow(**PLACE).check(remote(everyday, {"secret": "B"}))


def test_without_beams_google_parts_the_extra_is_named(
    everyday: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr("curate.runners.dataflow.importlib.import_module", missing)
    with pytest.raises(RunnerError, match=r"pip install 'curate\[dataflow\]'"):
        Dataflow(**PLACE).check(remote(everyday))


@pytest.mark.usefixtures("apiclient")
def test_beams_own_check_of_the_options_is_asked(everyday: Plan) -> None:
    Dataflow(**PLACE, gpu="L4").check(remote(everyday))
    wrong = Dataflow(**PLACE, beam_options=("--dataflow_endpoint=",))
    with pytest.raises(RunnerError, match=r"runner dataflow: Invalid url"):
        wrong.check(remote(everyday))


def test_long_stages_are_split_into_short_lanes() -> None:
    with Dataflow(**PLACE, workers=2, threads=3).start("t") as engine:
        assert [engine.lanes(shards) for shards in (0, 1, 6, 24, 25)] == [0, 1, 6, 6, 7]


def built(runner: Dataflow, plan: Plan, stage: str) -> DataflowRunner:
    """The runner after it built the job of one stage, which it did not send."""
    beams = DataflowRunner()
    flags = runner.flags("laion_2b", stage, models=stage != "decide")
    pipeline = beam.Pipeline(runner=beams, options=PipelineOptions([*flags, "--dry_run=True"]))
    with runner.start("laion_2b") as engine:
        if stage == "stream":
            config = StreamConfig(plan, ("gs://crawl/*.tar",), "stream")
            _ = pipeline | "Tick" >> Tick(config) | "Follow" >> FollowPool(config, hints=engine.hints)
        else:
            Flow(plan, engine, lambda _: None).add_measure(pipeline, [plan.shards])
    pipeline.run()
    return beams


def described(apiclient: Any, beams: DataflowRunner) -> dict[str, Any]:
    """What of a job its user decides, and nothing that differs from one building to the next."""
    job, proto = beams.job, beams.proto_pipeline
    wrapped = apiclient.Environment([], job.options, "1", "gs://bucket/pipeline.pb", proto)
    sent = apiclient.json_format.MessageToDict(wrapped.proto._pb)
    (pool,) = sent["workerPools"]
    places = proto.components.environments
    images = {item["containerImage"] for item in pool.pop("sdkHarnessContainerImages")}
    pool.pop("taskrunnerSettings")
    head = json.loads(job.json())
    hinted: dict[str, set[str]] = {}  # by the steps of our own, not the many that Beam makes of them
    for step in proto.components.transforms.values():
        for urn, value in places[step.environment_id].resource_hints.items() if step.environment_id else ():
            hinted.setdefault(step.unique_name.partition("/")[0], set()).add(f"{urn} {value.decode()}")
    return {
        "name": head["name"],
        "type": head["type"],
        "labels": head.get("labels", {}),
        "goal": sent.get("flexResourceSchedulingGoal"),
        "pool": pool,
        "images": sorted(images),
        "service_options": sent.get("serviceOptions", []),
        "experiments": sorted(sent["experiments"]),
        "hints": {name: sorted(hints) for name, hints in sorted(hinted.items())},
    }


@pytest.mark.parametrize("case", list(JOBS))
def test_the_job_is_the_one_that_was_reviewed(case: str, apiclient: Any, everyday: Plan) -> None:
    """After a change that is meant: put what is found here into the golden file, and review its diff."""
    given, stage = JOBS[case]
    found = described(apiclient, built(Dataflow(**PLACE, **given), everyday, stage))
    golden = json.loads(GOLDEN.read_text())
    assert list(golden) == list(JOBS)
    assert found == golden[case], json.dumps(found, indent=2)


def test_hints_and_pool_options_exclude_each_other() -> None:
    for prime in (False, True):
        runner = Dataflow(**PLACE, gpu="L4", prime=prime)
        flags = " ".join(runner.flags("t", "measure", models=True))
        assert ("worker_accelerator" in flags, "--machine_type" in flags) == (not prime, not prime)
        assert bool(runner.hints()) == prime


def test_the_graph_of_a_hundred_thousand_shards_is_small(everyday: Plan) -> None:
    shards = tuple(
        replace(everyday.shards[0], uri=f"gs://crawl/{number:08d}.tar", number=number, part=f"{number:032x}")
        for number in range(100_000)
    )
    everyday.store.prepare()
    flow = Flow(replace(everyday, shards=shards), DataflowEngine(given=Dataflow(**PLACE), title="t"), str)
    pipeline = beam.Pipeline(options=PipelineOptions([]))
    flow.add_measure(pipeline, split_evenly(shards, 3000))
    graph = pipeline.to_runner_api().SerializeToString()
    assert len(shards[0].uri) * len(shards) > 1e6
    assert len(graph) < 100_000
    folder = everyday.store.folder
    assert len(folder.names(f"{FOLDER}/{folder.names(FOLDER)[0]}")) > 10


# --- the graph that Dataflow would get, executed in this process


class Here(DataflowRunner):
    """Builds a job as Dataflow gets it, puts our Python in place of its image, and runs that graph."""

    def run_pipeline(self, pipeline: Any, options: Any, pipeline_proto: Any = None) -> PipelineResult:
        super().run_pipeline(pipeline, options, pipeline_proto)
        here = environments.EmbeddedPythonEnvironment.default().to_runner_api(None)
        places = self.proto_pipeline.components.environments
        for place in places.values():
            replaced = beam_runner_api_pb2.Environment()
            replaced.CopyFrom(here)
            for urn, value in place.resource_hints.items():
                replaced.resource_hints[urn] = value
            place.CopyFrom(replaced)
        return FnApiRunner().run_via_runner_api(self.proto_pipeline, PipelineOptions([]))


@dataclass(frozen=True, kw_only=True)
class EngineHere(DataflowEngine):
    """Dataflow's engine with its graphs run in this process."""

    def runner(self) -> Any:
        return Here()

    def options(self, stage: str, *, models: bool) -> PipelineOptions:
        return PipelineOptions([*self.given.flags(self.title, stage, models=models), "--dry_run=True"])


class DataflowHere(Dataflow):
    """Dataflow's options, with a local store and pool."""

    def check(self, plan: Plan) -> None:
        """Nothing here is out of the workers' reach."""

    @contextmanager
    def start(self, title: str) -> Iterator[Engine]:
        yield EngineHere(workers=self.workers, given=self, title=title)


@pytest.mark.usefixtures("apiclient")
@pytest.mark.parametrize("prime", [False, True], ids=["pool options", "hints and tasks in files"])
def test_the_graph_that_dataflow_gets_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, prime: bool
) -> None:
    if prime:
        monkeypatch.setattr(DataflowEngine, "graph_bytes", 0)
    pool = compared_pool(tmp_path / "pool")
    run = run_recipe(plan_of(RECIPE, pool, tmp_path / "here"), RunOptions(), lambda _: None)
    there = run_recipe(
        plan_of(RECIPE, pool, tmp_path / "there"),
        RunOptions(runner=DataflowHere(**PLACE, gpu="L4", prime=prime, workers=2, lane_shards=1)),
        lambda _: None,
    )
    assert there.ledger == run.ledger
    assert files_of(tmp_path / "there") == files_of(tmp_path / "here")
    assert run.counts["keep"] > 0


def test_hints_go_to_the_step_that_measures_alone(everyday: Plan) -> None:
    runner = Dataflow(**PLACE, gpu="L4", prime=True)
    with runner.start("t") as engine:
        measuring = engine.spread([1], MeasureShards(Attempts(everyday.measure_config(2), "run")))
        other = engine.spread([1], beam.DoFn())
    assert len(measuring.get_resource_hints()) == 1
    assert not other.get_resource_hints()
    assert replace(engine, workers=9).lanes(9) == 9
