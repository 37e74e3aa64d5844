"""The store: where each signal, embedding, relation, artefact and ledger of a run lies.

    signals/<measure>-<fp>/<part>.parquet       one row for each input row, in the same order
    embeddings/<encoder>-<fp>/{img,txt}/<part>.npy
    relations/<fp>/<part>.parquet
    artefacts/<fp>.json
    ledger/<recipe>-<fp>/<part>.parquet, manifest.json
    curated/<recipe>-<fp>/, subsets/<recipe>-<fp>.npy, report/<recipe>-<fp>/
    evaluate/<recipe>-<fp>.json, trainings/<fp>.json
    failures/<measure>-<fp>/<part>.parquet
    calibrations/<recipe>-<fp>/<number>.json    what fitted filters found, kept for continuous runs
    follow/<recipe>-<fp>/                       a continuous run's batch under way, facts of shards, memory
    attempts/<part>.json                        shards that may have killed who measured them
    runs/<time>-<recipe>.json                   what was run and how long it took; never read by a run

Beside each part stands `<part>.done.json`, the only commit marker: rows, sizes and checksums.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from filters.core.errors import StoreError, StoreLocked
from transforms.fingerprints import file_fingerprint
from transforms.storage import Folder, client_errors, redact

logger = logging.getLogger("curate.store")

STORE_VERSION = 1
ROW_GROUP = 1 << 13  # a row's texts are read in milliseconds; fewer rows would make scans slower
LOCK_REFRESH_SECONDS = 15.0  # of a lock on an object store
LOCK_STALE_SECONDS = 60.0
LOCK_WATCH_SECONDS = 2 * LOCK_REFRESH_SECONDS  # that one which looks stale is watched


@dataclass(frozen=True)
class Store:
    """A store at a local path or fsspec URL."""

    folder: Folder

    @classmethod
    def at(cls, url: str, options: Mapping[str, Any] | None = None) -> Store:
        """The store at this path or URL; nothing is created yet."""
        return cls(Folder(url.rstrip("/") or "/", options or {}))

    # --- life of a store

    def prepare(self) -> None:
        """Makes the store, or checks that this version can write to it.

        Raises: StoreError where it was written by another version of the layout.
        """
        if self.folder.exists("store.json"):
            self.check()
        else:
            self.folder.write_json("store.json", {"curate_store": STORE_VERSION})

    def check(self) -> None:
        """Raises StoreError unless this is a store that this version can read."""
        where = redact(self.folder.url)
        if not self.folder.exists("store.json"):
            msg = f"{where} is not a Curate store (no store.json): run a recipe with --store first"
            raise StoreError(msg)
        found = self.folder.read_json("store.json")
        version = found.get("curate_store") if isinstance(found, dict) else None
        if version != STORE_VERSION:
            msg = (
                f"{where} has store layout {version!r}, this Curate reads {STORE_VERSION}: "
                "use the version that wrote it, or another --store"
            )
            raise StoreError(msg)

    @contextlib.contextmanager
    def lock(self, *, tidy: bool = True) -> Iterator[None]:
        """Holds the store for this run; a killed local run lets go of it at once.

        tidy: first delete what a killed run had not finished, for which the whole store is looked
            through.
        Raises: StoreLocked where another run holds it.
        """
        with _local_lock(self.folder) if self.folder.local else _remote_lock(self.folder):
            if tidy:
                self.folder.remove_leftovers()
            yield

    # --- parts

    def done(self, group: str, part: str) -> dict[str, Any] | None:
        """The part's commit marker in this group, or None where it is not complete."""
        name = f"{group}/{part}.done.json"
        try:
            found = self.folder.read_json(name)
        except FileNotFoundError:
            return None
        return found if isinstance(found, dict) else None

    def write_part(
        self,
        group: str,
        part: str,
        table: pa.Table,
        *,
        marker: Mapping[str, object],
        extra: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        """Commits one part: Parquet, arrays beside it, and last the marker.

        extra: file name below the store -> array, saved as npy before the marker.
        """
        files = {}
        for name, array in (extra or {}).items():
            with self.folder.commit(name) as path:
                with path.open("wb") as stream:
                    np.save(stream, array, allow_pickle=False)
                files[name] = _receipt(path)
        name = f"{group}/{part}.parquet"
        with self.folder.commit(name) as path:
            write_parquet(table, path)
            files[name] = _receipt(path)
        content = {**marker, "rows": table.num_rows, "files": files}
        self.folder.write_json(f"{group}/{part}.done.json", content)

    def read_part(self, group: str, part: str, columns: list[str] | None = None) -> pa.Table:
        """One part's columns."""
        return self.folder.read(
            f"{group}/{part}.parquet",
            lambda stream: pq.read_table(stream, columns=columns, use_threads=False),
        )

    def read_array(self, name: str) -> NDArray[Any]:
        """An array of the store; memory-mapped where the store is local."""
        if self.folder.local:
            mapped: NDArray[Any] = np.load(self.folder.path(name), mmap_mode="r")
            return mapped
        loaded: NDArray[Any] = self.folder.read(name, lambda stream: np.load(stream, allow_pickle=False))
        return loaded


def write_parquet(table: pa.Table, path: Path) -> None:
    """Writes Parquet whose bytes depend on the table alone."""
    pq.write_table(
        table.replace_schema_metadata(None),
        path,
        compression="zstd",
        compression_level=1,
        use_dictionary=_repetitive(table.schema),
        column_encoding=_unique(table.schema),
        write_statistics=True,
        row_group_size=ROW_GROUP,
        store_schema=True,
    )


def _unique(schema: pa.Schema) -> dict[str, str]:
    """Keys and hashes never repeat: lengths apart from bytes are smaller and faster than plain."""
    names = [item.name for item in schema if item.name in ("uid", "key", "bytes_hash", "pixels_hash")]
    return dict.fromkeys(names, "DELTA_LENGTH_BYTE_ARRAY")


def _repetitive(schema: pa.Schema) -> list[str]:
    """Dictionary columns are worth a Parquet dictionary; unique text and floats are not."""
    return [item.name for item in schema if pa.types.is_dictionary(item.type)]


def _receipt(path: Path) -> dict[str, object]:
    return {"bytes": path.stat().st_size, "xxh3_128": file_fingerprint(path)}


# --- locks


@contextlib.contextmanager
def _local_lock(folder: Folder) -> Iterator[None]:
    path = Path(folder.path("run.lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("ab+", buffering=0)
    except OSError as cause:
        msg = f"can't write to the store {redact(folder.url)}: {cause.strerror or cause}"
        raise StoreError(msg) from cause
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as cause:
            handle.seek(0)
            raise _locked(folder, handle.read().decode()) from cause
        except OSError as cause:
            msg = f"can't lock the store {redact(folder.url)}: {cause.strerror}; its file system has no locks"
            raise StoreError(msg) from cause
        handle.truncate(0)
        with contextlib.suppress(OSError):  # on a full disk the lock holds too, it only says not whose
            handle.write(json.dumps(_holder()).encode())
        try:
            yield
        finally:
            handle.truncate(0)


@dataclass
class _Heartbeat:
    """Renews an object store's lock until stopped."""

    folder: Folder
    path: str
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Renews the lock; one that can't be renewed for a while is renewed later."""
        while not self.stopped.wait(LOCK_REFRESH_SECONDS):
            try:
                with client_errors():
                    self.folder.fs.pipe_file(self.path, json.dumps(_holder()).encode())
            except OSError as cause:
                logger.warning("can't renew the lock of %s: %s", redact(self.folder.url), cause)


@contextlib.contextmanager
def _remote_lock(folder: Folder) -> Iterator[None]:
    """A lock object with a heartbeat, created only where none is there (or it went stale)."""
    path = folder.path("run.lock")
    try:
        content = folder.read_bytes("run.lock")
    except FileNotFoundError:
        pass
    else:
        if abs(time.time() - _time_of(content)) < LOCK_STALE_SECONDS or _renewed(folder, content):
            raise _locked(folder, content.decode())
        folder.remove("run.lock")
    _create_lock(folder, path)
    heartbeat = _Heartbeat(folder, path)
    thread = threading.Thread(target=heartbeat.run, name="store-lock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        heartbeat.stopped.set()
        thread.join()
        folder.remove("run.lock")


def _create_lock(folder: Folder, path: str) -> None:
    content = json.dumps(_holder()).encode()
    try:
        folder.persistently(lambda: folder.fs.pipe_file(path, content, mode="create"))
    except FileExistsError as cause:
        # It is ours where an attempt got through though its answer was lost.
        found = b""
        with contextlib.suppress(FileNotFoundError):
            found = folder.read_bytes("run.lock")
        if found != content:
            raise _locked(folder, found.decode()) from cause


def _renewed(folder: Folder, before: bytes) -> bool:
    """Whether a lock that looks stale, or from the future, is alive: a clock, ours too, may be wrong."""
    time.sleep(LOCK_WATCH_SECONDS)
    try:
        return folder.read_bytes("run.lock") != before
    except FileNotFoundError:
        return False


def _time_of(content: bytes) -> float:
    """When the lock was last renewed, in Unix seconds; 0 where it is none of ours."""
    try:
        return float(json.loads(content)["time"])
    except (ValueError, KeyError, TypeError):
        return 0.0


def _holder() -> dict[str, object]:
    return {"host": socket.gethostname(), "pid": os.getpid(), "time": time.time()}


def _locked(folder: Folder, content: str) -> StoreLocked:
    try:
        found = json.loads(content)
        who = f"process {found['pid']} on {found['host']}"
    except (ValueError, KeyError, TypeError):
        who = "another run"
    after = "" if folder.local else f"; if it was killed, its hold ends after {LOCK_STALE_SECONDS:g} s"
    return StoreLocked(
        f"{who} is writing to the store {redact(folder.url)}: wait for it or use another --store{after}"
    )
