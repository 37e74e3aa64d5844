"""Files by URL: local paths and every fsspec file system, with whole-file commits.

A local file is written under a temporary name, flushed to disk and renamed; on an object store it
is built locally and uploaded once under its final name. So a name that exists is complete.
Credentials travel in `storage_options` or the environment and never leave this module.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar

import fsspec
import numpy as np
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from numpy.typing import NDArray

from filters.core.errors import StoreError

logger = logging.getLogger("curate.storage")
TEMPORARY = ".tmp-"
# Between attempts at a call that an object store failed; its client may have tried it before, too.
WAIT_SECONDS = (0.2, 1.0, 4.0)
# Clients under fsspec whose errors need not be OSErrors.
CLIENT_PACKAGES = frozenset({"aiohttp", "azure", "botocore", "gcsfs", "google", "requests", "urllib3"})
# What a second attempt would find again.
LASTING = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)
Answer = TypeVar("Answer")


def redact(uri: str) -> str:
    """The URI without user name, password or query, fit for logs and ledgers."""
    if "://" not in uri:
        return uri
    return re.sub(r"://[^/]*@", "://", uri).split("?")[0]


@contextlib.contextmanager
def client_errors() -> Iterator[None]:
    """Makes an OSError of what an object store's client raises in its place, as gcsfs does for a 503."""
    try:
        yield
    except OSError:
        raise
    except Exception as cause:
        packages = {base.__module__.partition(".")[0] for base in type(cause).__mro__}
        if packages & CLIENT_PACKAGES:
            msg = f"{type(cause).__name__}: {cause}"
            raise OSError(msg) from cause
        raise


def persistently(call: Callable[[], Answer], fs: fsspec.AbstractFileSystem, uri: str) -> Answer:
    """What the call gives; beyond this machine one that fails in a way that may pass is tried again.

    Raises: the OSError of the last attempt; FileNotFoundError and the like of the first.
    """
    for wait in () if isinstance(fs, LocalFileSystem) else WAIT_SECONDS:
        try:
            with client_errors():
                return call()
        except LASTING:
            raise
        except OSError as cause:
            logger.warning("%s: %s; tried again", redact(uri), cause)
            time.sleep(wait)
    with client_errors():
        return call()


@dataclass(frozen=True)
class Folder:
    """A folder by URL, with the options its file system needs.

    Attributes:
        url: a local path or an fsspec URL, without a trailing slash.
        options: fsspec storage options; hidden from `repr`, since they may hold secrets.
    """

    url: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def fs(self) -> fsspec.AbstractFileSystem:
        """The file system, which remembers no listing; fsspec keeps one instance for each set of options."""
        fs = url_to_fs(self.url, **self.options)[0]
        # From a listing it would answer what is there, and how large: workers elsewhere write, too.
        fs.invalidate_cache()
        return fs

    @property
    def root(self) -> str:
        """The folder as the file system names it, without the protocol."""
        return str(url_to_fs(self.url, **self.options)[1]).rstrip("/")

    @property
    def local(self) -> bool:
        """True where files can be renamed, locked and memory-mapped."""
        return isinstance(self.fs, LocalFileSystem)

    def path(self, name: str) -> str:
        """The path of a file below this folder, as the file system names it."""
        return f"{self.root}/{name}"

    def exists(self, name: str) -> bool:
        """True where the file is there, and so complete."""
        return self.persistently(lambda: bool(self.fs.exists(self.path(name))))

    def names(self, below: str) -> list[str]:
        """The names of the files directly in a sub-folder, sorted; none where it is absent."""
        try:
            found = self.persistently(lambda: self.fs.ls(self.path(below), detail=False))
        except FileNotFoundError:
            return []
        return sorted(str(path).rstrip("/").rsplit("/", 1)[-1] for path in found)

    def open(self, name: str) -> IO[bytes]:
        """The file, opened for reading with seek."""
        stream: IO[bytes] = self.persistently(lambda: self.fs.open(self.path(name), "rb"))
        return stream

    def read(self, name: str, take: Callable[[IO[bytes]], Answer]) -> Answer:
        """What `take` makes of the opened file; tried again from its opening where reading fails."""

        def attempt() -> Answer:
            with self.fs.open(self.path(name), "rb") as stream:
                return take(stream)

        return self.persistently(attempt)

    def stamp(self, name: str) -> str:
        """Tells one version of a file from the next; empty where it is absent."""
        try:
            return self.persistently(lambda: str(self.fs.ukey(self.path(name))))
        except FileNotFoundError:
            return ""

    def read_bytes(self, name: str) -> bytes:
        """The file's content."""
        return self.persistently(lambda: bytes(self.fs.cat_file(self.path(name))))

    def persistently(self, call: Callable[[], Answer]) -> Answer:
        """What the call gives, tried again as `persistently` does.

        Raises: StoreError where the object store can't be reached or refuses; FileNotFoundError.
        """
        try:
            return persistently(call, self.fs, self.url)
        except PermissionError as cause:
            if self.local:
                raise
            msg = f"not allowed to read {redact(self.url)}: {cause}"
            raise StoreError(msg) from cause
        except LASTING:
            raise
        except OSError as cause:
            if self.local:
                raise
            msg = f"can't reach {redact(self.url)}: {cause}"
            raise StoreError(msg) from cause

    def read_json(self, name: str) -> Any:
        """The file's content, parsed.

        Raises: StoreError where the content is not JSON.
        """
        content = self.read_bytes(name)
        try:
            return json.loads(content)
        except ValueError as cause:
            msg = f"{redact(self.url)}/{name} is not JSON ({cause}): delete it and run again"
            raise StoreError(msg) from cause

    def write_json(self, name: str, content: object) -> None:
        """Commits the content as JSON with sorted keys, so that equal content is equal bytes."""
        text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        with self.commit(name) as path:
            path.write_text(text, encoding="utf-8")

    def write_array(self, name: str, array: NDArray[Any]) -> None:
        """Commits an array as npy."""
        with self.commit(name) as path, path.open("wb") as stream:
            np.save(stream, array, allow_pickle=False)

    @contextlib.contextmanager
    def commit(self, name: str) -> Iterator[Path]:
        """A local path to write to; it becomes the file `name` when the block ends well.

        Raises: StoreError where the disk is full or the store can't be written.
        """
        try:
            if self.local:
                yield from _commit_local(Path(self.path(name)))
            else:
                yield from _commit_remote(self, name)
        except OSError as cause:
            raise _store_error(self, name, cause) from cause

    def remove(self, name: str) -> None:
        """Deletes the file, or the folder with all below it; one that is absent is no error.

        Raises: StoreError where the store can't be written.
        """
        path = self.path(name)

        def attempt() -> None:
            # The attempt before may have got through though its answer was lost.
            with contextlib.suppress(FileNotFoundError):
                if self.fs.info(path)["type"] == "directory":  # `isdir` says no where it could not find out
                    self.fs.rm(path, recursive=True)
                else:
                    self.fs.rm_file(path)

        try:
            persistently(attempt, self.fs, self.url)
        except OSError as cause:
            raise _store_error(self, name, cause) from cause

    def remove_leftovers(self) -> None:
        """Deletes what a killed run had not finished; the caller holds the store's lock."""
        if self.local and Path(self.root).is_dir():
            for path in Path(self.root).rglob(f"*{TEMPORARY}*"):
                path.unlink(missing_ok=True)


def _commit_local(final: Path) -> Iterator[Path]:
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f"{final.name}{TEMPORARY}{uuid.uuid4().hex}")
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.replace(final)
        _fsync_folder(final.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _fsync_folder(folder: Path) -> None:
    """Makes the rename itself durable, so a done marker never outlives its data."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _commit_remote(folder: Folder, name: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="curate-") as place:
        built = Path(place) / name.rsplit("/", 1)[-1]
        yield built
        persistently(lambda: folder.fs.put_file(str(built), folder.path(name)), folder.fs, folder.url)


def _store_error(folder: Folder, name: str, cause: OSError) -> StoreError:
    where = f"{redact(folder.url)}/{name}"
    if cause.errno == errno.ENOSPC:
        return StoreError(f"no space left for {where}: free some and run again; what is done stays done")
    if cause.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return StoreError(f"not allowed to write {where}: {cause.strerror}")
    return StoreError(f"can't write {where}: {cause}")
