"""Short names for content and configuration, so that stale results are never reused."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import xxhash

CHUNK_BYTES = 1 << 22


def fingerprint(content: object) -> str:
    """16 hex digits that name a JSON-like value; equal values have equal names."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return xxhash.xxh3_64_hexdigest(text.encode())


def file_fingerprint(path: Path) -> str:
    """32 hex digits that name the file's bytes (xxh3-128)."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def weights_fingerprint(path: Path) -> str:
    """As `file_fingerprint`, for large files that are asked for often: read once while unchanged."""
    status = path.stat()
    return _unchanged_fingerprint(path.absolute(), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _unchanged_fingerprint(path: Path, size: int, modified: int) -> str:  # noqa: ARG001  (the cache's key)
    return file_fingerprint(path)
