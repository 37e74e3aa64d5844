"""What every request and response goes through: hosts, the token, sizes, headers.

Plain ASGI, so that nothing reaches a route unchecked.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any, TypeAlias
from urllib.parse import parse_qs, urlsplit

Message: TypeAlias = "MutableMapping[str, Any]"
Receive: TypeAlias = "Callable[[], Awaitable[Message]]"
Send: TypeAlias = "Callable[[Message], Awaitable[None]]"
App: TypeAlias = "Callable[[Message, Receive, Send], Awaitable[None]]"

COOKIE = "curate_token"
MOST_JSON = 1 << 20
MOST_IMAGE = 20 << 20
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1", "[::1]"})
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": CONTENT_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


@dataclass(frozen=True)
class Door:
    """Who may come in.

    Attributes:
        hosts: names that a request may be addressed to, without port: a page that was made to
            resolve to this machine bears another name (DNS rebinding). Empty where any may.
        token: what a request must bear; None for a service that only this machine can reach.
    """

    hosts: frozenset[str] = LOOPBACK
    token: str | None = None


class Guard:
    """Checks each request, and adds the same headers to each response."""

    def __init__(self, app: App, door: Door) -> None:
        self._app = app
        self._door = door

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers one request, or hands it on."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        asked = _Request(scope)
        cookie = None
        refusal = self._refusal(asked)
        if refusal is None and self._door.token is not None and asked.query_token is not None:
            cookie = f"{COOKIE}={self._door.token}; HttpOnly; SameSite=Strict; Path=/"
        if refusal is not None:
            await _refuse(send, *refusal)
            return
        body = _Body(receive, asked.bound)
        answer = _with_headers(send, cookie)

        async def unless_too_large(message: Message) -> None:
            if not body.exceeded:
                await answer(message)

        await self._app(scope, body.read, unless_too_large)
        if body.exceeded:
            await _refuse(send, 413, f"the request has more than {asked.bound:,} bytes")

    def _refusal(self, asked: _Request) -> tuple[int, str] | None:
        if self._door.hosts and asked.host not in self._door.hosts:
            return 421, f"this service does not answer to the name {asked.host!r}"
        if asked.origin is not None and asked.origin != asked.address:
            return 403, "requests from other sites are not answered"
        if self._door.token is not None and not self._known(asked.tokens):
            return 401, "a token is needed: open the address that `curate serve` printed"
        if asked.sends_other_than_json:
            return 415, "send JSON, and say so: content-type: application/json"
        if asked.length > asked.bound:
            return 413, f"the request has {asked.length:,} bytes, at most {asked.bound:,} are read"
        return None

    def _known(self, tokens: Iterable[str]) -> bool:
        expected = (self._door.token or "").encode()
        return any(hmac.compare_digest(token.encode(), expected) for token in tokens)


class _Request:
    """What the guard looks at."""

    def __init__(self, scope: Message) -> None:
        self.headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        self.address = self.headers.get("host", "")
        self.host = _without_port(self.address)
        self.path = str(scope["path"])
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"), max_num_fields=100)
        self.query_token: str | None = query.get("token", [None])[0]
        self.is_image = self.path.startswith("/api/") and self.path.endswith("/search/image")
        self.bound = MOST_IMAGE if self.is_image else MOST_JSON
        self.method = str(scope["method"])

    @property
    def sends_other_than_json(self) -> bool:
        """True for what a form of another site could send without being asked first."""
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        return self.method == "POST" and not self.is_image and kind != "application/json"

    @property
    def length(self) -> int:
        """What the request says of its size."""
        said = self.headers.get("content-length", "0")
        return int(said) if said.isdigit() else 0

    @property
    def origin(self) -> str | None:
        """The site that sent the request, by its host and port; None where none is named."""
        said = self.headers.get("origin")
        return None if said is None else urlsplit(said).netloc

    @property
    def tokens(self) -> list[str]:
        """Every token that the request bears."""
        found = [] if self.query_token is None else [self.query_token]
        kind, _, bearer = self.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            found.append(bearer.strip())
        try:
            cookies = SimpleCookie(self.headers.get("cookie", ""))
        except CookieError:
            return found
        if COOKIE in cookies:
            found.append(cookies[COOKIE].value)
        return found


def _without_port(address: str) -> str:
    if address.startswith("["):
        return address.partition("]")[0] + "]"
    return address.partition(":")[0].lower()


class _Body:
    """A body that is read up to its bound, whatever its length was said to be."""

    def __init__(self, receive: Receive, bound: int) -> None:
        self._receive = receive
        self._left = bound
        self.exceeded = False

    async def read(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            if self._left < 0:
                self.exceeded = True
                return {"type": "http.disconnect"}
        return message


def _with_headers(send: Send, cookie: str | None) -> Send:
    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = {name for name, _ in message.get("headers", ())}
            extra = {**HEADERS, "cache-control": "no-store"}
            message["headers"] = [
                *message.get("headers", ()),
                *(
                    (name.encode(), value.encode())
                    for name, value in extra.items()
                    if name.encode() not in given
                ),
            ]
            if cookie is not None:
                message["headers"].append((b"set-cookie", cookie.encode()))
        await send(message)

    return answer


async def _refuse(send: Send, status: int, reason: str) -> None:
    body = json.dumps({"error": reason}).encode()
    answer = _with_headers(send, None)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await answer({"type": "http.response.start", "status": status, "headers": headers})
    await answer({"type": "http.response.body", "body": body})
