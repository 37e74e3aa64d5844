"""Parquet shards with image bytes give the rows that tars would."""

from __future__ import annotations

import datetime as dt
import io
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from filters.core.errors import PoolError
from transforms.pool import PoolColumns, PoolOptions, RawSample, ShardEnd
from transforms.pools.parquet import ROWS_AT_ONCE, read_parquet, read_rows

UID = "0123456789abcdef0123456789abcdef"


def file_of(columns: dict[str, Any], **how: Any) -> io.BytesIO:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, **how)
    sink.seek(0)
    return sink


def read(columns: dict[str, Any], options: PoolOptions | None = None) -> list[RawSample]:
    *samples, end = read_parquet(file_of(columns), "shard", options or PoolOptions())
    assert end == ShardEnd()
    return [sample for sample in samples if isinstance(sample, RawSample)]


def test_plain_binary_and_text_columns() -> None:
    samples = read({"jpg": [b"1", b"22"], "txt": ["one", "two"]})
    assert [(s.row, s.key, s.image, s.caption) for s in samples] == [
        (0, "shard_00000000", b"1", b"one"),
        (1, "shard_00000001", b"22", b"two"),
    ]
    assert [(s.offset, s.size, s.image_bytes, s.image_offset, s.image_name) for s in samples] == [
        (0, 1, 1, -1, ""),
        (1, 1, 2, -1, ""),
    ]


def test_a_hugging_face_image_struct() -> None:
    images = [
        {"bytes": b"1", "path": "x.png"},
        {"bytes": b"2", "path": None},
        {"bytes": None, "path": "y.png"},
        None,
    ]
    samples = read({"image": images, "text": ["a", "b", "c", "d"]})
    assert [(s.image, s.image_name) for s in samples] == [
        (b"1", "x.png"),
        (b"2", ""),
        (None, "y.png"),
        (None, ""),
    ]


def test_the_first_column_that_is_there_counts() -> None:
    samples = read({"text": ["text"], "caption": ["caption"], "jpg": [b"jpg"], "image": [b"image"]})
    assert [(s.image, s.caption) for s in samples] == [(b"image", b"caption")]


def test_configured_names() -> None:
    columns = PoolColumns(image=("photo",), caption=("alt",), uid=("hash",), key=("id",), url=("link",))
    rows = {"photo": [b"1"], "alt": ["words"], "hash": [UID], "id": [0], "link": ["http://x"]}
    (sample,) = read(rows, PoolOptions(columns=columns))
    assert (sample.key, sample.image, sample.caption) == ("0", b"1", b"words")
    found = json.loads(sample.metadata or b"")
    assert (found["uid"], found["url"]) == (UID, "http://x")


def test_other_columns_become_metadata_without_bytes() -> None:
    day = dt.date(2024, 5, 1)
    rows = {
        "image": [b"1"],
        "text": ["t"],
        "day": [day],
        "thumb": [b"22"],
        "crop": [{"bytes": b"3", "box": [1, 2]}],
        "score": [0.5],
    }
    (sample,) = read(rows)
    assert json.loads(sample.metadata or b"") == {
        "text": "t",
        "day": "2024-05-01",
        "crop": {"bytes": None, "box": [1, 2]},
        "score": 0.5,
    }


def test_null_captions_and_binary_captions() -> None:
    assert [s.caption for s in read({"image": [b"1", b"2"], "caption": ["a", None]})] == [b"a", None]
    assert [s.caption for s in read({"image": [b"1"], "caption": [b"\xff"]})] == [b"\xff"]
    assert [s.caption for s in read({"image": [b"1"]})] == [None]


def test_keys_that_are_missing_are_made_and_those_that_repeat_fail() -> None:
    samples = read({"image": [b"1", b"2", b"3", b"4"], "key": ["k", None, "", "k"]})
    assert [(s.key, s.failure) for s in samples] == [
        ("k", None),
        ("shard_00000001", None),
        ("shard_00000002", None),
        ("k", "duplicate_key"),
    ]


@pytest.mark.parametrize(("bound", "failure"), [(3, None), (2, "member_too_large")])
def test_an_image_beyond_the_bound_fails(bound: int, failure: str | None) -> None:
    (sample,) = read({"image": [b"123"]}, PoolOptions(max_member_bytes=bound))
    assert (sample.failure, sample.image_bytes, sample.detail) == (failure, 3, "3 bytes" if failure else "")
    assert sample.image == (None if failure else b"123")


def test_many_rows_keep_their_order_over_batches_and_row_groups() -> None:
    count = 3 * ROWS_AT_ONCE + 5
    file = file_of({"image": [b"%d" % row for row in range(count)]}, row_group_size=50)
    samples = [s for s in read_parquet(file, "s", PoolOptions()) if isinstance(s, RawSample)]
    assert [(s.row, s.image) for s in samples] == [(row, b"%d" % row) for row in range(count)]


def test_no_image_column_is_an_error_that_names_the_columns() -> None:
    with pytest.raises(
        PoolError, match="no image column: looked for image, jpg, image_bytes among a, b; set pool"
    ):
        read({"a": [1], "b": [2]})


def test_an_image_column_without_bytes_is_an_error() -> None:
    with pytest.raises(PoolError, match="column 'image' has type string, not image bytes"):
        read({"image": ["http://example.org/1.jpg"]})


def test_a_damaged_file_says_after_which_row() -> None:
    file = file_of(
        {"image": [bytes([row]) * 1000 for row in range(100)]}, row_group_size=50, compression="zstd"
    )
    group = pq.ParquetFile(file).metadata.row_group(1).column(0)
    content = bytearray(file.getvalue())
    start = group.dictionary_page_offset or group.data_page_offset
    content[start : start + 200] = b"\xff" * 200
    rows = read_parquet(io.BytesIO(bytes(content)), "s", PoolOptions())
    seen = 0
    with pytest.raises(OSError, match=r"^after row \d+: ") as raised:  # noqa: PT012  (rows come first)
        for _ in rows:
            seen += 1
    assert str(raised.value).startswith(f"after row {seen}: ")
    assert 0 < seen < 100


def test_a_file_that_is_no_parquet_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="Parquet magic bytes not found"):
        list(read_parquet(io.BytesIO(b"no parquet at all, really"), "s", PoolOptions()))


class Counting(io.BytesIO):
    """Counts the bytes that are read."""

    taken = 0

    def read(self, count: int | None = -1, /) -> bytes:
        content = super().read(count)
        self.taken += len(content)
        return content


def test_chosen_rows_are_those_of_the_whole_file() -> None:
    file = file_of(
        {"image": [b"%d" % row for row in range(200)], "text": [str(row) for row in range(200)]},
        row_group_size=64,
    )
    wanted = [0, 1, 63, 64, 127, 190, 199]
    found = list(read_rows(file, PoolOptions(), wanted))
    assert [(s.row, s.image, s.caption) for s in found] == [(row, b"%d" % row, b"%d" % row) for row in wanted]
    assert list(read_rows(file, PoolOptions(), [])) == []
    assert [s.row for s in read_rows(file, PoolOptions(), [5, 900])] == [5]


def test_chosen_rows_cost_only_their_row_groups() -> None:
    incompressible = [bytes((row * 7 + at * 13) % 251 for at in range(10_000)) for row in range(64)]
    content = file_of(
        {"image": incompressible}, row_group_size=8, compression="none", use_dictionary=False
    ).getvalue()
    stream = Counting(content)
    assert [s.image for s in read_rows(stream, PoolOptions(), [33])] == [incompressible[33]]
    assert stream.taken < len(content) / 3


def test_reading_stops_at_the_last_chosen_row_and_never_holds_a_whole_row_group() -> None:
    incompressible = np.random.default_rng(0).bytes(200_000)
    images = [incompressible[at:] for at in range(100)]
    pages = {"write_batch_size": 1, "data_page_size": 1}  # a page for each image
    content = file_of({"image": images}, compression="none", use_dictionary=False, **pages).getvalue()
    assert pq.ParquetFile(io.BytesIO(content)).num_row_groups == 1
    stream = Counting(content)
    assert [s.image for s in read_rows(stream, PoolOptions(), [3])] == [images[3]]
    assert stream.taken < len(content) / 2
    stream = Counting(content)
    next(iter(read_parquet(stream, "s", PoolOptions())))
    assert stream.taken < len(content) / 2
