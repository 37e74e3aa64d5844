"""WebDataset tars: consecutive members with one key are one sample."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO

from transforms.pool import PoolOptions, RawSample, ShardEnd
from transforms.tar import Member, TarEnded, TarStream

IMAGE_EXTENSIONS = frozenset({"jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"})
TEXT_EXTENSIONS = frozenset({"txt", "json"})
MAX_TEXT_BYTES = 1 << 22
OWN_EXTENSION = "curate.json"  # what a curated shard adds; no metadata of the sample
# WebDataset's convention: the key ends at the first dot of the file name.
_KEY = re.compile(r"^((?:.*/)?[^./][^./]*)\.([^/]+)$", re.DOTALL)


def read_tar(stream: IO[bytes], options: PoolOptions) -> Iterator[RawSample | ShardEnd]:
    """The samples of a tar in order, then one ShardEnd.

    A key that comes again, next to its first sample or later, starts a row of its own that has
    failed with `duplicate_key`: a written shard could not hold both.
    """
    tar = TarStream(stream)
    seen: set[str] = set()
    current: RawSample | None = None
    extensions: set[str] = set()
    row = ignored = taken = 0
    end = ShardEnd()
    try:
        for member in tar:
            named = split_name(member.name)
            if named is None:
                ignored += 1
                continue
            key, extension = named[0], named[1].lower()
            if current is None or key != current.key or extension in extensions:
                if current is not None:
                    yield current
                current = RawSample(row, key, member.header_offset)
                row += 1
                extensions = set()
                if key in seen:
                    current.failure, current.detail = "duplicate_key", f"key {key!r} was there before"
                seen.add(key)
            extensions.add(extension)
            taken = member.data_offset + member.size
            _take(current, member, extension, tar, options)
            current.size = member.end - current.offset
    except TarEnded as ended:
        # The member at the cut is lost, and with it the sample it belongs to: the failure record
        # stands for both.
        current = current if current is not None and _whole(current, taken, ended) else None
        end = ShardEnd(ended.code, ended.offset, str(ended))
    if current is not None:
        yield current
    yield ShardEnd(end.code, end.offset, end.detail, ignored)


def split_name(name: str) -> tuple[str, str] | None:
    """Key and extension of a member as it is written, or None where it belongs to no sample."""
    match = _KEY.match(name)
    return None if match is None else (match.group(1), match.group(2))


def _whole(sample: RawSample, taken: int, ended: TarEnded) -> bool:
    """True where image and text are there, and no member of the sample was cut.

    taken: where the last member that was begun should end, without its padding.
    """
    has_both = sample.image is not None and (sample.caption or sample.metadata) is not None
    return has_both and taken <= ended.offset


def _known(sample: RawSample, kind: str, extension: str) -> bool:
    """True where the sample has this kind of text already and the extension is no better."""
    return extension != kind and (sample.caption if kind == "txt" else sample.metadata) is not None


def _take(sample: RawSample, member: Member, extension: str, tar: TarStream, options: PoolOptions) -> None:
    """Puts the current member where it belongs in the sample, if it is an image or a text.

    The first image counts. `a.txt` and `a.json` count before `a.some.txt` and `a.some.json`.
    """
    kind = extension.rsplit(".", 1)[-1]
    limit = MAX_TEXT_BYTES
    if kind in IMAGE_EXTENSIONS:
        if sample.image_name:
            return
        sample.image_name = member.name
        sample.image_offset, sample.image_bytes = member.data_offset, member.size
        limit = options.max_member_bytes
    elif kind not in TEXT_EXTENSIONS or extension == OWN_EXTENSION or _known(sample, kind, extension):
        return
    if member.size > limit:
        sample.failure = sample.failure or "member_too_large"
        sample.detail = sample.detail or f"{member.name} has {member.size} bytes"
    elif kind == "txt":
        sample.caption = tar.read()
    elif kind == "json":
        sample.metadata = tar.read()
    else:
        sample.image = tar.read()
