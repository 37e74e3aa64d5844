"""Real S3 and GCS servers on loopback, built once with Go; and a small file system that can be full."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

CACHE = Path(__file__).parents[2] / ".cache"
VERSITYGW = "github.com/versity/versitygw/cmd/versitygw@latest"
FAKE_GCS = "github.com/fsouza/fake-gcs-server@v1.56.1"

# Read when gcsfs is imported: with it on, gcsfs asks the bucket's kind by gRPC, which the server here
# does not answer, for 60 s.
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"


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


@dataclass(frozen=True)
class GcsServer:
    """A running server, which keeps its objects in memory and asks for no credentials."""

    endpoint: str

    @property
    def options(self) -> dict[str, str]:
        """What gcsfs needs to know to reach it."""
        return {"token": "anon", "endpoint_url": self.endpoint}


def built_with_go(package: str) -> Path:
    """The program of a Go package, `path@version`, from the cache or built with Go."""
    name, _, version = package.rpartition("/")[2].partition("@")
    program = CACHE / "bin" / (name if version == "latest" else f"{name}-{version}")
    if program.is_file():
        return program
    go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if go is None:
        absent(f"{name} is not in .cache/bin, and there is no Go to build it with")
    program.parent.mkdir(parents=True, exist_ok=True)
    # Built apart and renamed, so that what stands under the name is whole.
    with tempfile.TemporaryDirectory(dir=CACHE) as apart:
        environment = {
            **os.environ,
            "GOBIN": apart,
            "GOPATH": str(CACHE / "go"),
            "GOFLAGS": "-modcacherw",
            "CGO_ENABLED": "0",
        }
        built = subprocess.run(
            [str(go), "install", package], env=environment, capture_output=True, text=True, check=False
        )
        if built.returncode != 0:
            absent(f"Go could not build {name}: {built.stderr[-300:]}")
        (Path(apart) / name).replace(program)
    return program


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server with made-up credentials."""
    program = built_with_go(VERSITYGW)
    folder = tmp_path_factory.mktemp("s3")
    port = free_port()
    server = S3Server(f"http://127.0.0.1:{port}", folder, "AKIDOFTHETESTS", "s3cr3t-of-the-tests")
    credentials = {"ROOT_ACCESS_KEY": server.key, "ROOT_SECRET_KEY": server.secret}
    command = [str(program), "--port", f"127.0.0.1:{port}", "posix", str(folder)]
    with listening(command, port, folder.parent / "versitygw.log", credentials):
        yield server


@pytest.fixture(scope="session")
def gcs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GcsServer]:
    """A GCS server without a bucket."""
    program = built_with_go(FAKE_GCS)
    port = free_port()
    server = GcsServer(f"http://127.0.0.1:{port}")
    place = ["-scheme", "http", "-host", "127.0.0.1", "-port", str(port)]
    # By these it knows which requests are for it, and where it tells a client to upload to.
    known = ["-public-host", f"127.0.0.1:{port}", "-external-url", server.endpoint]
    command = [str(program), *place, *known, "-backend", "memory", "-log-level", "warn"]
    with listening(command, port, tmp_path_factory.mktemp("gcs") / "fake-gcs-server.log", {}):
        yield server


@contextlib.contextmanager
def listening(command: Sequence[str], port: int, log: Path, extra: Mapping[str, str]) -> Iterator[None]:
    """A server that listens on this port of loopback until the block ends."""
    with (
        log.open("wb") as told,
        subprocess.Popen(command, env={**os.environ, **extra}, stdout=told, stderr=told) as process,
    ):
        try:
            wait_for(port, process, log)
            yield
        finally:
            process.terminate()
            process.wait(timeout=20)


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(100):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    pytest.fail(f"{process.args!r} does not listen on port {port}: {log.read_text()[-300:]}")


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
