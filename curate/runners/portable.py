"""Any Beam job server: Spark's, Beam's own reference one, or another that speaks the job interface."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from curate.job_server import JobServer

# What each way of starting workers needs to know; None: nothing.
NEEDS = {
    "EXTERNAL": "host:port of a worker pool",
    "DOCKER": "the worker image",
    "PROCESS": "JSON",
    "LOOPBACK": None,
}


class Portable(JobServer):
    """A Beam job server, and workers that it starts."""

    environment_type: Literal["EXTERNAL", "DOCKER", "PROCESS", "LOOPBACK"] = Field(
        default="EXTERNAL", description="How workers are started; LOOPBACK: threads of this process."
    )
    environment_config: str = Field(
        default="", description="EXTERNAL: host:port of a worker pool; DOCKER: the image; PROCESS: JSON."
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

    def environment(self) -> tuple[str, str]:
        return self.environment_type, self.environment_config

    def flags(self) -> tuple[str, ...]:
        return self.beam_options
