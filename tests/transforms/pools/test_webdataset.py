"""Consecutive members of a tar with one key are one sample; broken tars keep what is whole."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pytest

from tests.pools import Member
from transforms.pool import PoolOptions, RawSample, ShardEnd
from transforms.pools.webdataset import MAX_TEXT_BYTES, read_tar, split_name
from transforms.tar import end_tar, write_member


def tar(members: Sequence[Member]) -> bytes:
    sink = io.BytesIO()
    for name, content in members:
        write_member(sink, name, content)
    end_tar(sink)
    return sink.getvalue()


def read(content: bytes, **options: int) -> tuple[list[RawSample], ShardEnd]:
    *samples, end = read_tar(io.BytesIO(content), PoolOptions(**options))
    assert all(isinstance(sample, RawSample) for sample in samples)
    assert isinstance(end, ShardEnd)
    assert [sample.row for sample in samples] == list(range(len(samples)))  # type: ignore[union-attr]
    return samples, end  # type: ignore[return-value]


def members(*names: str) -> list[Member]:
    return [(name, name.encode()) for name in names]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.jpg", ("a", "jpg")),
        ("a.seg.png", ("a", "seg.png")),
        ("x.y/z/a.jpg", ("x.y/z/a", "jpg")),
        ("./a.jpg", ("./a", "jpg")),
        ("../a.JPG", ("../a", "JPG")),
        ("line\nbreak.txt", ("line\nbreak", "txt")),
        ("README", None),
        ("folder/README", None),
        (".hidden.jpg", None),
        ("folder/.hidden", None),
        ("a.", None),
    ],
)
def test_the_key_ends_at_the_first_dot_of_the_file_name(name: str, expected: tuple[str, str] | None) -> None:
    assert split_name(name) == expected


def test_neighbours_with_one_key_are_one_sample() -> None:
    content = tar(members("p.q/0.jpg", "p.q/0.txt", "p.q/0.json", "p.q/1.png", "p.q/1.txt"))
    samples, end = read(content)
    assert [sample.key for sample in samples] == ["p.q/0", "p.q/1"]
    assert (samples[0].image, samples[0].caption, samples[0].metadata) == (
        b"p.q/0.jpg",
        b"p.q/0.txt",
        b"p.q/0.json",
    )
    assert (samples[0].offset, samples[0].size, samples[0].image_offset) == (0, 3 * 1024, 512)
    assert (samples[1].offset, samples[1].size, samples[1].image_bytes) == (3072, 2048, 9)
    assert end == ShardEnd()


@pytest.mark.parametrize(
    "extension", ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "JPG", "Png"]
)
def test_an_image_is_known_by_its_extension_in_any_case(extension: str) -> None:
    samples, _ = read(tar([(f"a.{extension}", b"1"), ("a.TXT", b"2")]))
    assert [(sample.image, sample.image_name, sample.caption) for sample in samples] == [
        (b"1", f"a.{extension}", b"2")
    ]


def test_other_members_of_a_sample_are_left_alone() -> None:
    samples, end = read(tar(members("a.mp3", "a.jpg", "a.cls")))
    assert [(sample.image, sample.caption, sample.size) for sample in samples] == [(b"a.jpg", None, 3072)]
    assert end.ignored_members == 0


def test_members_without_key_or_extension_are_counted_and_ignored() -> None:
    samples, end = read(tar(members("README", "a.jpg", "LICENSE", "a.txt", ".DS_Store")))
    assert [(sample.image, sample.caption) for sample in samples] == [(b"a.jpg", b"a.txt")]
    assert end.ignored_members == 3


def test_of_several_images_the_first_counts() -> None:
    samples, _ = read(tar(members("a.jpg", "a.png", "a.seg.png", "a.txt")))
    assert [(sample.image_name, sample.image) for sample in samples] == [("a.jpg", b"a.jpg")]


def test_a_plain_text_counts_before_a_compound_one_wherever_it_stands() -> None:
    samples, _ = read(tar(members("a.first.txt", "a.txt", "a.z.txt", "a.b.json", "a.json", "a.y.json")))
    assert (samples[0].caption, samples[0].metadata) == (b"a.txt", b"a.json")
    samples, _ = read(tar(members("a.alt.txt", "a.meta.json")))
    assert (samples[0].caption, samples[0].metadata) == (b"a.alt.txt", b"a.meta.json")


def test_the_quality_member_of_a_curated_shard_is_no_metadata() -> None:
    samples, _ = read(tar(members("a.jpg", "a.txt", "a.curate.json")))
    assert samples[0].metadata is None


def test_an_adjacent_twin_starts_a_row_that_failed() -> None:
    samples, _ = read(tar(members("a.jpg", "a.txt", "a.jpg", "a.txt", "b.jpg")))
    assert [(sample.key, sample.failure) for sample in samples] == [
        ("a", None),
        ("a", "duplicate_key"),
        ("b", None),
    ]
    assert samples[1].detail == "key 'a' was there before"


def test_the_same_extension_in_another_case_is_a_twin() -> None:
    samples, _ = read(tar(members("a.jpg", "a.JPG")))
    assert [sample.failure for sample in samples] == [None, "duplicate_key"]


def test_a_distant_twin_starts_a_row_that_failed() -> None:
    samples, _ = read(tar(members("a.jpg", "b.jpg", "a.txt", "c.jpg")))
    assert [(sample.key, sample.failure) for sample in samples] == [
        ("a", None),
        ("b", None),
        ("a", "duplicate_key"),
        ("c", None),
    ]


@pytest.mark.parametrize(("size", "failure"), [(10, None), (11, "member_too_large")])
def test_an_image_beyond_the_bound_is_not_read(size: int, failure: str | None) -> None:
    samples, _ = read(tar([("a.jpg", bytes(size)), ("a.txt", b"x"), ("b.jpg", b"1")]), max_member_bytes=10)
    assert samples[0].failure == failure
    assert (samples[0].image is None, samples[0].image_bytes) == (failure is not None, size)
    assert (samples[0].caption, samples[1].image) == (b"x", b"1")
    assert samples[0].detail == ("a.jpg has 11 bytes" if failure else "")


@pytest.mark.parametrize("extension", ["txt", "json"])
def test_a_huge_text_is_not_read(extension: str) -> None:
    samples, _ = read(tar([("a.jpg", b"1"), (f"a.{extension}", bytes(MAX_TEXT_BYTES + 1)), ("b.jpg", b"2")]))
    assert samples[0].failure == "member_too_large"
    assert samples[0].detail == f"a.{extension} has {MAX_TEXT_BYTES + 1} bytes"
    assert samples[1].image == b"2"


WHOLE = tar([("a.jpg", b"i" * 600), ("a.txt", b"t" * 10), ("b.jpg", b"j" * 600), ("b.txt", b"u" * 10)])
# a.jpg 0..1536 (data 512..1112), a.txt 1536..2560 (data 2048..2058), b.jpg 2560..4096, b.txt 4096..5120


@pytest.mark.parametrize(
    ("cut", "keys"),
    [
        (0, []),  # nothing there
        (100, []),  # in the first header
        (900, []),  # in the first image
        (1200, []),  # in its padding: the caption is lost
        (1536, []),  # between its members
        (2050, []),  # in its caption
        (2058, ["a"]),  # in the caption's padding: the sample is whole
        (2300, ["a"]),
        (2560, ["a"]),  # between two samples
        (2700, ["a"]),  # in the next header
        (3500, ["a"]),  # in the next image
        (4096, ["a"]),  # before its caption
        (4700, ["a", "b"]),  # in the last padding
        (5120, ["a", "b"]),  # no end-of-archive marker
    ],
)
def test_a_cut_tar_gives_the_samples_that_are_whole(cut: int, keys: list[str]) -> None:
    samples, end = read(WHOLE[:cut])
    assert [sample.key for sample in samples] == keys
    assert (end.code, end.offset) == ("tar_truncated", cut)


def test_a_damaged_header_gives_the_samples_before_it() -> None:
    broken = bytearray(WHOLE)
    broken[2570] ^= 0xFF
    samples, end = read(bytes(broken))
    assert [(sample.key, sample.image) for sample in samples] == [("a", b"i" * 600)]
    assert (end.code, end.offset, end.detail) == ("tar_corrupt", 2560, "bad header: bad checksum")


def test_a_sample_that_is_cut_in_a_member_nobody_reads_is_not_whole() -> None:
    content = tar([("a.jpg", b"1"), ("a.txt", b"2"), ("a.mp3", b"3" * 900)])
    samples, end = read(content[:2700])
    assert (samples, end.code) == ([], "tar_truncated")


def test_an_empty_tar_has_no_samples_and_a_good_end() -> None:
    assert read(tar([])) == ([], ShardEnd())
