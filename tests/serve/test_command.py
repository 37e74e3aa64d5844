"""The socket that the service listens on."""

from __future__ import annotations

import socket

import pytest

from curate.serve.command import Listening, _listener
from filters.core.errors import StoreError


def test_answers_are_sent_without_delay() -> None:
    with _listener(Listening("127.0.0.1", 0)) as listener:
        assert listener.proto == socket.IPPROTO_TCP  # by which asyncio decides to set TCP_NODELAY


def test_a_taken_port_is_one_message() -> None:
    with _listener(Listening("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(StoreError, match=f"can't listen on 127.0.0.1 port {port}: .*--port"):
            _listener(Listening("127.0.0.1", port))
