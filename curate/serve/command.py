"""Starts the service: checks where it may be reached from, and says how."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from rich.console import Console
from rich.markup import escape

from curate.addresses import is_local
from curate.console import Bounds
from curate.serve.app import make_app
from curate.serve.library import Library
from curate.serve.security import LOOPBACK, Door
from curate.serve.settings import Service
from filters.core.errors import StoreError
from transforms.store import Store

out = Console(stderr=True, highlight=False)


@dataclass(frozen=True)
class Listening:
    """Where the service listens.

    Attributes:
        token: None for one that is made up, where one is needed.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = field(default=None, repr=False)

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return is_local(self.host)


def serve_store(
    store: Store,
    listening: Listening,
    pool_options: Mapping[str, Any],
    bounds: Bounds = Bounds(),  # noqa: B008
) -> None:
    """Serves a store until it is interrupted.

    Raises: StoreError where this is no store, or the address can't be had.
    """
    store.check()
    token = listening.token
    if token is None and not listening.is_local:
        token = secrets.token_urlsafe(24)
    hosts = LOOPBACK if listening.is_local else frozenset[str]()
    service = Service(Library(store, pool_options), bounds)
    listener = _listener(listening)
    port = listener.getsockname()[1]
    name = f"[{listening.host}]" if ":" in listening.host else listening.host
    address = f"http://{name}:{port}/" + (f"?token={token}" if token else "")
    out.print(f"serving {escape(service.library.where)} at [bold]{escape(address)}[/]  (Ctrl+C ends it)")
    config = uvicorn.Config(
        make_app(service, Door(hosts, token)),
        log_level="warning",
        server_header=False,
        timeout_keep_alive=15,
        limit_concurrency=256,
    )
    uvicorn.Server(config).run(sockets=[listener])


def _listener(listening: Listening) -> socket.socket:
    """The socket, bound before anything is loaded, so that a taken port is one message."""
    family = socket.AF_INET6 if ":" in listening.host else socket.AF_INET
    # asyncio sends without delay (TCP_NODELAY) where a socket names its protocol; else each answer
    # waits 40 ms for the other side to acknowledge its headers.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((listening.host, listening.port))
    except OSError as cause:
        listener.close()
        msg = (
            f"can't listen on {listening.host} port {listening.port}: {cause.strerror or cause}; "
            "choose another with --port, or 0 for any"
        )
        raise StoreError(msg) from cause
    listener.listen(128)
    return listener
