"""The tar reader gives what the standard library gives, and says how a tar ends."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable

import pytest

from transforms.tar import BLOCK, MAX_EXTENSION_BYTES, TarEnded, TarStream, end_tar, members_of, write_member

NAMES = [
    "a.jpg",
    "folder/with/b.txt",
    "ünï-名前.json",
    "caf\udce9.txt",  # a byte that is no UTF-8
    "l" * 99 + ".jpg",
    "long/" * 40 + "name.txt",
    "ü" * 200 + ".json",
]
FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def by_tarfile(form: int, *infos: tuple[tarfile.TarInfo, bytes]) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(
        fileobj=sink, mode="w", format=form, encoding="utf-8", errors="surrogateescape"
    ) as archive:
        for info, content in infos:
            info.size = len(content) if info.isreg() else 0
            archive.addfile(info, io.BytesIO(content))
    return sink.getvalue()


def regular(name: str) -> tarfile.TarInfo:
    return tarfile.TarInfo(name)


def of_type(name: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = "elsewhere" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
    return info


def contents(
    tar: bytes, *, wrap: Callable[[io.BytesIO], io.BytesIO] = lambda stream: stream
) -> dict[str, bytes]:
    stream = TarStream(wrap(io.BytesIO(tar)))
    return {member.name: stream.read() for member in stream}


def ending(tar: bytes, *, read: bool = True) -> tuple[list[str], str, int, str]:
    """Names before the end, its code, offset and detail."""
    names: list[str] = []
    stream = TarStream(io.BytesIO(tar))
    with pytest.raises(TarEnded) as ended:  # noqa: PT012  (members come before the end)
        for member in stream:
            if read:
                stream.read()
            names.append(member.name)
    return names, ended.value.code, ended.value.offset, str(ended.value)


def pax(lines: bytes, *, kind: bytes = tarfile.XHDTYPE) -> bytes:
    info = of_type("PaxHeader", kind)
    info.size = len(lines)
    return info.tobuf(tarfile.USTAR_FORMAT) + lines + bytes(-len(lines) % BLOCK)


def line(key: str, value: str) -> bytes:
    body = f" {key}={value}\n".encode()
    length = len(body) + 2
    assert 10 <= length < 100
    return str(length).encode() + body


def two(first: bytes = b"x" * 700, second: bytes = b"y" * 100) -> bytes:
    sink = io.BytesIO()
    write_member(sink, "a.jpg", first)
    write_member(sink, "b.jpg", second)
    end_tar(sink)
    return sink.getvalue()


@pytest.mark.parametrize("form", FORMATS)
def test_members_equal_those_of_the_standard_library(form: str) -> None:
    names = [name for name in NAMES if form != "ustar" or len(name.encode("utf-8", "surrogateescape")) <= 100]
    tar = by_tarfile(
        FORMATS[form],
        *((regular(name), name.encode("utf-8", "replace") * at) for at, name in enumerate(names)),
    )
    with tarfile.open(fileobj=io.BytesIO(tar), encoding="utf-8", errors="surrogateescape") as archive:
        theirs = [(member.name, member.offset, member.offset_data, member.size) for member in archive]
    stream = TarStream(io.BytesIO(tar))
    ours = [(member.name, member.header_offset, member.data_offset, member.size) for member in stream]
    assert ours == theirs
    assert [name for name, *_ in ours] == names
    assert contents(tar) == {name: name.encode("utf-8", "replace") * at for at, name in enumerate(names)}


def test_a_ustar_name_with_a_prefix_is_put_together() -> None:
    name = "p" * 120 + "/" + "n" * 90 + ".jpg"
    assert contents(by_tarfile(tarfile.USTAR_FORMAT, (regular(name), b"1"))) == {name: b"1"}


@pytest.mark.parametrize("name", NAMES)
def test_what_we_write_the_standard_library_reads(name: str) -> None:
    sink = io.BytesIO()
    write_member(sink, name, b"content")
    write_member(sink, "empty", b"")
    end_tar(sink)
    with tarfile.open(
        fileobj=io.BytesIO(sink.getvalue()), encoding="utf-8", errors="surrogateescape"
    ) as archive:
        found = {member.name: archive.extractfile(member) for member in archive}
        assert list(found) == [name, "empty"]
        stream = found[name]
        assert stream is not None
        assert stream.read() == b"content"


def test_equal_members_are_equal_bytes_with_no_owner_and_no_time() -> None:
    assert two() == two()
    with tarfile.open(fileobj=io.BytesIO(two())) as archive:
        member = archive.getmember("a.jpg")
    assert (member.mtime, member.uid, member.gid, member.uname, member.mode) == (0, 0, 0, "", 0o644)
    assert len(two()) == 512 + 1024 + 512 + 512 + 1024


@pytest.mark.parametrize("form", FORMATS)
def test_links_devices_and_folders_are_passed_over(form: str) -> None:
    others = [
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.CHRTYPE,
        tarfile.BLKTYPE,
        tarfile.FIFOTYPE,
        tarfile.DIRTYPE,
    ]
    infos = [(of_type(f"other{at}", kind), b"") for at, kind in enumerate(others)]
    tar = by_tarfile(FORMATS[form], (regular("a.jpg"), b"1"), *infos, (regular("b.jpg"), b"2"))
    assert contents(tar) == {"a.jpg": b"1", "b.jpg": b"2"}


def test_a_device_with_a_size_holds_no_data() -> None:
    device = of_type("null", tarfile.CHRTYPE)
    device.size = 700  # as the standard library, which finds the next header right after this one
    sink = io.BytesIO(device.tobuf(tarfile.GNU_FORMAT))
    sink.seek(0, io.SEEK_END)
    write_member(sink, "a.jpg", b"1")
    end_tar(sink)
    assert contents(sink.getvalue()) == {"a.jpg": b"1"}


def test_an_old_sparse_file_is_passed_over_with_all_its_map() -> None:
    header = bytearray(of_type("holes", tarfile.GNUTYPE_SPARSE).tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"00000001000\0"  # 512 bytes of data
    header[482] = 1  # the map goes on in another block
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    more = bytearray(BLOCK)
    more[504] = 1
    tar = bytes(header) + bytes(more) + bytes(BLOCK) + b"d" * 512 + two()
    assert list(contents(tar)) == ["a.jpg", "b.jpg"]


def test_a_pax_sparse_file_is_passed_over() -> None:
    sink = io.BytesIO()
    write_member(sink, "GNUSparseFile.0/holes.jpg", b"map and data")
    tar = pax(line("GNU.sparse.major", "1")) + sink.getvalue() + two()
    assert list(contents(tar)) == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE])
def test_pax_path_and_size_count_before_those_of_the_header(kind: bytes) -> None:
    info = regular("short.jpg")
    info.size = 0
    record = pax(line("path", "given/by/pax.jpg") + line("size", "5"), kind=kind)
    tar = record + info.tobuf(tarfile.USTAR_FORMAT) + b"12345" + bytes(507) + bytes(1024)
    assert contents(tar) == {"given/by/pax.jpg": b"12345"}
    first = next(iter(TarStream(io.BytesIO(tar))))
    assert (first.header_offset, first.data_offset, first.end) == (0, 1536, 2048)


def test_a_global_pax_record_names_no_member() -> None:
    tar = pax(line("comment", "of the archive"), kind=tarfile.XGLTYPE) + two()
    assert list(contents(tar)) == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize(
    "lines",
    [
        b"nonsense",
        b"0 path=x\n",
        b"99 path=x\n",
        b"11 path=xyzx",
        b"-9 path=x\n",
        b"12 size=-40\n",
        b"12 size=abc\n",
    ],
)
def test_a_damaged_pax_record_is_corrupt(lines: bytes) -> None:
    names, code, _, detail = ending(pax(lines) + two())
    assert (names, code) == ([], "tar_corrupt")
    assert detail.startswith("a PAX record that can't be parsed")


def test_a_huge_pax_record_is_not_read() -> None:
    info = of_type("PaxHeader", tarfile.XHDTYPE)
    info.size = MAX_EXTENSION_BYTES + 1
    _, code, offset, detail = ending(info.tobuf(tarfile.USTAR_FORMAT) + bytes(4096))
    assert (code, offset, detail) == ("tar_corrupt", 512, "a name record of 1048577 bytes")


def test_a_negative_size_is_corrupt() -> None:
    info = regular("a.jpg")
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 12  # -1 in base 256
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    assert ending(bytes(header) + two())[1:] == ("tar_corrupt", 0, "a member of -1 bytes")


def test_an_empty_tar_has_no_members() -> None:
    assert contents(bytes(1024)) == {}


def test_an_empty_file_is_no_tar() -> None:
    assert ending(b"") == ([], "tar_truncated", 0, "no end-of-archive marker")


@pytest.mark.parametrize(
    ("cut", "names", "detail"),
    [
        (300, [], "cut inside a header"),
        (512, [], "a.jpg has 0 of its 700 bytes"),
        (900, [], "a.jpg has 388 of its 700 bytes"),
        (1250, ["a.jpg"], "ends inside a member"),  # in the padding
        (1536, ["a.jpg"], "no end-of-archive marker"),
        (1700, ["a.jpg"], "cut inside a header"),
        (2060, ["a.jpg"], "b.jpg has 12 of its 100 bytes"),
        (2560, ["a.jpg", "b.jpg"], "no end-of-archive marker"),
    ],
)
def test_a_cut_tar_says_where(cut: int, names: list[str], detail: str) -> None:
    assert ending(two()[:cut]) == (names, "tar_truncated", cut, detail)


def test_a_cut_inside_a_member_that_is_not_read_is_found_all_the_same() -> None:
    assert ending(two()[:900], read=False)[1:] == ("tar_truncated", 900, "ends inside a member")


def test_a_cut_inside_a_long_name_is_found() -> None:
    tar = by_tarfile(tarfile.GNU_FORMAT, (regular("l" * 600 + ".jpg"), b"1"))
    assert ending(tar[:700])[1:] == ("tar_truncated", 700, "cut inside a name record")


def test_a_damaged_header_is_corrupt_and_what_came_before_is_good() -> None:
    tar = bytearray(two())
    tar[1536 + 10] ^= 0xFF
    assert ending(bytes(tar)) == (["a.jpg"], "tar_corrupt", 1536, "bad header: bad checksum")


def test_a_header_with_an_empty_name_is_no_end_of_the_archive() -> None:
    tar = bytearray(two())
    tar[1536 : 1536 + 100] = bytes(100)
    assert ending(bytes(tar))[:3] == (["a.jpg"], "tar_corrupt", 1536)


def test_a_stream_that_gives_bytes_in_drops_is_not_taken_for_cut() -> None:
    class Drops(io.BytesIO):
        def read(self, count: int | None = -1, /) -> bytes:
            return super().read(min(count or 0, 100))

    assert contents(two(), wrap=lambda stream: Drops(stream.getvalue())) == {
        "a.jpg": b"x" * 700,
        "b.jpg": b"y" * 100,
    }


def test_a_member_is_read_once() -> None:
    stream = TarStream(io.BytesIO(two()))
    next(iter(stream))
    assert stream.read() == b"x" * 700
    with pytest.raises(ValueError, match="read once"):
        stream.read()


def test_a_piece_cut_at_member_borders_gives_its_members() -> None:
    assert [(member.name, content) for member, content in members_of(two()[1536:2560])] == [
        ("b.jpg", b"y" * 100)
    ]
