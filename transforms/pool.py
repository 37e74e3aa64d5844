"""A pool: shards by path, glob, brace range or folder, and what is read from them."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal

import braceexpand
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from fsspec.core import url_to_fs
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo

from filters.core.errors import NoShards, PoolError
from transforms.storage import persistently, redact

MAX_SHARDS = 10_000_000
PILLOW_MAX_PIXELS = 178_956_970  # twice PIL.Image.MAX_IMAGE_PIXELS
PoolFormat = Literal["webdataset", "parquet", "datacomp"]


class PoolColumns(BaseModel):
    """Which columns of a Parquet pool hold what; the first that is there counts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: tuple[str, ...] = Field(
        default=("image", "jpg", "image_bytes"),
        description="Image bytes: binary, or a struct with `bytes` and `path` (Hugging Face).",
    )
    caption: tuple[str, ...] = Field(default=("caption", "text", "txt"), description="Caption text.")
    uid: tuple[str, ...] = Field(default=("uid",), description="32 hex digits, if there are any.")
    key: tuple[str, ...] = Field(default=("key", "__key__"), description="Sample key.")
    url: tuple[str, ...] = Field(default=("url",), description="Where the image came from.")


class PoolOptions(BaseModel):
    """How a pool is read. Part of the identity of what is measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["auto", "webdataset", "parquet", "datacomp"] = Field(
        default="auto", description="auto looks at the first shard's name and columns."
    )
    columns: PoolColumns = PoolColumns()
    max_pixels: int = Field(
        default=PILLOW_MAX_PIXELS,
        ge=1,
        le=PILLOW_MAX_PIXELS,
        description="Images that declare more are decompression bombs; Pillow opens no larger ones.",
    )
    max_member_bytes: int = Field(default=256 * 2**20, ge=1, description="Larger image members are not read.")
    decode_timeout_seconds: float = Field(
        default=60.0, gt=0, description="Decoding one image may take this long."
    )
    retry_seconds: tuple[float, ...] = Field(
        default=(0.5, 2.0, 8.0), description="Waits between attempts to read a missing or broken shard."
    )
    wrong_extension: Literal["fail", "accept"] = Field(
        default="fail", description="A PNG named .jpg: a failed row, or read all the same."
    )


def _storage_of_reader(_: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
    return dict(info.context or {})


@dataclass(frozen=True)
class Shard:
    """One file of a pool; small enough to be an element of a pipeline.

    Attributes:
        uri: path or URL, without credentials; `number` orders the shards of a pool.
        part: the name of everything that is stored about this shard. It holds the file's size
            and time (or tag), so a changed file is another part and is measured again.
        options: of its file system, which may hold secrets: they are in no JSON that pydantic makes of a
            shard; what it reads gets them from its context.
    """

    uri: str
    number: int
    part: str
    format: PoolFormat
    size: int
    options: Annotated[
        dict[str, Any], Field(exclude=True, validate_default=True), AfterValidator(_storage_of_reader)
    ] = field(default_factory=dict, repr=False, compare=False)

    def open(self, **how: Any) -> Any:
        """The file, opened for reading in binary."""
        fs, path = url_to_fs(self.uri, **self.options)
        return fs.open(path, "rb", **how)


@dataclass(slots=True)
class RawSample:
    """One row of a shard as it stands there: bytes, nothing decoded.

    Attributes:
        row: counted from 0 over every sample of the shard, also the broken ones.
        offset, size: the sample's bytes in a tar; the row and 1 in a Parquet file.
        image_offset: where the image's bytes begin, -1 where unknown.
        failure, detail: set where the container itself is at fault.
    """

    row: int
    key: str
    offset: int
    size: int = 0
    image: bytes | None = None
    image_name: str = ""
    image_offset: int = -1
    image_bytes: int = -1
    caption: bytes | None = None
    metadata: bytes | None = None
    failure: str | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ShardEnd:
    """How the reading of a shard ended; `code` is None for a good end."""

    code: str | None = None
    offset: int = 0
    detail: str = ""
    ignored_members: int = 0


def list_pool(patterns: Sequence[str], options: PoolOptions, storage: dict[str, Any]) -> list[Shard]:
    """The pool's shards, sorted by URI, each once.

    Raises: PoolError where a glob or folder holds nothing, or the format can't be told.
    """
    if not patterns:
        msg = "no pool given: use --pool 'shards/{00000..00009}.tar', or `pool: uri:` in the recipe"
        raise PoolError(msg)
    uris = sorted({uri for pattern in patterns for uri in _expand(pattern, storage)})
    form = find_format(uris[0], options, storage)
    return [find_shard(number, uri, form, storage)[0] for number, uri in enumerate(uris)]


def list_growing(patterns: Sequence[str], storage: dict[str, Any]) -> list[str]:
    """The URIs of a pool's shards, sorted; a pattern that matches nothing yet is no error."""
    found: set[str] = set()
    for pattern in patterns:
        _file_system(pattern, storage)[0].invalidate_cache()
        try:
            found.update(_expand(pattern, storage))
        except NoShards:
            continue
    return sorted(found)


def find_format(uri: str, options: PoolOptions, storage: dict[str, Any]) -> PoolFormat:
    """The format that a pool with this shard has."""
    return options.format if options.format != "auto" else _detect(uri, options, storage)


def _expand(pattern: str, storage: dict[str, Any]) -> Iterator[str]:
    fs, plain = _file_system(pattern, storage)
    # Asked by `info`: `isfile` and `isdir` say no where they could not find out.
    if persistently(lambda: _kind(fs, plain), fs, pattern) == "file":
        yield _uri(fs, plain, pattern)
        return
    for name in _braces(pattern):
        path = _file_system(name, storage)[1]
        if any(sign in path for sign in "*?["):
            found = sorted(map(str, persistently(partial(fs.glob, path), fs, name)))
            if not found:
                msg = f"no shard matches {redact(name)!r}"
                raise NoShards(msg)
            yield from (_uri(fs, match, pattern) for match in found)
        elif persistently(partial(_kind, fs, path), fs, name) == "directory":
            yield from _folder(fs, path, pattern)
        else:
            yield _uri(fs, path, pattern)  # a missing one is recorded when it is read


def _kind(fs: fsspec.AbstractFileSystem, path: str) -> str | None:
    """`file`, `directory`, or None where nothing is there."""
    try:
        return str(fs.info(path)["type"])
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None


def _file_system(uri: str, storage: dict[str, Any]) -> tuple[fsspec.AbstractFileSystem, str]:
    try:
        fs, path = url_to_fs(uri, **storage)
    except (ImportError, ValueError) as cause:
        msg = f"can't open the pool {redact(uri)!r}: {cause}"
        raise PoolError(msg) from cause
    return fs, str(path)


def _braces(pattern: str) -> Iterator[str]:
    # Checked first: braceexpand writes a whole range down before it gives the first name.
    ranges = re.findall(r"\{(-?\d+)\.\.(-?\d+)", pattern)
    if math.prod(abs(int(last) - int(first)) + 1 for first, last in ranges) > MAX_SHARDS:
        msg = f"the pool {redact(pattern)!r} names more than {MAX_SHARDS} shards"
        raise PoolError(msg)
    try:
        yield from braceexpand.braceexpand(pattern)
    except ValueError as cause:  # braceexpand.UnbalancedBracesError
        msg = f"unbalanced braces in the pool {redact(pattern)!r}"
        raise PoolError(msg) from cause


def _folder(fs: fsspec.AbstractFileSystem, path: str, pattern: str) -> Iterator[str]:
    names = sorted(map(str, persistently(lambda: fs.ls(path, detail=False), fs, pattern)))
    for suffix in (".tar", ".parquet"):
        found = [name for name in names if name.lower().endswith(suffix)]
        if found:
            yield from (_uri(fs, name, pattern) for name in found)
            return
    msg = f"the folder {redact(path)!r} holds no .tar and no .parquet file"
    raise NoShards(msg)


def _uri(fs: fsspec.AbstractFileSystem, path: str, pattern: str) -> str:
    """The full URI without credentials; a local path stays a plain absolute path."""
    if "://" not in pattern or pattern.startswith(("file://", "local://")):
        return os.path.normpath(path)
    return redact(str(fs.unstrip_protocol(path)))


def find_shard(
    number: int, uri: str, form: PoolFormat, storage: dict[str, Any]
) -> tuple[Shard, float | None]:
    """The shard at this URI, and when it was last changed, in Unix seconds, where that is known."""
    fs, path = url_to_fs(uri, **storage)
    try:
        # Without size and time the part would have another name, and be measured once more.
        info = persistently(lambda: fs.info(path), fs, uri)
    except OSError:  # missing or unreachable: tried again, and recorded, when it is read
        info = {}
    stamps = (info.get(name) for name in ("ETag", "etag", "mtime", "LastModified", "created"))
    stamp = next((found for found in stamps if found), None)
    size = int(info.get("size") or 0)
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", path.rsplit("/", 1)[-1].rsplit(".", 1)[0])[:80]
    part = f"{stem}-{xxhash.xxh3_64_hexdigest(f'{uri} {size} {stamp}'.encode())[:8]}"
    return Shard(uri, number, part, form, size, storage), _changed(info)


def _changed(info: Mapping[str, Any]) -> float | None:
    """When a file was last changed, as its file system says it, in Unix seconds."""
    for name in ("mtime", "LastModified", "updated", "created"):
        stamp = info.get(name)
        if isinstance(stamp, datetime):
            return stamp.timestamp()
        if isinstance(stamp, int | float):
            return float(stamp)
    return None


def _detect(uri: str, options: PoolOptions, storage: dict[str, Any]) -> PoolFormat:
    if uri.lower().endswith(".tar"):
        return "webdataset"
    if not uri.lower().endswith(".parquet"):
        msg = f"can't tell the format of {uri!r}: name it .tar or .parquet, or set pool.format"
        raise PoolError(msg)
    fs, path = url_to_fs(uri, **storage)
    try:
        with fs.open(path, "rb") as stream:
            names = set(pq.read_schema(stream).names)
    except (FileNotFoundError, pa.ArrowInvalid) as cause:
        msg = f"can't read {uri!r} as Parquet: {cause}"
        raise PoolError(msg) from cause
    if names & set(options.columns.image):
        return "parquet"
    if {"uid", "text"} <= names:
        return "datacomp"
    msg = (
        f"{uri!r} has no image column ({', '.join(options.columns.image)}) and is no DataComp "
        f"metadata (uid, text); its columns are {', '.join(sorted(names))}: set pool.columns"
    )
    raise PoolError(msg)
