"""Reads a tar as a stream, member by member, and says exactly how it ends.

The standard library's reader takes a damaged or cut header for the end of the archive without a
word; a crawl's shard that lost its tail must not pass for a shorter one. Header fields are parsed
and checksummed by `tarfile.TarInfo.frombuf`; long names (GNU and PAX) are followed, links, devices
and sparse files are passed over.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

BLOCK = tarfile.BLOCKSIZE
MAX_EXTENSION_BYTES = 1 << 20  # a PAX or long-name record is far below this; more is an attack
_REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)


class TarEnded(Exception):  # noqa: N818  (an ending, told apart by its code)
    """The tar ends where it should not.

    Attributes:
        code: `tar_truncated` or `tar_corrupt`.
        offset: bytes into the file.
    """

    def __init__(self, code: str, offset: int, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Member:
    """One regular file of a tar: its name and where its header and its bytes lie."""

    name: str
    header_offset: int
    data_offset: int
    size: int

    @property
    def end(self) -> int:
        """Offset of the next header."""
        return self.data_offset + _padded(self.size)


class TarStream:
    """Iterates over a tar's regular members; `read` gives the current member's bytes."""

    def __init__(self, stream: IO[bytes], *, start: int = 0) -> None:
        self._stream = stream
        self._offset = start  # of the next byte that the stream will give
        self._current: Member | None = None

    def __iter__(self) -> Iterator[Member]:
        """The members in order.

        Raises: TarEnded at a cut or damaged place; what came before it is good.
        """
        name: str | None = None
        size: int | None = None
        first: int | None = None
        while (info := self._header()) is not None:
            header_offset = self._offset - BLOCK if first is None else first
            if info.type in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGLINK):
                first = header_offset
                record = self._extension(info)
                if info.type == tarfile.GNUTYPE_LONGNAME:
                    name = record.rstrip(b"\0").decode("utf-8", "surrogateescape")
                elif info.type == tarfile.XHDTYPE:
                    name, size = _pax(record, name, size, self._offset)
                continue
            real = info.size if size is None else size
            member = Member(name or info.name, header_offset, self._offset, real)
            name = size = first = None
            if info.type in _REGULAR and not member.name.endswith("/"):
                self._current = member
                yield member
                self._finish(member)
            elif info.type not in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE):
                self._skip(_padded(real))

    def read(self) -> bytes:
        """The bytes of the member that the iteration has just given; once.

        Raises: TarEnded where the tar ends inside it.
        """
        member = self._current
        if member is None or self._offset != member.data_offset:
            msg = "a member is read once, right after it was given"
            raise ValueError(msg)
        content = self._stream.read(member.size)
        self._offset += len(content)
        if len(content) < member.size:
            detail = f"{member.name} has {len(content)} of its {member.size} bytes"
            raise TarEnded("tar_truncated", self._offset, detail)
        return content

    def _header(self) -> tarfile.TarInfo | None:
        block = self._stream.read(BLOCK)
        self._offset += len(block)
        try:
            return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.EOFHeaderError:
            return None
        except tarfile.EmptyHeaderError:
            raise TarEnded("tar_truncated", self._offset, "no end-of-archive marker") from None
        except tarfile.TruncatedHeaderError:
            raise TarEnded("tar_truncated", self._offset, "cut inside a header") from None
        except (tarfile.HeaderError, ValueError) as cause:
            raise TarEnded("tar_corrupt", self._offset - BLOCK, f"bad header: {cause}") from None

    def _extension(self, info: tarfile.TarInfo) -> bytes:
        if not 0 <= info.size <= MAX_EXTENSION_BYTES:
            raise TarEnded("tar_corrupt", self._offset, f"a name record of {info.size} bytes")
        record = self._stream.read(_padded(info.size))
        self._offset += len(record)
        if len(record) < info.size:
            raise TarEnded("tar_truncated", self._offset, "cut inside a name record")
        return record[: info.size]

    def _finish(self, member: Member) -> None:
        """Moves to the next header, whether or not the member was read."""
        self._skip(member.end - self._offset)

    def _skip(self, count: int) -> None:
        while count > 0:
            gone = len(self._stream.read(min(count, 1 << 20)))
            if gone == 0:
                raise TarEnded("tar_truncated", self._offset, "ends inside a member")
            self._offset += gone
            count -= gone


def write_member(stream: IO[bytes], name: str, content: bytes) -> None:
    """Appends one member with fixed owner, mode and time, so that equal content is equal bytes."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    info.mode = 0o644
    stream.write(info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape"))
    stream.write(content)
    stream.write(bytes(_padded(len(content)) - len(content)))


def end_tar(stream: IO[bytes]) -> None:
    """Appends the end-of-archive marker."""
    stream.write(bytes(2 * BLOCK))


def members_of(content: bytes) -> list[tuple[Member, bytes]]:
    """The members of a piece of a tar that was cut at member boundaries, with their bytes."""
    found = []
    tar = TarStream(io.BytesIO(content + bytes(2 * BLOCK)))
    for member in tar:
        found.append((member, tar.read()))
    return found


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _pax(record: bytes, name: str | None, size: int | None, offset: int) -> tuple[str | None, int | None]:
    """Path and size of a PAX record, lines of "<length> <key>=<value>\\n"."""
    position = 0
    while position < len(record):
        try:
            length = int(record[position : record.index(b" ", position)])
            key, _, value = record[position : position + length - 1].partition(b" ")[2].partition(b"=")
            if length <= 0:
                raise ValueError
        except ValueError:
            raise TarEnded("tar_corrupt", offset, "a PAX record that can't be parsed") from None
        if key == b"path":
            name = value.decode("utf-8", "surrogateescape")
        elif key == b"size":
            size = int(value)
        position += length
    return name, size
