"""How samples that were removed are known again when a shard is read."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from filters.core.errors import StoreError
from transforms.decode import failed
from transforms.failures import REMOVED
from transforms.pool import RawSample
from transforms.samples import shown
from transforms.storage import redact
from transforms.store import Store, write_parquet

FOLDER = "removed"
KEY_FILE, MARKS_FILE = f"{FOLDER}/key.json", f"{FOLDER}/marks.parquet"
Kind = Literal["uid", "url", "image"]
KINDS: tuple[Kind, ...] = ("uid", "url", "image")
_DIGEST_BYTES = 16
_SCHEMA = pa.schema([("kind", pa.string()), ("mark", pa.string())])


@dataclass(frozen=True)
class Marks:
    """Keyed hashes (BLAKE2b, 128 bits) of what must stay out of a store.

    Attributes:
        key: the store's own, so that no list made elsewhere can be looked up here.
        known: kind -> the hashes, 32 hex digits each.
    """

    key: bytes = field(repr=False)
    known: Mapping[Kind, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def load(cls, store: Store) -> Marks | None:
        """The store's marks; None where nothing was ever removed from it.

        Raises: StoreError where there are marks without the key that they were made with.
        """
        folder = store.folder
        if not folder.exists(KEY_FILE):
            if folder.exists(MARKS_FILE):
                where = redact(folder.url)
                msg = (
                    f"{where}/{MARKS_FILE} lists what was removed, but its key {KEY_FILE} is gone: put it "
                    "back from a backup, or removed samples can't be told from others"
                )
                raise StoreError(msg)
            return None
        key = bytes.fromhex(folder.read_json(KEY_FILE)["key"])
        if not folder.exists(MARKS_FILE):
            return cls(key)
        with folder.open(MARKS_FILE) as stream:
            table = pq.read_table(stream, use_threads=False)
        return cls(
            key,
            {
                kind: frozenset(table.filter(pc.equal(table["kind"], kind))["mark"].to_pylist())
                for kind in KINDS
            },
        )

    @classmethod
    def opened(cls, store: Store) -> Marks:
        """As `load`, with a new key where the store has none; the caller holds the store's lock."""
        found = cls.load(store)
        if found is None:
            found = cls(secrets.token_bytes(32))
            store.folder.write_json(KEY_FILE, {"key": found.key.hex()})
        return found

    def of(self, kind: Kind, value: str) -> str:
        """The hash of a uid, of a URL or of an image's `bytes_hash`."""
        content = f"{kind} {value}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(content, key=self.key, digest_size=_DIGEST_BYTES).hexdigest()

    def has(self, kind: Kind, value: str | None) -> bool:
        """True where this uid, URL or `bytes_hash` must stay out."""
        known = self.known.get(kind)
        return bool(known) and value is not None and self.of(kind, value) in (known or ())

    def rows(self, samples: pa.Table) -> list[int]:
        """The rows of a samples table of a pool without pictures that must stay out."""
        pairs = zip(samples["uid"].to_pylist(), samples["url"].to_pylist(), strict=True)
        return [row for row, (uid, url) in enumerate(pairs) if self.has("uid", uid) or self.has("url", url)]


def write_marks(store: Store, marks: Iterable[tuple[str, str]]) -> None:
    """Commits the list, (kind, hash) each once and in order, so that it can be written again."""
    rows = sorted(set(marks))
    columns = [pa.array([row[at] for row in rows], pa.string()) for at in range(2)]
    with store.folder.commit(MARKS_FILE) as path:
        write_parquet(pa.table(columns, schema=_SCHEMA), path)


def stand_in(part: str, row: int) -> str:
    """The uid (and key) of a removed row, 32 hex digits: of its place, and of nothing that it held."""
    return xxhash.xxh3_128_hexdigest(f"removed {part} {row}".encode())


def removed_rows(store: Store, samples: str, part: str) -> list[int]:
    """The rows of a measured part that were removed; samples: the group of the samples table."""
    failure = store.read_part(samples, part, ["failure"])["failure"].cast(pa.string())
    return true_rows(pc.equal(failure, REMOVED))


def true_rows(mask: pa.ChunkedArray) -> list[int]:
    """The rows where a column of bools is true."""
    # Not pc.indices_nonzero: it crashes where a column has no chunk (pyarrow 25).
    found: list[int] = np.flatnonzero(pc.fill_null(mask, fill_value=False).to_numpy()).tolist()
    return found


@dataclass(frozen=True)
class Veil:
    """Hides removed samples of a shard from whoever reads it.

    Attributes:
        rows: the removed rows of a part that is measured already: later measures of it must see the
            same rows. None for a new part, whose samples are known by their marks.
    """

    part: str
    marks: Marks
    rows: frozenset[int] | None

    @classmethod
    def over(
        cls, store: Store, samples: str, part: str, marks: Marks | None, *, measured: bool
    ) -> Veil | None:
        """The veil of a part; None where nothing of it can be removed."""
        if marks is None:
            return None
        rows = frozenset(removed_rows(store, samples, part)) if measured else None
        return None if rows is not None and not rows else cls(part, marks, rows)

    def __call__(self, raw: RawSample) -> RawSample:
        """The sample as it is, or what may be known of a removed one: its row."""
        if not self._hides(raw):
            return raw
        name = stand_in(self.part, raw.row)
        metadata = json.dumps({"uid": name}).encode()
        return RawSample(raw.row, name, offset=-1, size=-1, metadata=metadata, failure=REMOVED)

    def _hides(self, raw: RawSample) -> bool:
        if self.rows is not None:
            return raw.row in self.rows
        if raw.image and self.marks.has("image", xxhash.xxh3_128_hexdigest(raw.image)):
            return True
        known = failed(raw, None, "")
        return self.marks.has("uid", known.uid) or self.marks.has("url", known.url and shown(known.url))
