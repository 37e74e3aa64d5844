"""Runners behind a Beam job server that others started: what Flink's, Spark's and any other share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import Field

from curate.engine import Engine
from curate.plan import Plan
from curate.portable_engine import ADDRESS, PortableEngine, check_answers
from curate.reach import check_reach, check_secrets, with_absolute_store
from curate.reader_threads import quiet_readers
from curate.runner import Runner


class JobServer(Runner):
    """A job server at `job_endpoint`, and workers that it starts."""

    job_endpoint: str = Field(pattern=ADDRESS, description="host:port of the job server.")
    lane_shards: int = Field(
        default=4,
        ge=1,
        description="Most shards measured in one go; fewer spread better, more keep models busy.",
    )
    shared_files: bool = Field(
        default=False, description="Workers see the same files at the same paths as this machine."
    )

    @abstractmethod
    def environment(self) -> tuple[str, str]:
        """How workers are started, and what that needs, as Beam's options name them."""

    @abstractmethod
    def flags(self) -> tuple[str, ...]:
        """Further Beam options."""

    def check(self, plan: Plan) -> None:
        if self.environment()[0] != "LOOPBACK":
            check_reach(self.name, plan, shared=self.shared_files)
            check_secrets(self.name, plan)
        check_answers(self.name, "job server", self.job_endpoint)

    def seen_by_workers(self, plan: Plan) -> Plan:
        return with_absolute_store(plan)

    @contextmanager
    def start(self, title: str) -> Iterator[Engine]:
        quiet_readers()
        yield PortableEngine(
            self.workers,
            endpoint=self.job_endpoint,
            environment=self.environment(),
            lane_shards=self.lane_shards,
            title=title,
            more=self.flags(),
        )
