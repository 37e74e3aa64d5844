"""An object store that fails every tenth call, and one that can't be written, cost no row and no byte."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import s3fs
from fsspec.asyn import sync_wrapper

from filters.core.errors import StoreError
from tests.end_to_end.conftest import S3Server, grow_disk
from tests.end_to_end.test_s3 import assert_same_results
from tests.running import EVERYDAY, curate, files_of

RETRYING = EVERYDAY.replace("retry_seconds: []", "retry_seconds: [0.0, 0.0, 0.0]")


class EveryTenthFails(s3fs.S3FileSystem):
    """S3 whose every tenth call is answered by an error; all instances count together."""

    protocol = ("flaky", "s3")
    calls = 0
    failed = 0
    healthy = False

    async def _call_s3(self, method: str, *parts: Any, **how: Any) -> Any:
        kind = type(self)
        kind.calls += 1
        if kind.calls % 10 == 0 and not kind.healthy:
            kind.failed += 1
            raise OSError(errno.EIO, f"{method}: the network is down for a moment")
        return await super()._call_s3(method, *parts, **how)

    call_s3 = sync_wrapper(_call_s3)


@pytest.fixture
def flaky(s3_server: S3Server, small_pool: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder behind a bucket, which holds the small pool; `flaky://` fails every tenth call to it."""
    monkeypatch.setattr("transforms.storage.WAIT_SECONDS", (0.0, 0.0, 0.0))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    fsspec.register_implementation("flaky", EveryTenthFails, clobber=True)
    monkeypatch.setattr(EveryTenthFails, "calls", 0)
    monkeypatch.setattr(EveryTenthFails, "failed", 0)
    folder = s3_server.folder / f"bucket-{uuid.uuid4().hex[:8]}"
    shutil.copytree(small_pool, folder / "pool")
    yield folder
    EveryTenthFails.clear_instance_cache()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_store_and_pool_that_fail_every_tenth_call_give_the_same_results(
    flaky: Path, small_pool: Path, tmp_path: Path, workers: int
) -> None:
    local = curate(RETRYING, small_pool, tmp_path / "local")
    run = curate(RETRYING, f"flaky://{flaky.name}/pool/*.tar", f"flaky://{flaky.name}/store", workers=workers)
    assert EveryTenthFails.failed >= 5
    assert run.manifest["failed_shards"] == []
    assert_same_results(tmp_path / "local", local, flaky / "store", run)


def test_a_store_that_stays_away_stops_the_run_and_the_next_goes_on(
    flaky: Path, small_pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = curate(RETRYING, small_pool, tmp_path / "local")
    true_put = EveryTenthFails._put_file

    async def refuse(self: Any, source: str, target: str, **how: Any) -> Any:
        if "/ledger/" in target:
            raise OSError(errno.EIO, "the network is down")
        return await true_put(self, source, target, **how)

    place = f"flaky://{flaky.name}/pool/*.tar", f"flaky://{flaky.name}/store"
    with monkeypatch.context() as broken:
        broken.setattr(EveryTenthFails, "_put_file", refuse)
        EveryTenthFails.clear_instance_cache()
        with pytest.raises(StoreError, match=r"can't write \S+/ledger/\S+: .*the network is down"):
            curate(RETRYING, *place)
    monkeypatch.setattr(EveryTenthFails, "healthy", True)
    EveryTenthFails.clear_instance_cache()
    said: list[str] = []
    run = curate(RETRYING, *place, said=said)
    assert said[0] == "all 2 shards are measured"
    assert_same_results(tmp_path / "local", local, flaky / "store", run)


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
