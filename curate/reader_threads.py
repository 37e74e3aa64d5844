"""Beam's threads that read from workers and servers end with an error where the other side ends."""

# grpc has no types:
# mypy: disable-error-code=import-untyped

from __future__ import annotations

import threading

import grpc

# The lines between runner and worker, also of state, a job's messages, and a worker that is a thread.
READERS = (
    "beam_control_read",
    "read_grpc_client_inputs",
    "read_state",
    "wait_until_finish_read",
    "run_worker_",
)


def quiet_readers() -> None:
    """Keeps those threads from printing their error: the pipeline's own says the same, and better.

    From here on: some end only after the pipeline that they read for.
    """
    before = threading.excepthook
    if getattr(before, "quiet", False):
        return

    def hook(ended: threading.ExceptHookArgs) -> None:
        name = ended.thread.name if ended.thread else ""
        if not name.startswith(READERS) or not issubclass(ended.exc_type, grpc.RpcError):
            before(ended)

    hook.quiet = True  # type: ignore[attr-defined]
    threading.excepthook = hook
