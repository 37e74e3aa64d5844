"""An object store that fails every tenth call, and one that can't be written, cost no row and no byte."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import fsspec
import pytest
from fsspec.asyn import AsyncFileSystem

from curate.follow.calibrate import calibrate
from curate.follow.loop import Follower, FollowOptions
from curate.run import RunOptions, RunResult
from curate.runners.local import Local
from filters.core.errors import StoreError
from tests.end_to_end.conftest import GcsServer, S3Server, grow_disk
from tests.end_to_end.failing_store import FailingGcs, FailingS3
from tests.end_to_end.objects import assert_same_results, gcs_bucket
from tests.follow.following import PLAIN, curated_uids, make_pool, manifest_of
from tests.running import EVERYDAY, curate, files_of, plan_of
from transforms.store import Store

RETRYING = EVERYDAY.replace("retry_seconds: []", "retry_seconds: [0.0, 0.0, 0.0]")


@dataclass(frozen=True)
class Flaky:
    """A bucket that holds the small pool under `pool/`, behind a file system that fails.

    Attributes:
        kind: the file system's class, which counts.
        url: the bucket.
        fetch: gives a local folder with the files under a name.
        put: uploads a file under a name, past what fails.
    """

    kind: type[FailingS3 | FailingGcs]
    url: str
    fetch: Callable[[str], Path]
    put: Callable[[Path, str], object]

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

    def put(path: Path, name: str) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(path, folder / f"{name}.part")
        (folder / f"{name}.part").replace(folder / name)  # an object is there whole or not at all

    return Flaky(FailingS3, f"flaky://{folder.name}", lambda name: folder / name, put)


def flaky_gcs(server: GcsServer, pool: Path, fetched: Path, monkeypatch: pytest.MonkeyPatch) -> Flaky:
    bucket = gcs_bucket(server, pool)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.endpoint)
    monkeypatch.setitem(fsspec.config.conf, "flakygs", {"token": "anon"})

    def put(path: Path, name: str) -> None:
        bucket.fs.put_file(str(path), f"{bucket.name}/{name}")

    return Flaky(FailingGcs, f"flakygs://{bucket.name}", lambda name: bucket.fetch(name, fetched), put)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_store_and_pool_that_fail_every_tenth_call_give_the_same_results(
    flaky: Flaky, small_pool: Path, tmp_path: Path, workers: int
) -> None:
    local = curate(RETRYING, small_pool, tmp_path / "local")
    # The file system that fails is known in this process alone.
    run = curate(RETRYING, *flaky.place, runner=Local(workers=workers, processes=False))
    assert flaky.kind.failed >= 5
    assert flaky.kind.failed == flaky.kind.calls // 10
    assert run.manifest["failed_shards"] == []
    assert_same_results(tmp_path / "local", local, flaky.fetch("store"), run)


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
    assert_same_results(tmp_path / "local", local, flaky.fetch("store"), run)


def test_shards_that_arrive_while_calls_fail_are_decided_once(flaky: Flaky, tmp_path: Path) -> None:
    made, live = make_pool(tmp_path / "made", shards=6), tmp_path / "live"
    live.mkdir()

    def put_here(path: Path, name: str) -> None:
        shutil.copy(path, live / name)
        (live / f"{name}.done").touch()

    def put_there(path: Path, name: str) -> None:
        flaky.put(path, f"live/{name}")

    batches = [[0, 1], [2], [3, 4], [5]]
    follow_arriving(batches, made, put_here, str(live / "*.tar"), str(tmp_path / "local"))
    said = follow_arriving(batches, made, put_there, f"{flaky.url}/live/*.tar", f"{flaky.url}/followed")
    assert flaky.kind.failed == flaky.kind.calls // 10 >= 30
    assert len([text for text in said if text.startswith("batch ")]) == len(batches)
    fetched = flaky.fetch("followed")
    ours, theirs = manifest_of(tmp_path / "local"), manifest_of(fetched)
    assert [part["batch"] for part in theirs["parts"]] == [1, 1, 2, 3, 3, 4]
    assert len({part["uri"] for part in theirs["parts"]}) == 6
    assert theirs["failed_shards"] == []
    here, there = (RunResult(manifest["ledger"], manifest, {}) for manifest in (ours, theirs))
    assert_same_results(tmp_path / "local", here, fetched, there)
    curated = curated_uids(fetched, theirs["ledger"])
    assert set(curated.values()) == {1}
    assert len(curated) == theirs["verdicts"]["keep"] > 0


def follow_arriving(
    batches: Sequence[Sequence[int]], made: Path, put: Callable[[Path, str], object], pool: str, store: str
) -> list[str]:
    """Follows a pool whose next shards arrive whenever a batch is done; returns what was said."""
    arriving, said = iter(batches), []

    def arrive() -> None:
        for number in next(arriving, []):
            put(made / f"{number:05d}.tar", f"{number:05d}.tar")

    def say(text: str) -> None:
        said.append(text)
        if text.startswith("batch "):
            arrive()

    arrive()
    recipe = PLAIN.replace("retry_seconds: []", "retry_seconds: [0.0, 0.0, 0.0]")
    plan = plan_of(recipe, pool, store)
    calibrate(plan, RunOptions(), said.append)
    options = FollowOptions(every=0.02, until_idle=True)
    Follower(plan.recipe, Store.at(store), [pool], RunOptions(), options, say).follow()
    return said


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
