"""Curated shards: the kept samples' own bytes in new tars, with their quality metadata.

Kept rows are numbered over the whole pool, in the order of shard and row; output shard k holds
numbers k x size to (k + 1) x size. So the bytes depend on input and recipe alone, and any worker
can write any shard. Members are copied as they are; a `<key>.curate.json` member is added.
"""

from __future__ import annotations

import io
import json
import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from filters.core.errors import PoolError, StoreError
from transforms.deciding import PartCounts
from transforms.pool import PoolOptions, Shard
from transforms.pools.parquet import read_rows
from transforms.pools.webdataset import OWN_EXTENSION, split_name
from transforms.samples import samples_measure, shown
from transforms.storage import LASTING, client_errors
from transforms.store import Store
from transforms.tar import TarEnded, end_tar, members_of, write_member

SAMPLE_COLUMNS = ("key", "uid", "sample_offset", "sample_bytes")
MAX_GAP_BYTES = 1 << 20  # neighbours this close are read in one go
MAX_READ_BYTES = 1 << 25


@dataclass(frozen=True)
class KeptSlice:
    """A run of kept rows of one part: the first-th to the last-th kept, last exclusive."""

    shard: Shard
    first: int
    last: int


@dataclass(frozen=True)
class OutputShard:
    """One curated shard to write: small enough to be an element of a pipeline."""

    number: int
    slices: tuple[KeptSlice, ...]

    @property
    def samples(self) -> int:
        """How many samples it holds."""
        return sum(piece.last - piece.first for piece in self.slices)


@dataclass(frozen=True)
class WriteConfig:
    """What every output shard needs; picklable.

    Attributes:
        groups: signal groups whose columns go into the json member, by group.
        tags: columns of the ledger that go into it too.
        weight: the one of them that is also its `weight`.
    """

    store: Store
    pool: PoolOptions
    ledger: str
    target: str
    recipe: str
    groups: dict[str, tuple[str, ...]]
    tags: tuple[str, ...] = ()
    weight: str | None = None


def plan_shards(
    counts: Sequence[PartCounts],
    shards: Mapping[str, Shard],
    samples_per_shard: int,
    removed: Mapping[int, int] = {},
) -> Iterator[OutputShard]:
    """The curated shards, from how many rows each part keeps; counts in pool order.

    removed: number of a shard -> samples that were taken out of it since; it takes so many fewer,
    and the others hold what they held. A shard that lost all is left out.
    """
    pieces: list[KeptSlice] = []
    number = 0
    room = samples_per_shard - removed.get(number, 0)
    for part in counts:
        first = 0
        while first < part.kept:
            last = min(part.kept, first + room)
            if last > first:
                pieces.append(KeptSlice(shards[part.part], first, last))
            room -= last - first
            first = last
            if room == 0:
                if pieces:
                    yield OutputShard(number, tuple(pieces))
                number, pieces = number + 1, []
                room = samples_per_shard - removed.get(number, 0)
    if pieces:
        yield OutputShard(number, tuple(pieces))


def write_shard(config: WriteConfig, output: OutputShard) -> int:
    """Writes one curated tar, its `_stats.json`, and then its marker; returns its samples."""
    name = f"{config.target}/{output.number:08d}"
    with config.store.folder.commit(f"{name}.tar") as path:
        _write_tar(config, output, path)
        size = path.stat().st_size
    # What DataComp's resharder and img2dataset's readers look for.
    stats = {
        "count": output.samples,
        "successes": output.samples,
        "failed_to_download": 0,
        "failed_to_resize": 0,
    }
    config.store.folder.write_json(f"{name}_stats.json", stats)
    config.store.folder.write_json(f"{name}.done.json", {"rows": output.samples, "bytes": size})
    return output.samples


def _write_tar(config: WriteConfig, output: OutputShard, path: Path) -> None:
    keys: set[str] = set()
    with path.open("wb") as stream:
        for piece in output.slices:
            rows = _kept_rows(config, piece)
            for row, members in zip(rows, _read_samples(config, piece.shard, rows), strict=True):
                key = _free_key(row["key"], keys)
                keys.add(key)
                for extension, content in members:
                    write_member(stream, f"{key}.{extension}", content)
                quality = json.dumps(_quality(config, row), ensure_ascii=False, sort_keys=True)
                write_member(stream, f"{key}.{OWN_EXTENSION}", quality.encode())
        end_tar(stream)


def _kept_rows(config: WriteConfig, piece: KeptSlice) -> list[dict[str, Any]]:
    """Place, identity, signals and tags of the rows of a slice."""
    part = piece.shard.part
    ledger = config.store.read_part(config.ledger, part, ["verdict", *config.tags])
    verdict = ledger["verdict"].combine_chunks()
    kept = pc.indices_nonzero(pc.equal(verdict.dictionary_decode(), "keep"))
    chosen = kept.slice(piece.first, piece.last - piece.first)
    samples = config.store.read_part(samples_measure(config.pool).group, part, list(SAMPLE_COLUMNS))
    columns = dict(zip(SAMPLE_COLUMNS, samples.take(chosen).columns, strict=True))
    columns.update({name: ledger[name].take(chosen) for name in config.tags})
    for group, names in config.groups.items():
        table = config.store.read_part(group, part, list(names)).take(chosen)
        columns.update(zip(names, table.columns, strict=True))
    rows: list[dict[str, Any]] = pa.table(columns).to_pylist()
    return rows


def _quality(config: WriteConfig, row: Mapping[str, Any]) -> dict[str, Any]:
    """The json member: the row's signals and tags and who decided; floats as float32 prints them.

    A weight that is not known is null, never left out: a training must not take it for 1.
    """
    signals = _known(row, [name for names in config.groups.values() for name in names])
    quality = {"uid": row["uid"], "recipe": config.recipe, "signals": signals}
    if config.tags:
        quality["tags"] = _known(row, config.tags)
    if config.weight is not None:
        quality["weight"] = _short(row[config.weight])
    return quality


def _known(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: _short(row[name]) for name in names if row[name] is not None}


def _short(value: object) -> object:
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    return value


# --- the kept samples' members


def _read_samples(
    config: WriteConfig, shard: Shard, rows: Sequence[Mapping[str, Any]]
) -> Iterator[list[tuple[str, bytes]]]:
    """The members (extension, bytes) of each row, read from the original shard.

    After a failure that may pass it goes on with the rows that are not read yet.
    """
    given = 0
    for wait in (*config.pool.retry_seconds, None):
        try:
            with client_errors(), shard.open() as stream:
                for members in _samples_of(stream, shard, config.pool, rows[given:]):
                    given += 1
                    yield members
        except OSError as cause:
            if wait is None or isinstance(cause, LASTING):
                msg = f"{shard.uri} was measured, but its kept samples can't be read again: {cause}"
                raise PoolError(msg) from cause
            time.sleep(wait)
        else:
            return


def _samples_of(
    stream: IO[bytes], shard: Shard, pool: PoolOptions, rows: Sequence[Mapping[str, Any]]
) -> Iterator[list[tuple[str, bytes]]]:
    if shard.format == "webdataset":
        return _tar_samples(stream, shard, rows)
    return _parquet_samples(stream, shard, pool, rows)


def _tar_samples(
    stream: IO[bytes], shard: Shard, rows: Sequence[Mapping[str, Any]]
) -> Iterator[list[tuple[str, bytes]]]:
    for run in _runs(rows):
        start = run[0]["sample_offset"]
        end = run[-1]["sample_offset"] + run[-1]["sample_bytes"]
        stream.seek(start)
        content = memoryview(stream.read(end - start))
        for row in run:
            offset = row["sample_offset"] - start
            yield _members(content[offset : offset + row["sample_bytes"]].tobytes(), shard, row)


def _members(piece: bytes, shard: Shard, row: Mapping[str, Any]) -> list[tuple[str, bytes]]:
    """The sample's members (extension, bytes), without strangers that lie between them."""
    try:
        named = [(split_name(member.name), content) for member, content in members_of(piece)]
    except TarEnded as cause:
        raise _changed(shard, row, str(cause)) from cause
    mine = [(name[1], content) for name, content in named if name and shown(name[0]) == row["key"]]
    if not mine:
        raise _changed(shard, row, f"no member of {row['key']!r}")
    return [(extension, content) for extension, content in mine if extension.lower() != OWN_EXTENSION]


def _changed(shard: Shard, row: Mapping[str, Any], how: str) -> StoreError:
    where = f"{shard.uri} changed since it was measured: {how} at {row['sample_offset']}"
    return StoreError(f"{where}; run again to measure it anew")


def _runs(rows: Sequence[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """Rows whose bytes lie close together, so that one read serves many; bounded in bytes."""
    run: list[Mapping[str, Any]] = []
    for row in rows:
        if run:
            gap = row["sample_offset"] - (run[-1]["sample_offset"] + run[-1]["sample_bytes"])
            length = row["sample_offset"] + row["sample_bytes"] - run[0]["sample_offset"]
            if gap > MAX_GAP_BYTES or length > MAX_READ_BYTES:
                yield run
                run = []
        run.append(row)
    if run:
        yield run


def _parquet_samples(
    stream: IO[bytes], shard: Shard, options: PoolOptions, rows: Sequence[Mapping[str, Any]]
) -> Iterator[list[tuple[str, bytes]]]:
    found = read_rows(stream, options, [row["sample_offset"] for row in rows])
    for row in rows:
        sample = next(found, None)
        if sample is None or not sample.image:
            raise _changed(shard, row, "no image")
        members = [(image_extension(sample.image), sample.image)]
        if sample.caption is not None:
            members.append(("txt", sample.caption))
        if sample.metadata is not None:
            members.append(("json", sample.metadata))
        yield members


def image_extension(content: bytes) -> str:
    """The usual extension of an image by its first bytes; Parquet rows have no member name."""
    with Image.open(io.BytesIO(content)) as image:
        form = image.format or ""
    return {"JPEG": "jpg", "MPO": "jpg", "TIFF": "tif"}.get(form, form.lower())


def _free_key(key: str, taken: set[str]) -> str:
    """A key for the new shard: the old one made safe as a file name, and unique.

    No absolute path, no `..`, no dot (WebDataset ends keys at the first one), no control character.
    """
    printable = re.sub(r"[\x00-\x1f\x7f]", "_", key)
    pieces = [piece for piece in re.split(r"[/\\]", printable) if piece not in ("", ".", "..")]
    safe = "/".join(piece.replace(".", "_") for piece in pieces) or "sample"
    free, number = safe, 1
    while free in taken:
        free, number = f"{safe}-{number}", number + 1
    return free
