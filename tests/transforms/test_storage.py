"""Files are committed whole or not at all, here and on an object store."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from filters.core.errors import StoreError
from tests.transforms.reading import memory_folder
from transforms.storage import TEMPORARY, Folder, redact


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    return Folder(str(tmp_path / "store") if request.param == "local" else memory_folder())


def test_what_is_committed_can_be_read(folder: Folder) -> None:
    with folder.commit("deep/er/file.bin") as path:
        path.write_bytes(b"content")
        assert not folder.exists("deep/er/file.bin")
    assert folder.exists("deep/er/file.bin")
    assert folder.read_bytes("deep/er/file.bin") == b"content"
    with folder.open("deep/er/file.bin") as stream:
        stream.seek(3)
        assert stream.read() == b"tent"
    assert folder.names("deep/er") == ["file.bin"]
    assert folder.names("nowhere") == []


def test_a_commit_that_fails_leaves_nothing(folder: Folder) -> None:
    def failing() -> None:
        with folder.commit("file.bin") as path:
            path.write_bytes(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert not folder.exists("file.bin")
    assert folder.names("") == []


def test_a_commit_that_fails_keeps_the_old_file(folder: Folder) -> None:
    folder.write_json("a.json", 1)
    with pytest.raises(TypeError):
        folder.write_json("a.json", object())
    with pytest.raises(StoreError, match=r"can't write .*/a\.json"), folder.commit("a.json"):
        pass  # nothing was written
    assert folder.read_json("a.json") == 1


def test_json_is_the_same_bytes_for_the_same_content(folder: Folder) -> None:
    folder.write_json("a.json", {"b": "ü", "a": [1]})
    folder.write_json("b.json", {"a": [1], "b": "ü"})
    assert (
        folder.read_bytes("a.json")
        == folder.read_bytes("b.json")
        == '{\n "a": [\n  1\n ],\n "b": "ü"\n}\n'.encode()
    )


def test_broken_json_names_the_file_and_the_way_out(folder: Folder) -> None:
    with folder.commit("a.json") as path:
        path.write_bytes(b'{"rows": 1')
    with pytest.raises(StoreError, match=r"/a\.json is not JSON .*: delete it and run again"):
        folder.read_json("a.json")


def test_leftovers_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    folder.write_json("signals/a/0.json", 1)
    left = tmp_path / "signals" / "a" / f"1.parquet{TEMPORARY}abc"
    left.write_bytes(b"half")
    folder.remove_leftovers()
    assert not left.exists()
    assert folder.names("signals/a") == ["0.json"]
    Folder(str(tmp_path / "nowhere")).remove_leftovers()


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, r"no space left for .*/a\.json: free some and run again; what is done stays done"),
        (errno.EACCES, r"not allowed to write .*/a\.json: Permission denied"),
        (errno.EROFS, r"not allowed to write .*/a\.json: Read-only file system"),
        (errno.EIO, r"can't write .*/a\.json: .*Input/output error"),
    ],
)
def test_the_system_s_refusal_becomes_a_store_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, message: str
) -> None:
    def refuse(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StoreError, match=message):
        Folder(str(tmp_path)).write_json("a.json", 1)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB; only root may mount one."""
    where = tmp_path / "disk"
    where.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", where], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    yield where
    subprocess.run(["umount", where], check=True)


def test_a_full_disk_is_said_and_leaves_nothing(tiny_disk: Path) -> None:
    folder = Folder(str(tiny_disk))
    folder.write_json("small.json", 1)
    with pytest.raises(StoreError, match="no space left for"), folder.commit("large.bin") as path:
        path.write_bytes(bytes(200_000))
    assert folder.names("") == ["small.json"]


def test_what_is_removed_is_gone_and_what_is_absent_may_be_removed(folder: Folder) -> None:
    for name in ("deep/er/a.json", "deep/b.json", "c.json", "d.json"):
        folder.write_json(name, 1)
    for name in ("deep", "c.json", "deep", "nowhere"):
        folder.remove(name)
    assert folder.names("") == ["d.json"]


class ClientError(Exception):
    """One that is no OSError, as gcsfs's and botocore's are."""


ClientError.__module__ = "gcsfs.retry"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ClientError("busy, 503"), "can't reach memory://.*: ClientError: busy, 503"),
        (OSError("no route"), "can't reach memory://.*: no route"),
        (PermissionError("denied"), "not allowed to read memory://.*: denied"),
    ],
)
def test_an_object_store_that_can_not_be_read_becomes_a_store_error(
    error: Exception, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transforms.storage.WAIT_SECONDS", (0.0, 0.0))
    folder = Folder(memory_folder())
    asked = []

    def refuse(path: str) -> None:
        asked.append(path)
        raise error

    monkeypatch.setattr(folder.fs, "info", refuse)
    monkeypatch.setattr(folder.fs, "exists", refuse)
    with pytest.raises(StoreError, match=message):
        folder.exists("a.json")
    assert len(asked) == (1 if isinstance(error, PermissionError) else 3)
    with pytest.raises(StoreError, match=r"memory://\S+/a\.json: "):
        folder.remove("a.json")


def test_a_fault_of_our_own_stays_what_it_is() -> None:
    folder = Folder(memory_folder())
    with pytest.raises(ZeroDivisionError):
        folder.persistently(lambda: 1 // 0)


def test_a_store_error_names_no_secret() -> None:
    folder = Folder(memory_folder() + "?token=secret", {"skip_instance_cache": True})
    with pytest.raises(StoreError) as raised, folder.commit("a.json"):
        pass
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("s3://bucket/a.tar", "s3://bucket/a.tar"),
        ("https://user:secret@host/a.tar", "https://host/a.tar"),
        ("https://user:p@ss@host/a.tar", "https://host/a.tar"),
        ("https://host/a.tar?X-Amz-Signature=abc", "https://host/a.tar"),
        ("s3://bucket/me@home/a.tar", "s3://bucket/me@home/a.tar"),
        ("/data/what?/a.tar", "/data/what?/a.tar"),
        ("/data/a@b/c.tar", "/data/a@b/c.tar"),
    ],
)
def test_redacted_uris_hold_no_credentials(uri: str, shown: str) -> None:
    assert redact(uri) == shown


def test_options_stay_out_of_the_repr() -> None:
    assert "secret" not in repr(Folder("s3://bucket", {"key": "secret"}))


def test_paths_and_kinds() -> None:
    assert Folder("/a/b").path("c") == "/a/b/c"
    assert Folder("/a/b").local
    folder = Folder(memory_folder())
    assert not folder.local
    assert fsspec.filesystem("memory") is folder.fs
