"""Apache Flink through its Beam job server, with Python workers beside the task managers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from curate.job_server import JobServer
from curate.portable_engine import ADDRESS


class Flink(JobServer):
    """A Flink cluster, reached through Beam's job server for Flink."""

    job_endpoint: str = Field(
        pattern=ADDRESS, description="host:port of Beam's job server for Flink, which knows the cluster."
    )
    worker_pool: str = Field(
        default="localhost:50000",
        pattern=ADDRESS,
        description="host:port of `curate worker-pool` as a task manager sees it: its sidecar.",
    )
    workers: int = Field(
        default=1, ge=1, description="Flink's parallelism: task slots that are used at once."
    )
    max_parallelism: int | None = Field(
        default=None, ge=1, description="Flink's number of key groups; its own choice if not given."
    )
    retries: int = Field(default=3, ge=0, description="How often Flink restarts a job whose worker failed.")
    retry_delay_seconds: int = Field(
        default=10, ge=0, description="How long Flink waits before it restarts one."
    )
    object_reuse: bool = Field(default=True, description="Flink hands elements on without copying them.")
    execution: Literal["PIPELINED", "BATCH"] = Field(
        default="PIPELINED", description="BATCH writes every shuffle to disk before it is read."
    )
    shared_files: bool = Field(
        default=False, description="Task managers see the same files at the same paths as this machine."
    )

    def environment(self) -> tuple[str, str]:
        return "EXTERNAL", self.worker_pool

    def flags(self) -> tuple[str, ...]:
        flags = [
            f"--parallelism={self.workers}",
            f"--number_of_execution_retries={self.retries}",
            f"--execution_retry_delay={1000 * self.retry_delay_seconds}",
            f"--execution_mode_for_batch={self.execution}",
        ]
        flags += [f"--max_parallelism={self.max_parallelism}"] if self.max_parallelism else []
        flags += ["--object_reuse"] if self.object_reuse else []
        return tuple(flags)
