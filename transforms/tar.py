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
_WITHOUT_DATA = (
    *(tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE),
    *(tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE),
)
_PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_EXTENSIONS = (*_PAX, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


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


@dataclass(slots=True)
class _Extended:
    """What extension records say of the member that follows them."""

    offset: int | None = None
    name: str | None = None
    size: int | None = None
    sparse: bool = False


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
        extended = _Extended()
        while (info := self._header()) is not None:
            offset = self._offset - BLOCK if extended.offset is None else extended.offset
            if info.type in _EXTENSIONS:
                extended.offset = offset
                self._extend(extended, info)
                continue
            if info.type == tarfile.GNUTYPE_SPARSE:
                self._skip_sparse_map(info)
            size = info.size if extended.size is None else extended.size
            member = Member(extended.name or info.name, offset, self._offset, size)
            regular = info.type in _REGULAR and not member.name.endswith("/") and not extended.sparse
            extended = _Extended()
            if regular:
                self._current = member
                yield member
                self._skip(member.end - self._offset)  # whether or not it was read
            elif info.type not in _WITHOUT_DATA:
                self._skip(_padded(size))

    def read(self) -> bytes:
        """The bytes of the member that the iteration has just given; once.

        Raises: TarEnded where the tar ends inside it.
        """
        member = self._current
        if member is None or self._offset != member.data_offset:
            msg = "a member is read once, right after it was given"
            raise ValueError(msg)
        content = self._read(member.size)
        if len(content) < member.size:
            detail = f"{member.name} has {len(content)} of its {member.size} bytes"
            raise TarEnded("tar_truncated", self._offset, detail)
        return content

    def _header(self) -> tarfile.TarInfo | None:
        block = self._read(BLOCK)
        if len(block) < BLOCK:
            detail = "cut inside a header" if block else "no end-of-archive marker"
            raise TarEnded("tar_truncated", self._offset, detail)
        if not any(block):
            return None
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.HeaderError, ValueError) as cause:
            raise TarEnded("tar_corrupt", self._offset - BLOCK, f"bad header: {cause}") from None
        if info.size < 0:  # base-256 numbers can be negative
            raise TarEnded("tar_corrupt", self._offset - BLOCK, f"a member of {info.size} bytes")
        return info

    def _extend(self, extended: _Extended, info: tarfile.TarInfo) -> None:
        """Takes what an extension record says of the next member."""
        if info.size > MAX_EXTENSION_BYTES:
            raise TarEnded("tar_corrupt", self._offset, f"a name record of {info.size} bytes")
        record = self._read(_padded(info.size))[: info.size]
        if len(record) < info.size:
            raise TarEnded("tar_truncated", self._offset, "cut inside a name record")
        if info.type == tarfile.GNUTYPE_LONGNAME:
            extended.name = record.partition(b"\0")[0].decode("utf-8", "surrogateescape")
        elif info.type in _PAX:
            try:
                _extend_by_pax(extended, record)
            except ValueError as cause:
                detail = f"a PAX record that can't be parsed: {cause}"
                raise TarEnded("tar_corrupt", self._offset, detail) from None

    def _skip_sparse_map(self, info: tarfile.TarInfo) -> None:
        """GNU's old sparse headers go on in further blocks; a flag in each says so."""
        more = info._sparse_structs[1]  # type: ignore[attr-defined]  # noqa: SLF001  (no public name)
        while more:
            block = self._read(BLOCK)
            if len(block) < BLOCK:
                raise TarEnded("tar_truncated", self._offset, "cut inside a header")
            more = bool(block[504])

    def _read(self, count: int) -> bytes:
        """So many bytes, fewer at the file's end only; a network stream may give them in pieces."""
        pieces = []
        while count > 0 and (piece := self._stream.read(count)):
            pieces.append(piece)
            count -= len(piece)
            self._offset += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

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
    tar = TarStream(io.BytesIO(content + bytes(2 * BLOCK)))
    return [(member, tar.read()) for member in tar]


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _extend_by_pax(extended: _Extended, record: bytes) -> None:
    r"""Takes path, size and sparseness from a PAX record, lines of "<length> <key>=<value>\n".

    Raises: ValueError where it is damaged.
    """
    position = 0
    while position < len(record):
        length = int(record[position : record.index(b" ", position)])
        line = record[position : position + length]
        if length <= 0 or len(line) < length or not line.endswith(b"\n"):
            msg = f"a line of {length} bytes at byte {position}"
            raise ValueError(msg)
        key, _, value = line[:-1].partition(b" ")[2].partition(b"=")
        if key == b"path":
            extended.name = value.decode("utf-8", "surrogateescape")
        elif key == b"size":
            extended.size = int(value)
            if extended.size < 0:
                msg = f"a member of {extended.size} bytes"
                raise ValueError(msg)
        elif key.startswith(b"GNU.sparse."):
            extended.sparse = True
        position += length
