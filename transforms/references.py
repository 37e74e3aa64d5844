"""Embeddings that a user brings: npy and npz files by path, glob or URL, and what names their content."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import braceexpand
import fsspec
import numpy as np
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from numpy.typing import NDArray

from filters.core.catalogue import nearest
from filters.core.errors import RecipeError
from transforms.fingerprints import stream_fingerprint, weights_fingerprint
from transforms.storage import redact

PIECE_ROWS = 65_536
MAX_FILES = 100_000


@dataclass(frozen=True)
class EmbeddingFile:
    """One array of embeddings in a file; picklable.

    Attributes:
        uri: path or URL; array: its name in an npz, None for an npy.
        rows, width: its shape.
    """

    uri: str
    array: str | None
    rows: int
    width: int

    @property
    def name(self) -> str:
        """The file's name, without its folder."""
        return self.uri.rsplit("/", 1)[-1]

    def pieces(self) -> list[tuple[int, int]]:
        """Ranges of rows that can be read apart; an npz is read whole."""
        size = PIECE_ROWS if self.array is None else max(self.rows, 1)
        return list(pairwise([*range(0, self.rows, size), self.rows]))

    def read(self, start: int, end: int) -> NDArray[np.float16] | NDArray[np.float32]:
        """Rows start to end: (end - start, width); float64 is rounded to float32.

        Raises: RecipeError where the file changed, or ends early.
        """
        try:
            with _opened(self.uri) as stream:
                found = _rows(stream, start, end) if self.array is None else _member(stream, self.array)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as cause:
            raise _unreadable(self.uri, cause) from cause
        found = found if self.array is None else found[start:end]
        if found.shape != (end - start, self.width):
            msg = f"{redact(self.uri)} was changed while it was in use: run again"
            raise RecipeError(msg)
        if found.dtype == np.float16:
            return np.asarray(found, np.float16)
        with np.errstate(over="ignore"):  # too large for float32 is infinite, and so left out
            return np.asarray(found, np.float32)


def find_files(patterns: Sequence[str], what: str) -> list[str]:
    """The files that match, sorted, each once.

    what: what they are to the user, for messages: "examples".
    Raises: RecipeError where one is absent or a glob matches nothing.
    """
    found: set[str] = set()
    for pattern in patterns:
        try:
            for name in _alternatives(pattern):
                found.update(_matches(name, what))
        except (ImportError, OSError, ValueError) as cause:
            msg = f"{what}: can't look for {redact(pattern)!r}: {cause}"
            raise RecipeError(msg) from cause
    return sorted(found)


def find_embeddings(patterns: Sequence[str], array: str | None, what: str) -> list[EmbeddingFile]:
    """The embeddings in these files, of one width; only headers are read.

    array: the array of an npz that holds several.
    Raises: RecipeError where a file is absent or holds no embeddings, widths differ, or no row is there.
    """
    files = [_described(uri, array, what) for uri in find_files(patterns, what)]
    widths = {file.width: file for file in files if file.rows}
    if not widths:
        msg = f"{what}: no embedding in {', '.join(redact(pattern) for pattern in patterns)}"
        raise RecipeError(msg)
    if len(widths) > 1:
        said = ", ".join(f"{redact(file.uri)} {width}" for width, file in sorted(widths.items()))
        msg = f"{what}: embeddings of several widths ({said}): give those of one encoder"
        raise RecipeError(msg)
    return files


def content_fingerprint(uri: str) -> str:
    """What names the file's content, whatever its name: its bytes, or a store's tag for them.

    Raises: RecipeError where the file can't be read.
    """
    try:
        fs, path = url_to_fs(uri)
        if isinstance(fs, LocalFileSystem):
            return weights_fingerprint(Path(path))
        return _remote_fingerprint(uri, str(fs.ukey(path)))
    except OSError as cause:
        raise _unreadable(uri, cause) from cause


@lru_cache(maxsize=1024)
def _remote_fingerprint(uri: str, key: str) -> str:  # noqa: ARG001  (the key changes with the content)
    fs, path = url_to_fs(uri)
    info = fs.info(path)
    tag = info.get("ETag") or info.get("etag")
    if tag:
        return f"{tag} {info.get('size')}"
    with fs.open(path, "rb") as stream:
        return stream_fingerprint(stream)[0]


def _alternatives(pattern: str) -> Iterator[str]:
    for at, name in enumerate(braceexpand.braceexpand(pattern)):
        if at >= MAX_FILES:
            msg = f"more than {MAX_FILES} files"
            raise ValueError(msg)
        yield name


def _matches(name: str, what: str) -> list[str]:
    fs, path = url_to_fs(name)
    path = str(path)
    if fs.isfile(path):
        return [_uri(fs, path)]
    if not any(sign in path for sign in "*?["):
        kind = "is a folder: name the files in it" if fs.isdir(path) else "does not exist"
        msg = f"{what}: {redact(name)!r} {kind}"
        raise RecipeError(msg)
    found = [_uri(fs, str(match)) for match in fs.glob(path)]
    if not found:
        msg = f"{what}: no file matches {redact(name)!r}"
        raise RecipeError(msg)
    return found


def _uri(fs: fsspec.AbstractFileSystem, path: str) -> str:
    return path if isinstance(fs, LocalFileSystem) else str(fs.unstrip_protocol(path))


def _opened(uri: str) -> IO[bytes]:
    fs, path = url_to_fs(uri)
    return fs.open(path, "rb")  # type: ignore[no-any-return]


def _described(uri: str, array: str | None, what: str) -> EmbeddingFile:
    try:
        with _opened(uri) as stream:
            magic = stream.read(4)
            stream.seek(0)
            name = _array_name(stream, array, uri, what) if magic == b"PK\x03\x04" else None
            if name is None:
                shape, _, dtype = _header(stream)
            else:
                with zipfile.ZipFile(stream) as archive, archive.open(f"{name}.npy") as member:
                    shape, _, dtype = _header(member)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as cause:
        raise _unreadable(uri, cause, what) from cause
    if len(shape) != 2 or dtype.kind != "f":
        place = f"{redact(uri)}{f' [{name}]' if name else ''}"
        msg = f"{what}: {place} holds {dtype} of shape {shape}, not embeddings: (n, d) floats"
        raise RecipeError(msg)
    return EmbeddingFile(uri, name, *shape)


def _array_name(stream: IO[bytes], array: str | None, uri: str, what: str) -> str:
    """The array of an npz to take: the one that is asked for, or the only one."""
    with zipfile.ZipFile(stream) as archive:
        names = sorted(name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy"))
    if array is None and len(names) == 1:
        return names[0]
    if not names:
        said = "holds no numpy array (torch's files do not either): save it with numpy.save"
    elif array is None:
        said = f"holds {len(names)} arrays ({', '.join(names)}): name one with `array`"
    elif array in names:
        return array
    else:
        said = f"has no array {array!r}; {nearest(array, names)}"
    msg = f"{what}: {redact(uri)} {said}"
    raise RecipeError(msg)


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, column order and type of an npy file; the stream then stands at its first value."""
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    return np.lib.format.read_array_header_2_0(stream)


def _rows(stream: IO[bytes], start: int, end: int) -> NDArray[Any]:
    shape, column_order, dtype = _header(stream)
    if column_order:
        stream.seek(0)
        whole: NDArray[Any] = np.load(stream, allow_pickle=False)
        return whole[start:end]
    row_bytes = dtype.itemsize * shape[1]
    stream.seek(stream.tell() + start * row_bytes)
    content = stream.read((end - start) * row_bytes)
    return np.frombuffer(content, dtype).reshape(-1, shape[1])


def _member(stream: IO[bytes], array: str) -> NDArray[Any]:
    with np.load(stream, allow_pickle=False) as opened:
        found: NDArray[Any] = opened[array]
        return found


def _unreadable(uri: str, cause: Exception, what: str = "embeddings") -> RecipeError:
    reason = str(cause) or type(cause).__name__
    return RecipeError(
        f"{what}: can't read {redact(uri)} as .npy or .npz ({reason}): save the array with numpy.save"
    )
