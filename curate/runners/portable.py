"""Any Beam job server: Spark's, Beam's own reference one, or another that speaks the job interface."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, Self

from pydantic import Field, model_validator

from curate.engine import Engine
from curate.plan import Plan
from curate.portable_engine import ADDRESS, PortableEngine, check_answers
from curate.reach import check_reach, check_secrets, with_absolute_store
from curate.reader_threads import quiet_readers
from curate.runner import Runner

# What each way of starting workers needs to know; None: nothing.
NEEDS = {
    "EXTERNAL": "host:port of a worker pool",
    "DOCKER": "the worker image",
    "PROCESS": "JSON",
    "LOOPBACK": None,
}


class Portable(Runner):
    """A Beam job server, and workers that it starts."""

    job_endpoint: str = Field(pattern=ADDRESS, description="host:port of the job server.")
    environment_type: Literal["EXTERNAL", "DOCKER", "PROCESS", "LOOPBACK"] = Field(
        default="EXTERNAL", description="How workers are started; LOOPBACK: threads of this process."
    )
    environment_config: str = Field(
        default="", description="EXTERNAL: host:port of a worker pool; DOCKER: the image; PROCESS: JSON."
    )
    lane_shards: int = Field(
        default=4,
        ge=1,
        description="Most shards measured in one go; fewer spread better, more keep models busy.",
    )
    shared_files: bool = Field(
        default=False, description="Workers see the same files at the same paths as this machine."
    )
    beam_options: tuple[str, ...] = Field(
        default=(), description="Further options for the job server, such as --spark_master_url=…"
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        needed = NEEDS[self.environment_type]
        if needed and not self.environment_config:
            msg = f"environment_config: {self.environment_type} needs {needed}"
            raise ValueError(msg)
        return self

    def check(self, plan: Plan) -> None:
        if self.environment_type != "LOOPBACK":
            check_reach(self.name, plan, shared=self.shared_files)
            check_secrets(self.name, plan)
        check_answers(self.name, "job server", self.job_endpoint)

    def seen_by_workers(self, plan: Plan) -> Plan:
        return with_absolute_store(plan)

    @contextmanager
    def start(self, title: str) -> Iterator[Engine]:
        with quiet_readers():
            yield PortableEngine(
                self.workers,
                endpoint=self.job_endpoint,
                environment=(self.environment_type, self.environment_config),
                lane_shards=self.lane_shards,
                title=title,
                more=self.beam_options,
            )
