"""A store: parts with one marker each, and one run at a time."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash

import transforms.store
from filters.core.errors import StoreError, StoreLocked
from tests.transforms.reading import memory_folder
from transforms.storage import TEMPORARY
from transforms.store import Store

TABLE = pa.table({"n": pa.array([1, 2, 3], pa.int32()), "s": pa.array(["a", None, "c"])})


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store.at(str(tmp_path / "store") if request.param == "local" else memory_folder())


def test_a_part_is_committed_with_its_arrays_and_a_marker(store: Store) -> None:
    array = np.arange(6, dtype=np.float16).reshape(3, 2)
    store.write_part("signals/x", "p", TABLE, marker={"shard": "s"}, extra={"embeddings/x/p.npy": array})
    assert store.read_part("signals/x", "p").equals(TABLE)
    assert store.read_part("signals/x", "p", ["s"]).column_names == ["s"]
    assert np.array_equal(store.read_array("embeddings/x/p.npy"), array)
    marker = store.done("signals/x", "p")
    assert marker is not None
    assert (marker["rows"], marker["shard"]) == (3, "s")
    content = store.folder.read_bytes("signals/x/p.parquet")
    receipt = {"bytes": len(content), "xxh3_128": xxhash.xxh3_128_hexdigest(content)}
    assert marker["files"]["signals/x/p.parquet"] == receipt
    assert sorted(marker["files"]) == ["embeddings/x/p.npy", "signals/x/p.parquet"]


def test_without_its_marker_a_part_is_not_done(store: Store) -> None:
    assert store.done("signals/x", "p") is None
    with pytest.raises(TypeError):
        store.write_part("signals/x", "p", TABLE, marker={"bad": object()})
    assert store.folder.exists("signals/x/p.parquet")
    assert store.done("signals/x", "p") is None


def test_parquet_bytes_depend_on_the_table_alone(store: Store) -> None:
    with_metadata = TABLE.replace_schema_metadata({"made": "today"})
    store.write_part("a", "p", TABLE, marker={})
    store.write_part("b", "p", with_metadata, marker={})
    assert store.folder.read_bytes("a/p.parquet") == store.folder.read_bytes("b/p.parquet")


def test_labels_keep_their_dictionary_type_and_no_rows_are_fine(store: Store) -> None:
    labels = pa.array(["x", "x", None]).dictionary_encode()
    store.write_part("a", "p", pa.table({"l": labels}), marker={})
    assert pa.types.is_dictionary(store.read_part("a", "p").schema.field("l").type)
    store.write_part("a", "none", TABLE.slice(0, 0), marker={})
    assert store.read_part("a", "none").num_rows == 0
    content = store.folder.open("a/p.parquet")
    with content:
        assert pq.ParquetFile(content).metadata.row_group(0).column(0).compression == "ZSTD"


def test_a_store_is_made_and_recognised(store: Store) -> None:
    with pytest.raises(
        StoreError, match=r"is not a Curate store \(no store\.json\): run a recipe with --store first"
    ):
        store.check()
    store.prepare()
    store.check()
    store.prepare()
    assert store.folder.read_json("store.json") == {"curate_store": 1}


@pytest.mark.parametrize("content", [{"curate_store": 2}, {}, [1]])
def test_a_store_of_another_version_is_refused(store: Store, content: object) -> None:
    store.folder.write_json("store.json", content)
    with pytest.raises(
        StoreError, match=r"has store layout .*, this Curate reads 1: use the version that wrote it"
    ):
        store.prepare()


def test_a_second_lock_in_this_process_is_refused(store: Store) -> None:
    with store.lock(), pytest.raises(StoreLocked, match=f"process {os.getpid()} on "), store.lock():
        pass
    with store.lock():
        pass


def test_a_lock_is_let_go_after_an_error(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.lock():
        raise ZeroDivisionError
    with store.lock():
        pass


HOLD = """
import sys, time
from transforms.store import Store
with Store.at(sys.argv[1]).lock():
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the store in `tmp_path`."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_store_held_by_another_process_names_it(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    message = (
        f"process {holder.pid} on .* is writing to the store {tmp_path}: wait for it or use another --store$"
    )
    with pytest.raises(StoreLocked, match=message), Store.at(str(tmp_path)).lock():
        pass


def test_the_lock_of_a_killed_process_is_free_at_once(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    left = tmp_path / f"signals.parquet{TEMPORARY}1"
    left.write_bytes(b"half")
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with Store.at(str(tmp_path)).lock():
        assert not left.exists()


def test_a_file_system_without_locks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with (
        pytest.raises(StoreError, match=r"can't lock the store .*No locks available") as raised,
        Store.at(str(tmp_path)).lock(),
    ):
        pass
    assert not isinstance(raised.value, StoreLocked)


def test_a_place_that_can_not_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = Store.at(str(tmp_path / "file" / "store"))
    with (
        pytest.raises(StoreError, match=r"can't write to the store .*/file/store: Not a directory"),
        store.lock(),
    ):
        pass


# --- locks on an object store


def remote_lock(store: Store, *, age: float, pid: int = 77) -> str:
    path = store.folder.path("run.lock")
    content = json.dumps({"host": "far", "pid": pid, "time": time.time() - age})
    store.folder.fs.pipe_file(path, content.encode())
    return path


def test_a_fresh_remote_lock_is_respected() -> None:
    store = Store.at(memory_folder())
    path = remote_lock(store, age=10)
    with (
        pytest.raises(StoreLocked, match=r"process 77 on far .*if it was killed, its hold ends after 60 s"),
        store.lock(),
    ):
        pass
    assert json.loads(store.folder.fs.cat_file(path))["pid"] == 77


@pytest.mark.parametrize("content", [None, b"", b"[]", b'{"pid": 1}'])
def test_a_stale_or_foreign_remote_lock_is_taken_over(
    content: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transforms.store, "LOCK_WATCH_SECONDS", 0.01)
    store = Store.at(memory_folder())
    path = remote_lock(store, age=61)
    if content is not None:
        store.folder.fs.pipe_file(path, content)
    with store.lock():
        assert json.loads(store.folder.fs.cat_file(path))["pid"] == os.getpid()
    assert not store.folder.exists("run.lock")


@pytest.mark.parametrize("hours", [-1, 1], ids=["from the future", "of long ago"])
def test_a_lock_that_is_renewed_holds_though_a_clock_jumped(
    hours: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transforms.store, "LOCK_WATCH_SECONDS", 0.2)
    store = Store.at(memory_folder())
    path = remote_lock(store, age=3600 * hours)
    renewing = threading.Timer(0.05, lambda: remote_lock(store, age=3600 * hours - 1))
    renewing.start()
    with pytest.raises(StoreLocked, match="process 77 on far"), store.lock():
        pass
    renewing.join()
    assert json.loads(store.folder.fs.cat_file(path))["pid"] == 77


def test_the_lock_of_a_dead_run_with_a_clock_ahead_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transforms.store, "LOCK_WATCH_SECONDS", 0.01)
    store = Store.at(memory_folder())
    remote_lock(store, age=-3600)
    with store.lock():
        pass
    assert not store.folder.exists("run.lock")


def test_of_two_that_take_a_remote_lock_at_once_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store.at(memory_folder())

    def nothing_there(_: str) -> bytes:
        raise FileNotFoundError

    monkeypatch.setattr(store.folder.fs, "cat_file", nothing_there)
    with store.lock(), pytest.raises(StoreLocked, match="another run is writing"), store.lock():
        pass


def test_a_remote_lock_that_was_made_though_its_answer_got_lost_is_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transforms.storage, "WAIT_SECONDS", (0.0,))
    store = Store.at(memory_folder())
    fs = store.folder.fs
    pipe, remove = fs.pipe_file, fs.rm_file
    lost = iter([OSError("no answer"), OSError("no answer")])

    def answer(error: OSError | None) -> None:
        if error:
            raise error

    def piped(path: str, content: bytes, **how: object) -> None:
        if fs.exists(path) and how.get("mode") == "create":
            raise FileExistsError(path)
        pipe(path, content, **how)
        answer(next(lost, None))

    def removed(path: str) -> None:
        remove(path)
        answer(next(lost, None))

    monkeypatch.setattr(fs, "pipe_file", piped)
    monkeypatch.setattr(fs, "rm_file", removed)
    with store.lock():
        assert json.loads(fs.cat_file(store.folder.path("run.lock")))["pid"] == os.getpid()
    assert next(lost, None) is None
    assert not store.folder.exists("run.lock")


def test_a_remote_lock_is_renewed_even_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transforms.store, "LOCK_REFRESH_SECONDS", 0.02)
    store = Store.at(memory_folder())
    fs = store.folder.fs
    pipe, failures = fs.pipe_file, iter([OSError("network")])

    def flaky(path: str, content: bytes, **how: object) -> None:
        if "mode" not in how and (error := next(failures, None)):
            raise error
        pipe(path, content, **how)

    monkeypatch.setattr(fs, "pipe_file", flaky)
    with store.lock():
        first = json.loads(fs.cat_file(store.folder.path("run.lock")))["time"]
        end = time.monotonic() + 5
        while json.loads(fs.cat_file(store.folder.path("run.lock")))["time"] == first:
            assert time.monotonic() < end
            time.sleep(0.01)
    assert not [thread for thread in threading.enumerate() if thread.name == "store-lock"]
