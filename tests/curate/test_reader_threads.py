"""Errors of threads that read from other processes are not printed; all others are."""

from __future__ import annotations

import threading

import grpc
import pytest

from curate.reader_threads import quiet_readers


def end_with(error: Exception, name: str) -> None:
    def work() -> None:
        raise error

    thread = threading.Thread(target=work, name=name)
    thread.start()
    thread.join()


def test_only_a_reader_whose_line_broke_is_not_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda ended: heard.append(ended.thread.name))
    quiet_readers()
    quiet_readers()
    end_with(grpc.RpcError("the other side ended"), "read_state-7")
    end_with(grpc.RpcError("the other side ended"), "mine")
    end_with(ValueError("a bug"), "read_state-8")
    assert heard == ["mine", "read_state-8"]
