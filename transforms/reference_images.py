"""PDQ hashes of a set of images that a pool is compared with, such as an evaluation set."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from filters.core.errors import RecipeError
from transforms.decode import DecodedSample, decode, quiet_pillow
from transforms.decode_pool import DecodeJob, DecodePool
from transforms.measures.perceptual_hashes import PerceptualHashes, pdq_hashes
from transforms.pool import PoolOptions, RawSample, Shard, ShardEnd, list_pool
from transforms.samples import shown
from transforms.storage import redact
from transforms.stream import read_with_retries

# ImageNet's own files have a PNG that is named .JPEG; a reference is hashed whatever its name.
READING = PoolOptions(wrong_extension="accept", retry_seconds=(0.5, 2.0))
THREADS = 2
AHEAD = 64
SCHEMA = pa.schema(
    [
        ("item", pa.string()),  # <file>:<key>
        ("failure", pa.string()),  # null where it could be decoded
        ("pdq_quality", pa.int32()),
        ("pdq_flips", pa.binary(256)),
    ]
)


def find_reference(patterns: Sequence[str]) -> list[Shard]:
    """The shards of a reference set, sorted by URI.

    Raises: PoolError or RecipeError where one is absent or holds no images.
    """
    shards = list_pool(patterns, READING, {})
    for shard in shards:
        if shard.format == "datacomp":
            msg = f"{redact(shard.uri)} is DataComp metadata without images, and only images have hashes"
            raise RecipeError(msg)
        if shard.size == 0:
            msg = f"{redact(shard.uri)} does not exist or is empty"
            raise RecipeError(msg)
    return shards


def reference_identity(shard: Shard) -> list[str | int]:
    """What names the shard's hashes: the file, its size and time as for a pool, and how it is hashed."""
    options = READING.model_dump_json(exclude={"retry_seconds", "decode_timeout_seconds"})
    return [shard.part, PerceptualHashes.version, options]


def hash_images(shard: Shard) -> pa.Table:
    """A row for each image of the shard, in order: SCHEMA; no caption is needed.

    Raises: RecipeError where the shard can't be read to its end: a set of which a part is missing
    would let that part through.
    """
    quiet_pillow()
    rows: list[DecodedSample] = []
    running: deque[DecodeJob] = deque()
    end = ShardEnd()
    pool = DecodePool(THREADS, ahead=AHEAD, timeout_seconds=READING.decode_timeout_seconds)
    try:
        for item in read_with_retries(shard, READING):
            if isinstance(item, RawSample):
                while len(running) >= AHEAD // 2:
                    rows.append(pool.result(running.popleft()))
                job = pool.submit(item, _hashed)
                if job is not None:
                    running.append(job)
                continue
            rows += [pool.result(job) for job in running]
            running.clear()
            if isinstance(item, ShardEnd):
                end = item
            else:  # it is read again from its beginning
                rows.clear()
    finally:
        pool.close()
    if end.code is not None:
        msg = f"{redact(shard.uri)} can't be read to its end ({end.code}: {end.detail}): repair it"
        raise RecipeError(msg)
    return _table(shard, rows)


def _hashed(raw: RawSample) -> DecodedSample:
    """Runs in a decode thread; a missing caption or a key that comes twice does no harm here."""
    raw.caption, raw.metadata = b"", None
    if raw.failure == "duplicate_key":
        raw.failure = None
    sample = decode(raw, READING)
    if sample.picture is not None:
        sample.prepared = [pdq_hashes(sample.picture.rgb)]
    sample.picture = None
    return sample


def _table(shard: Shard, rows: Sequence[DecodedSample]) -> pa.Table:
    name = shard.uri.rsplit("/", 1)[-1]
    nothing = (np.zeros((8, 32), np.uint8), 0)
    hashed = [sample.prepared[0] if sample.prepared else nothing for sample in rows]
    return pa.table(
        {
            "item": pa.array([f"{name}:{shown(sample.raw.key)}" for sample in rows], pa.string()),
            "failure": pa.array([sample.failure for sample in rows], pa.string()),
            "pdq_quality": pa.array([quality for _, quality in hashed], pa.int32()),
            "pdq_flips": pa.array([flips.tobytes() for flips, _ in hashed], pa.binary(256)),
        },
        schema=SCHEMA,
    )
