"""Google Cloud Dataflow: in batch a job for each stage, with GPUs where models run; or one without an end."""

# Beam's calls have no annotations:
# mypy: allow-untyped-calls

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator
from apache_beam.runners.dataflow.dataflow_runner import DataflowRunner, DataflowRuntimeException
from pydantic import Field, model_validator

from curate.engine import GRAPH_BYTES, STREAM, Engine
from curate.plan import Plan
from curate.portable_engine import lanes_of
from curate.reach import check_reach, check_secrets
from curate.runner import Runner
from filters.core.errors import RunnerError
from transforms.beam_steps import MeasureShards

IDLE_SECONDS = 1800.0  # of a stream that has work: machines take minutes to start
BUCKET = r"^gs://[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]/.+$"
# Accelerator and the smallest machine that carries one; these machines come with their GPUs.
GPUS = {
    "L4": ("nvidia-l4", "g2-standard-8"),
    "A100": ("nvidia-tesla-a100", "a2-highgpu-1g"),
    "A100-80GB": ("nvidia-a100-80gb", "a2-ultragpu-1g"),
    "H100": ("nvidia-h100-80gb", "a3-highgpu-1g"),
}


class Dataflow(Runner):
    """Google Cloud Dataflow: a batch job for each stage, or one streaming job; GPUs where models run."""

    project: str = Field(
        pattern=r"^([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]$", description="The project's ID."
    )
    region: str = Field(pattern=r"^[a-z]+-[a-z]+\d+$", description="Such as us-central1.")
    temp_location: str = Field(
        pattern=BUCKET, description="gs://bucket/folder for what a job needs meanwhile."
    )
    staging_location: str | None = Field(
        default=None,
        pattern=BUCKET,
        description="gs://bucket/folder for the job's graph; temp_location if not given.",
    )
    image: str = Field(min_length=1, description="The worker image, best by digest: see deploy/README.md.")
    workers: int = Field(default=4, ge=1, le=4000, description="Most machines at once.")
    autoscale: bool = Field(
        default=True, description="Dataflow chooses how many machines work, up to `workers`."
    )
    gpu: Literal["L4", "A100", "A100-80GB", "H100"] | None = Field(
        default=None, description="GPU of the machines that run models; none if not given."
    )
    gpus_per_machine: int = Field(default=1, ge=1, le=16, description="GPUs of each such machine.")
    machine_type: str | None = Field(
        default=None, description="Machine that runs models; the smallest with that GPU if not given."
    )
    cpu_machine_type: str = Field(default="n2-standard-8", description="Machine of all other stages.")
    disk_gb: int = Field(default=100, ge=30, description="Disk of each machine, which must hold the image.")
    one_process: bool = Field(
        default=True,
        description="One process on each machine, so that a model is loaded once; else one per core.",
    )
    threads: int | None = Field(default=None, ge=1, description="Lanes that one process works on at once.")
    lane_shards: int = Field(
        default=4,
        ge=1,
        description="Most shards measured in one go; fewer spread better, more keep models busy.",
    )
    prime: bool = Field(
        default=False, description="Dataflow Prime: machines by resource hints, not by machine type."
    )
    min_ram_gb: int | None = Field(
        default=None, ge=1, description="Memory that measuring asks for; with `prime` alone."
    )
    service_account: str | None = Field(default=None, description="E-mail of the workers' identity.")
    subnetwork: str | None = Field(default=None, description="regions/REGION/subnetworks/NAME, or its URL.")
    public_ips: bool | None = Field(default=None, description="False keeps workers off the internet.")
    worker_zone: str | None = Field(default=None, description="A zone, where only that one has the GPU.")
    labels: dict[str, str] = Field(default_factory=dict, description="Labels of the jobs, for their bill.")
    files_in_image: bool = Field(
        default=False, description="The image holds the recipe's local files (models, …) at the same paths."
    )
    beam_options: tuple[str, ...] = Field(
        default=(), description="Further Beam options, such as --flexrs_goal=…"
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.gpu is None and self.gpus_per_machine > 1:
            msg = "gpus_per_machine: there is no GPU: name one in `gpu`"
            raise ValueError(msg)
        # Google ties the number of these GPUs to the machine: a g2-standard-8 takes one L4, no second.
        if self.gpus_per_machine > 1 and self.machine_type is None and not self.prime:
            msg = (
                f"machine_type: name the one with {self.gpus_per_machine} {self.gpu}: it is not the smallest"
            )
            raise ValueError(msg)
        if self.prime and self.machine_type is not None:
            msg = "machine_type: Prime chooses machines by hints: leave it out, or set prime: false"
            raise ValueError(msg)
        if not self.prime and self.min_ram_gb is not None:
            msg = "min_ram_gb: a hint that counts with prime: true; else choose a machine_type"
            raise ValueError(msg)
        return self

    def check(self, plan: Plan) -> None:
        check_reach(self.name, plan, shared=False, files=self.files_in_image)
        check_secrets(self.name, plan)
        try:
            importlib.import_module("apache_beam.runners.dataflow.internal.apiclient")
        except ImportError as cause:
            msg = (
                "runner dataflow: Beam's Google Cloud parts are not installed: pip install 'curate[dataflow]'"
            )
            raise RunnerError(msg) from cause
        for models in (True, False):
            options = PipelineOptions(
                [*self.flags(plan.recipe.name, "check", models=models), "--dry_run=True"]
            )
            if found := PipelineOptionsValidator(options, DataflowRunner()).validate():
                raise RunnerError("\n".join(f"runner dataflow: {problem}" for problem in found))

    @contextmanager
    def start(self, title: str) -> Iterator[Engine]:
        yield DataflowEngine(
            workers=self.workers * (self.threads or 1), given=self, title=title, idle_seconds=IDLE_SECONDS
        )

    def flags(self, title: str, stage: str, *, models: bool) -> list[str]:
        """Beam's options of one job; models: whether it runs any, and so needs the GPU."""
        place = {
            "runner": "DataflowRunner",
            "project": self.project,
            "region": self.region,
            "temp_location": self.temp_location,
            "staging_location": self.staging_location or self.temp_location,
            "job_name": f"curate-{title}-{stage}".lower().replace("_", "-"),
            "sdk_container_image": self.image,
            "sdk_location": "container",
            "disk_size_gb": self.disk_gb,
            "service_account_email": self.service_account,
            "subnetwork": self.subnetwork,
            "worker_zone": self.worker_zone,
            "number_of_worker_harness_threads": self.threads,
            "max_num_workers": self.workers,
            "autoscaling_algorithm": "THROUGHPUT_BASED" if self.autoscale else "NONE",
            "num_workers": None if self.autoscale else self.workers,
            "machine_type": None if self.prime else self._machine(models=models),
        }
        flags = [f"--{name}={value}" for name, value in place.items() if value is not None]
        flags += [f"--label={name}={value}" for name, value in sorted(self.labels.items())]
        flags += ["--experiments=disable_logging_submission_environment"]
        flags += ["--experiments=no_use_multiple_sdk_containers"] if self.one_process else []
        flags += ["--streaming", "--enable_streaming_engine"] if stage == STREAM else []
        if self.public_ips is not None:
            flags.append("--use_public_ips" if self.public_ips else "--no_use_public_ips")
        flags += ["--dataflow_service_options=enable_prime"] if self.prime else []
        if models and self.gpu and not self.prime:
            accelerator = _accelerator(self.gpu, self.gpus_per_machine)
            flags.append(f"--dataflow_service_options=worker_accelerator={accelerator}")
        return [*flags, *self.beam_options]

    def hints(self) -> dict[str, str]:
        """Resource hints of the step that runs models; hints and options of the pool exclude each other."""
        if not self.prime:
            return {}
        hints = {"accelerator": _accelerator(self.gpu, self.gpus_per_machine)} if self.gpu else {}
        return hints | ({"min_ram": f"{self.min_ram_gb}GB"} if self.min_ram_gb else {})

    def _machine(self, *, models: bool) -> str:
        if not models:
            return self.cpu_machine_type
        return self.machine_type or (GPUS[self.gpu][1] if self.gpu else self.cpu_machine_type)


def _accelerator(gpu: str, count: int) -> str:
    """GPUs as Dataflow names them, with the driver that it installs."""
    return f"type:{GPUS[gpu][0]};count:{count};install-nvidia-driver"


@dataclass(frozen=True, kw_only=True)
class DataflowEngine(Engine):
    """Dataflow jobs, one for each pipeline.

    Attributes:
        given: the runner's options; title: what the jobs are for.
    """

    graph_bytes: ClassVar[int | None] = GRAPH_BYTES

    given: Dataflow
    title: str

    def runner(self) -> Any:
        return DataflowRunner()

    def options(self, stage: str, *, models: bool) -> PipelineOptions:
        return PipelineOptions(self.given.flags(self.title, stage, models=models))

    def lanes(self, shards: int) -> int:
        return lanes_of(shards, self.workers, self.given.lane_shards)

    @property
    def hints(self) -> Mapping[str, str]:
        return self.given.hints()

    def failures(self) -> tuple[type[Exception], ...]:
        return (*super().failures(), DataflowRuntimeException)

    def spread(
        self, elements: Sequence[Any], step: beam.DoFn, read: beam.DoFn | None = None
    ) -> beam.PTransform[Any, Any]:
        found = super().spread(elements, step, read)
        return found.with_resource_hints(**self.hints) if isinstance(step, MeasureShards) else found
