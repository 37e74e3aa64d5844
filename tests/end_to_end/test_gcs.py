"""Pool and store on GCS give what local folders give."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import gcsfs
import pytest

from curate.explain import explain
from curate.query import open_decision
from filters.core.errors import StoreLocked
from tests.compared import compared_pool
from tests.curate.test_command_line import curate as command
from tests.end_to_end.conftest import GcsServer
from tests.end_to_end.objects import GcsBucket, assert_same_results, gcs_bucket
from tests.running import EVERYDAY, ask, curate, why
from tests.search.conftest import PICTURES
from transforms.storage import Folder
from transforms.store import Store


@pytest.fixture
def bucket(gcs_server: GcsServer, small_pool: Path) -> Iterator[GcsBucket]:
    """A bucket that holds the small pool under `pool/`."""
    yield gcs_bucket(gcs_server, small_pool)
    gcsfs.GCSFileSystem.clear_instance_cache()


@pytest.fixture
def in_environment(gcs_server: GcsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What FSSPEC_GS_TOKEN and STORAGE_EMULATOR_HOST give; fsspec reads its own when it is imported."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_server.endpoint)
    monkeypatch.setitem(fsspec.config.conf, "gs", {"token": "anon"})


def test_gcs_by_options_equals_a_local_run_and_is_measured_once(
    gcs_server: GcsServer, bucket: GcsBucket, small_pool: Path, tmp_path: Path
) -> None:
    options = gcs_server.options
    recipe = EVERYDAY.replace("retry_seconds: []", f"storage_options: {json.dumps(options)}")
    recipe = recipe.replace("report: false", f"report: false, storage_options: {json.dumps(options)}")
    pool, store = f"gs://{bucket.name}/pool/0000{{0..1}}.tar", f"gs://{bucket.name}/store"
    run = curate(recipe, pool, store)
    local = curate(EVERYDAY, small_pool, tmp_path / "local")
    assert_same_results(tmp_path / "local", local, bucket.fetch("store", tmp_path / "fetched"), run)
    assert run.manifest["parts"][0]["uri"] == f"gs://{bucket.name}/pool/00000.tar"
    said: list[str] = []
    harsher = curate(recipe.replace("pixels: 30", "pixels: 44"), pool, store, said=said)
    assert said[0] == "all 2 shards are measured"
    opened = Store.at(store, options)
    question = "SELECT count(*) AS n FROM samples WHERE verdict = 'keep'"
    assert ask(opened, question, harsher.ledger) == [{"n": harsher.counts["keep"]}]
    (found,) = explain(open_decision(opened, run.ledger), "000000000")
    assert found.votes == why(tmp_path / "local", "000000000", local.ledger).votes


@pytest.mark.usefixtures("in_environment")
def test_gcs_by_the_environment_equals_a_local_run(
    gcs_server: GcsServer, bucket: GcsBucket, small_pool: Path, tmp_path: Path
) -> None:
    store = f"gs://{bucket.name}/store"
    run = curate(EVERYDAY, f"gs://{bucket.name}/pool", store, workers=2)
    local = curate(EVERYDAY, small_pool, tmp_path / "local")
    assert_same_results(tmp_path / "local", local, bucket.fetch("store", tmp_path / "fetched"), run)
    question = ["query", store, "SELECT count(*) AS n FROM samples", "--format", "json"]
    told = subprocess.run(
        [sys.executable, "-c", "from curate.cli import main; main()", *question],
        env={**os.environ, "FSSPEC_GS_TOKEN": "anon", "STORAGE_EMULATOR_HOST": gcs_server.endpoint},
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    assert json.loads(told.stdout) == {"n": 12}
    assert told.stderr == ""  # nor of tasks of files that DuckDB leaves open


@pytest.mark.usefixtures("in_environment")
def test_a_store_on_gcs_is_searched(
    bucket: GcsBucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pool = compared_pool(tmp_path / "pictures")
    for path in sorted(pool.glob("*.tar")):
        bucket.fs.put_file(str(path), f"{bucket.name}/pictures/{path.name}")
    curate(PICTURES, pool, tmp_path / "local")
    curate(PICTURES, f"gs://{bucket.name}/pictures", f"gs://{bucket.name}/seen")
    said = []
    for store in (str(tmp_path / "local"), f"gs://{bucket.name}/seen"):
        assert command(monkeypatch, "index", store) == 0
        capfd.readouterr()
        assert command(monkeypatch, "search", store, "a ship", "-k", "5", "--format", "json") == 0
        found = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
        said.append([(row["uid"], row["caption"], row["verdict"]) for row in found])
    assert said[0] == said[1]
    assert len(said[0]) == 5


@pytest.mark.usefixtures("in_environment")
def test_a_second_run_on_one_gcs_store_stops_and_a_stale_lock_does_not_hold(
    bucket: GcsBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transforms.store.LOCK_WATCH_SECONDS", 0.1)
    url = f"gs://{bucket.name}/store"
    store = Store.at(url)
    store.prepare()
    lock = f"{bucket.name}/store/run.lock"
    with store.lock():
        with pytest.raises(StoreLocked, match="if it was killed, its hold ends"):
            curate(EVERYDAY, f"gs://{bucket.name}/pool", url)
        with pytest.raises(FileExistsError):  # as one that looked just before it was taken
            bucket.fs.pipe_file(lock, b"{}", mode="create")
    assert not bucket.fs.exists(lock)
    bucket.fs.pipe_file(lock, json.dumps({"host": "x", "pid": 1, "time": 0}).encode())
    assert curate(EVERYDAY, f"gs://{bucket.name}/pool", url).counts["keep"] == 6
    assert not bucket.fs.exists(lock)


@pytest.mark.usefixtures("in_environment")
def test_what_another_process_writes_to_a_listed_folder_is_seen(bucket: GcsBucket) -> None:
    """Left alone, gcsfs finds a new file absent and cuts a longer one to its old size."""
    folder = Folder(f"gs://{bucket.name}/store")
    folder.write_json("below/a.json", [1])
    assert folder.names("below") == ["a.json"]
    bucket.fs.pipe_file(f"{bucket.name}/store/below/b.json", b"[2]")
    bucket.fs.pipe_file(f"{bucket.name}/store/below/a.json", b"[1, 2, 3, 4, 5]")
    assert folder.read("below/a.json", lambda stream: stream.read()) == b"[1, 2, 3, 4, 5]"
    assert folder.names("below") == ["a.json", "b.json"]
    bucket.fs.pipe_file(f"{bucket.name}/store/below/c.json", b"[3]")
    assert folder.exists("below/c.json")


# gcsfs gives aiohttp 6 MiB as bytes, of which aiohttp warns.
@pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")
@pytest.mark.usefixtures("in_environment")
def test_files_and_folders_are_removed_and_large_ones_uploaded_in_pieces(bucket: GcsBucket) -> None:
    folder = Folder(f"gs://{bucket.name}/store")
    content = os.urandom(6 * 2**20)  # gcsfs sends up to 5 MiB as one request
    with folder.commit("below/large.bin") as path:
        path.write_bytes(content)
    assert folder.read_bytes("below/large.bin") == content
    before = folder.stamp("below/large.bin")
    folder.write_json("below/large.bin", 1)
    assert folder.stamp("below/large.bin") != before
    folder.write_json("below/deep/a.json", 1)
    folder.write_json("b.json", 1)
    for name in ("below", "b.json", "below", "nowhere"):
        folder.remove(name)
    assert folder.names("") == []
