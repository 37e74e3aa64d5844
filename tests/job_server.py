"""Beam's reference job server, which keeps what it is sent: `python -m tests.job_server PORT FOLDER`.

Into FOLDER it writes NUMBER-NAME.json, the options of each job, and NUMBER-NAME.pb, its graph.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

from apache_beam.portability.api import beam_job_api_pb2
from apache_beam.runners.portability.local_job_service import LocalJobServicer
from google.protobuf import json_format

KINDS = beam_job_api_pb2.PipelineOptionType
# Options of Flink alone, as its job server tells them to a client, which drops what no one asked for.
FLINK = {
    "number_of_execution_retries": KINDS.INTEGER,
    "execution_retry_delay": KINDS.INTEGER,
    "execution_mode_for_batch": KINDS.STRING,
    "object_reuse": KINDS.BOOLEAN,
}


class KeepingServicer(LocalJobServicer):
    """Writes every job down before it runs it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder / "staging"))
        self._folder = folder
        self._count = 0

    def DescribePipelineOptions(self, request: Any, context: Any = None, timeout: Any = None) -> Any:  # noqa: ARG002, N802  (Beam's)
        """What Flink's job server says beyond what Beam's Python knows by itself."""
        described = [
            beam_job_api_pb2.PipelineOptionDescriptor(name=name, type=kind) for name, kind in FLINK.items()
        ]
        return beam_job_api_pb2.DescribePipelineOptionsResponse(options=described)

    def create_beam_job(self, preparation_id: str, job_name: str, pipeline: Any, options: Any) -> Any:
        """The job, as Beam makes it."""
        kept = self._folder / f"{self._count:03d}-{options['beam:option:job_name:v1']}"
        kept.with_suffix(".json").write_text(json_format.MessageToJson(options))
        kept.with_suffix(".pb").write_bytes(pipeline.SerializeToString())
        self._count += 1
        return super().create_beam_job(preparation_id, job_name, pipeline, options)


if __name__ == "__main__":
    KeepingServicer(Path(sys.argv[2])).start_grpc_server(int(sys.argv[1]))
    signal.pause()
