"""A file system for readers that open a file and never close it, as DuckDB's do."""

from __future__ import annotations

from typing import Any

from fsspec import AbstractFileSystem


class ReadAhead(AbstractFileSystem):  # type: ignore[misc]  # fsspec tells no types
    """The files of another file system, each read in blocks by its reader's own thread.

    gcsfs left alone fetches by tasks of each open file, and one that is never closed ends the
    process with an error message for each.
    """

    cachable = False

    def __init__(self, fs: AbstractFileSystem) -> None:
        super().__init__()
        self._fs = fs
        self.protocol = fs.protocol

    def _open(self, path: str, mode: str = "rb", **_how: Any) -> Any:
        return self._fs.open(path, mode, cache_type="readahead")

    def info(self, path: str, **how: Any) -> Any:
        """Size and kind of a file, as the other tells it."""
        return self._fs.info(path, **how)

    def ls(self, path: str, detail: bool = True, **how: Any) -> Any:  # noqa: FBT001, FBT002  (fsspec's)
        """The files in a folder, as the other tells it."""
        return self._fs.ls(path, detail=detail, **how)

    def modified(self, path: str) -> Any:
        """When a file was last changed, as the other tells it."""
        return self._fs.modified(path)
