"""Looks into every file of a store, as somebody would who searches for what was removed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from transforms.fingerprints import file_fingerprint


def content_of(path: Path) -> bytes:
    """The bytes of a file; of Parquet also all its values, which stand there compressed."""
    whole = path.read_bytes()
    if path.suffix != ".parquet":
        return whole
    return whole + repr(pq.read_table(path).to_pylist()).encode()


def files_with(store: Path, *secrets: str | bytes) -> list[str]:
    """The files of a store that hold one of these texts or bytes; uids also as two numbers."""
    wanted = [secret.encode() if isinstance(secret, str) else secret for secret in secrets]
    wanted += [as_numbers(secret) for secret in secrets if isinstance(secret, str) and _is_uid(secret)]
    return [
        str(path.relative_to(store))
        for path in sorted(store.rglob("*"))
        if path.is_file() and any(secret in content_of(path) for secret in wanted)
    ]


def as_numbers(uid: str) -> bytes:
    """A uid as subsets and reference sets hold it."""
    return np.array([int(uid[:16], 16), int(uid[16:], 16)], "<u8").tobytes()


def _is_uid(text: str) -> bool:
    return len(text) == 32 and not set(text) - set("0123456789abcdef")


def tables_of(store: Path) -> dict[str, pa.Table]:
    """Every Parquet file with rows of the pool."""
    folders = ("signals", "relations", "ledger")
    found = (path for folder in folders for path in sorted((store / folder).rglob("*.parquet")))
    return {str(path.relative_to(store)): pq.read_table(path) for path in found}


def arrays_of(store: Path) -> dict[str, np.ndarray]:
    """Every file of embeddings."""
    return {
        str(path.relative_to(store)): np.load(path) for path in sorted((store / "embeddings").rglob("*.npy"))
    }


def check_markers(store: Path) -> int:
    """Asserts that every marker tells the truth of its files; returns how many files they name."""
    import json

    named = 0
    for marker in store.rglob("*.done.json"):
        told = json.loads(marker.read_text())
        for name, receipt in told.get("files", {}).items():
            path = store / name
            assert receipt == {"bytes": path.stat().st_size, "xxh3_128": file_fingerprint(path)}, name
            named += 1
        if marker.parent.parent.name == "curated":
            tar = marker.with_name(marker.name.replace(".done.json", ".tar"))
            stats = json.loads(marker.with_name(marker.name.replace(".done.json", "_stats.json")).read_text())
            assert told["bytes"] == tar.stat().st_size
            assert told["rows"] == stats["count"] == stats["successes"]
    return named
