"""A real S3 server on loopback, built once with Go; and a small file system that can be full."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

CACHE = Path(__file__).parents[2] / ".cache"
VERSITYGW = "github.com/versity/versitygw/cmd/versitygw@latest"


@dataclass(frozen=True)
class S3Server:
    """A running server. A bucket is a folder of `folder`; make it there."""

    endpoint: str
    folder: Path
    key: str
    secret: str


def absent(reason: str) -> None:
    """Skips, or fails where everything is expected to be there."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def build_versitygw() -> Path:
    """The server's program, from the cache or built with Go."""
    program = CACHE / "bin" / "versitygw"
    if program.is_file():
        return program
    go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if go is None:
        absent("no S3 server: versitygw is not in .cache/bin, and there is no Go to build it with")
    program.parent.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        "GOBIN": str(program.parent),
        "GOPATH": str(CACHE / "go"),
        "CGO_ENABLED": "0",
    }
    built = subprocess.run(
        [str(go), "install", VERSITYGW], env=environment, capture_output=True, text=True, check=False
    )
    if built.returncode != 0:
        absent(f"no S3 server: Go could not build versitygw: {built.stderr[-300:]}")
    return program


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server with made-up credentials."""
    program = build_versitygw()
    folder = tmp_path_factory.mktemp("s3")
    port = free_port()
    server = S3Server(f"http://127.0.0.1:{port}", folder, "AKIDOFTHETESTS", "s3cr3t-of-the-tests")
    credentials = {"ROOT_ACCESS_KEY": server.key, "ROOT_SECRET_KEY": server.secret}
    with (folder.parent / "versitygw.log").open("wb") as log:
        process = subprocess.Popen(
            [str(program), "--port", f"127.0.0.1:{port}", "posix", str(folder)],
            env={**os.environ, **credentials},
            stdout=log,
            stderr=log,
        )
        try:
            wait_for(port)
            yield server
        finally:
            process.terminate()
            process.wait(timeout=20)


def wait_for(port: int) -> None:
    for _ in range(100):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    pytest.fail(f"the S3 server does not listen on port {port}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 200 kB; `grow_disk` makes it large."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"mounting a small file system is not allowed here: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        # Lazily: the error that the test holds keeps a file of it open.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def grow_disk(folder: Path) -> None:
    """Makes the small disk large."""
    subprocess.run(["mount", "-o", "remount,size=64m", str(folder)], check=True)
