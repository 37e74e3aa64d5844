"""Short names for content and configuration, so that stale results are never reused."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import IO

import xxhash

CHUNK_BYTES = 1 << 22


def fingerprint(content: object) -> str:
    """16 hex digits that name a JSON-like value; equal values have equal names."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return xxhash.xxh3_64_hexdigest(text.encode())


def file_fingerprint(path: Path) -> str:
    """32 hex digits that name the file's bytes (xxh3-128)."""
    with path.open("rb") as stream:
        return stream_fingerprint(stream)[0]


def stream_fingerprint(stream: IO[bytes]) -> tuple[str, int]:
    """What `file_fingerprint` says of the bytes that are left to read, and how many they are."""
    digest, size = xxhash.xxh3_128(), 0
    while chunk := stream.read(CHUNK_BYTES):
        digest.update(chunk)
        size += len(chunk)
    return digest.hexdigest(), size


def weights_fingerprint(path: Path) -> str:
    """As `file_fingerprint`, for large files that are asked for often: read once while unchanged."""
    status = path.stat()
    return _unchanged_fingerprint(path.absolute(), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _unchanged_fingerprint(path: Path, size: int, modified: int) -> str:  # noqa: ARG001  (the cache's key)
    return file_fingerprint(path)
