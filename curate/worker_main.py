"""A local worker process: `python -m curate.worker_main ADDRESS WORKER_ID LAUNCHER LOG_LEVEL`."""

# Beam's calls have no annotations:
# mypy: allow-untyped-calls

from __future__ import annotations

import logging
import os
import sys
import threading
import time

from apache_beam.runners.portability.fn_api_runner.worker_handlers import (
    DATA_BUFFER_TIME_LIMIT_MS,
    FNAPI_RUNNER_CAPABILITIES,
    MB_TO_BYTES,
    STATE_CACHE_SIZE_MB,
)
from apache_beam.runners.worker.sdk_worker import SdkHarness

from curate.logs import set_up_logs

PARENT_SECONDS = 0.5  # between looks at whether the launcher still lives


def main(address: str, worker: str, launcher: str, level: str) -> None:
    """Works for the runner at this address until it says that nothing is left.

    launcher: the process that started this one; level: of the log, as a number.
    """
    set_up_logs(verbose=int(level) <= logging.INFO)
    threading.Thread(target=_end_with, args=(int(launcher),), name="parent", daemon=True).start()
    SdkHarness(
        address,
        worker_id=worker,
        state_cache_size=STATE_CACHE_SIZE_MB * MB_TO_BYTES,
        data_buffer_time_limit_ms=DATA_BUFFER_TIME_LIMIT_MS,
        runner_capabilities=FNAPI_RUNNER_CAPABILITIES,
    ).run()


def _end_with(parent: int) -> None:
    """Ends this process at once when its parent has ended: another run may hold the store by then."""
    while os.getppid() == parent:
        time.sleep(PARENT_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
