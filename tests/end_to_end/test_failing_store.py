"""An object store that fails every tenth call, and one that can't be written, cost no row and no byte."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import fsspec
import pytest
from fsspec.asyn import AsyncFileSystem

from filters.core.errors import StoreError
from tests.end_to_end.conftest import GcsServer, S3Server, grow_disk
from tests.end_to_end.failing_store import FailingGcs, FailingS3
from tests.end_to_end.objects import assert_same_results, gcs_bucket
from tests.running import EVERYDAY, curate, files_of

RETRYING = EVERYDAY.replace("retry_seconds: []", "retry_seconds: [0.0, 0.0, 0.0]")


@dataclass(frozen=True)
class Flaky:
    """A bucket that holds the small pool under `pool/`, behind a file system that fails.

    Attributes:
        kind: the file system's class, which counts.
        url: the bucket.
        fetch: gives a local folder with the store's files.
    """

    kind: type[FailingS3 | FailingGcs]
    url: str
    fetch: Callable[[], Path]

    @property
    def place(self) -> tuple[str, str]:
        """Pool and store."""
        return f"{self.url}/pool/*.tar", f"{self.url}/store"


@pytest.fixture(params=["s3", "gcs"])
def flaky(
    request: pytest.FixtureRequest, small_pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Flaky]:
    """Each object store, whose every tenth call fails."""
    monkeypatch.setattr("transforms.storage.WAIT_SECONDS", (0.0, 0.0, 0.0))
    kind: type[AsyncFileSystem]
    if request.param == "s3":
        found = flaky_s3(request.getfixturevalue("s3_server"), small_pool, monkeypatch)
    else:
        found = flaky_gcs(
            request.getfixturevalue("gcs_server"), small_pool, tmp_path / "fetched", monkeypatch
        )
    kind = found.kind
    fsspec.register_implementation(kind.protocol[0], kind, clobber=True)
    for name, value in (("calls", 0), ("failed", 0), ("healthy", False), ("away", "")):
        monkeypatch.setattr(kind, name, value)
    yield found
    kind.clear_instance_cache()


def flaky_s3(server: S3Server, pool: Path, monkeypatch: pytest.MonkeyPatch) -> Flaky:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    folder = server.folder / f"bucket-{uuid.uuid4().hex[:8]}"
    shutil.copytree(pool, folder / "pool")
    return Flaky(FailingS3, f"flaky://{folder.name}", lambda: folder / "store")


def flaky_gcs(server: GcsServer, pool: Path, fetched: Path, monkeypatch: pytest.MonkeyPatch) -> Flaky:
    bucket = gcs_bucket(server, pool)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.endpoint)
    monkeypatch.setitem(fsspec.config.conf, "flakygs", {"token": "anon"})
    return Flaky(FailingGcs, f"flakygs://{bucket.name}", lambda: bucket.fetch("store", fetched))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_store_and_pool_that_fail_every_tenth_call_give_the_same_results(
    flaky: Flaky, small_pool: Path, tmp_path: Path, workers: int
) -> None:
    local = curate(RETRYING, small_pool, tmp_path / "local")
    run = curate(RETRYING, *flaky.place, workers=workers)
    assert flaky.kind.failed >= 5
    assert flaky.kind.failed == flaky.kind.calls // 10
    assert run.manifest["failed_shards"] == []
    assert_same_results(tmp_path / "local", local, flaky.fetch(), run)


def test_a_store_that_stays_away_stops_the_run_and_the_next_goes_on(
    flaky: Flaky, small_pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = curate(RETRYING, small_pool, tmp_path / "local")
    with monkeypatch.context() as broken:
        broken.setattr(flaky.kind, "away", "ledger/")
        away = "the network is down|the server is busy"
        with pytest.raises(StoreError, match=rf"can't (write|reach) {flaky.url}/store\S*: .*({away})"):
            curate(RETRYING, *flaky.place)
    monkeypatch.setattr(flaky.kind, "healthy", True)
    flaky.kind.clear_instance_cache()
    said: list[str] = []
    run = curate(RETRYING, *flaky.place, said=said)
    assert said[0] == "all 2 shards are measured"
    assert_same_results(tmp_path / "local", local, flaky.fetch(), run)


def test_a_store_that_became_read_only_is_told_and_can_be_gone_on_with(
    small_pool: Path, tmp_path: Path, small_disk: Path
) -> None:
    grow_disk(small_disk)
    store = small_disk / "store"
    curate(EVERYDAY, small_pool, store)
    other = EVERYDAY.replace("min_side_pixels: 30", "min_side_pixels: 44")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    try:
        with pytest.raises(
            StoreError, match=rf"can't write to the store {store}: {os.strerror(errno.EROFS)}"
        ):
            curate(other, small_pool, store)
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    curate(other, small_pool, store)
    curate(EVERYDAY, small_pool, tmp_path / "store")
    curate(other, small_pool, tmp_path / "store")
    assert files_of(store) == files_of(tmp_path / "store")
