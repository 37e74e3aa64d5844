"""Who may ask, and what every answer says about itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from curate.serve.app import web_files
from curate.serve.command import Listening
from curate.serve.security import CONTENT_POLICY, HEADERS, MOST_IMAGE, MOST_JSON, Door
from tests.serve.conftest import client_of

TOKEN = "a-token-for-tests"  # noqa: S105  (no secret)


@pytest.mark.parametrize(
    "path", ["/", "/web/app.css", "/web/js/main.js", "/api/store", "/api/nothing", "/web/../x"]
)
def test_every_answer_carries_the_headers(client: TestClient, path: str) -> None:
    answer = client.get(path)
    for name, value in HEADERS.items():
        assert answer.headers[name] == value
    assert "access-control-allow-origin" not in answer.headers
    assert "unsafe" not in CONTENT_POLICY


@pytest.mark.parametrize("host", ["example.org", "127.0.0.1.example.org", "evil.test:80", ""])
def test_other_names_are_not_answered(client: TestClient, host: str) -> None:
    answer = client.get("/api/store", headers={"host": host})
    assert answer.status_code == 421
    assert client.get("/api/store", headers={"host": "localhost:8000"}).status_code == 200
    assert client.get("/api/store", headers={"host": "[::1]:8000"}).status_code == 200


def test_requests_from_other_sites_are_not_answered(client: TestClient, ledger: str) -> None:
    body = {"sql": "SELECT 1"}
    for origin in ("http://example.org", "null", "http://127.0.0.1:9"):
        answer = client.post(f"/api/decisions/{ledger}/sql", json=body, headers={"origin": origin})
        assert answer.status_code == 403
    same = client.post(f"/api/decisions/{ledger}/sql", json=body, headers={"origin": "http://127.0.0.1"})
    assert same.status_code == 200
    preflight = client.options(
        "/api/store", headers={"origin": "http://127.0.0.1", "access-control-request-method": "GET"}
    )
    assert preflight.status_code == 405


def test_json_must_be_called_json(client: TestClient, ledger: str) -> None:
    # A form of another site can send text, but not this type.
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        answer = client.post(
            f"/api/decisions/{ledger}/sql", content='{"sql": "SELECT 1"}', headers={"content-type": kind}
        )
        assert answer.status_code == 415, answer.text


@pytest.mark.parametrize(
    "path",
    ["/web/../app.py", "/web/%2e%2e/app.py", "/web/..%2fapp.py", "/web//etc/passwd", "/web/%2fetc%2fpasswd",
     "/web/js", "/web/", "/web/js/../../command.py", "/etc/passwd", "/%2e%2e/%2e%2e/etc/passwd",
     "/web/app.css%00.js"],
)  # fmt: skip
def test_no_path_reaches_the_file_system(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert "root:" not in answer.text


@pytest.mark.parametrize(
    "name", ["../../store.json", "..%2f..%2fstore.json", "%2e%2e", ".", "a" * 200, "x%00y"]
)
def test_no_decision_reaches_the_file_system(client: TestClient, name: str) -> None:
    for page in ("overview", "recipe", "columns"):
        assert client.get(f"/api/decisions/{name}/{page}").status_code in {404, 422}


def test_bodies_are_bounded(client: TestClient, ledger: str) -> None:
    large = client.post(f"/api/decisions/{ledger}/sql", json={"sql": "x" * (MOST_JSON + 1)})
    assert large.status_code == 413
    image = client.post(f"/api/decisions/{ledger}/search/image", content=b"x" * (MOST_IMAGE + 1))
    assert image.status_code == 413

    def chunks() -> object:
        for _ in range(30):
            yield b"x" * (MOST_JSON // 10)

    streamed = client.post(
        f"/api/decisions/{ledger}/sql",
        content=chunks(),
        headers={"content-type": "application/json"},  # type: ignore[arg-type]
    )
    assert streamed.status_code == 413


def test_a_token_is_needed_where_one_is_set(store: Path) -> None:
    with client_of(store, Door(frozenset(), TOKEN)) as client:
        for path in ("/", "/api/store", "/web/app.css", "/api/openapi.json"):
            answer = client.get(path)
            assert answer.status_code == 401
            assert "curate serve" in answer.json()["error"]
        assert client.get("/api/store?token=wrong").status_code == 401
        assert client.get("/api/store", headers={"authorization": "Bearer wrong"}).status_code == 401
        assert client.get("/api/store", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
        opened = client.get(f"/?token={TOKEN}")
        assert opened.status_code == 200
        cookie = opened.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert client.get("/api/store").status_code == 200  # by the cookie
        client.cookies.clear()
        assert client.get("/api/store", headers={"cookie": "curate_token=wrong"}).status_code == 401
        assert (
            client.get(
                "/api/store", headers={"host": "any.example.org", "authorization": f"Bearer {TOKEN}"}
            ).status_code
            == 200
        )


def test_only_loopback_goes_without_a_token() -> None:
    for host in ("127.0.0.1", "::1", "localhost", "127.1.2.3"):
        assert Listening(host).is_local
    for host in ("0.0.0.0", "192.168.1.2", "::", "example.org"):  # noqa: S104  (not bound)
        assert not Listening(host).is_local


def test_pages_load_nothing_from_elsewhere() -> None:
    for name, content in web_files().items():
        text = content.decode()
        found = re.findall(r"""(?:https?:)?(?<!\\)//[a-z0-9.-]+\.[a-z]{2,}""", text)
        assert set(found) <= {"http://www.w3.org"}, name
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text
        ), name
