"""Tables, arrays and tars without removed samples: no row, one row, every type of column."""

from __future__ import annotations

import io
import json
import tarfile

import numpy as np
import pyarrow as pa
import pytest

from filters.core.decide import NO_VOTES, decide
from transforms.failures import FAILURES_SCHEMA
from transforms.removal.blanking import (
    blank_ledger,
    blank_rows,
    blank_samples,
    blank_vectors,
    copy_tar_without,
    failures_without,
    packed_uids,
    renamed,
)
from transforms.removal.marks import stand_in
from transforms.samples import SCHEMA, failure_counts, labels
from transforms.tar import TarEnded, end_tar, write_member

KINDS = pa.table(
    {
        "number": pa.array([1.5, None, 3.0]),
        "text": ["a", "b", None],
        "label": labels(["x", "y", "x"]),
        "fixed": pa.array([b"12", b"34", b"56"], pa.binary(2)),
        "struct": [{"one": True}, {"one": None}, None],
        "many": [[1], [], None],
    }
)


def test_rows_become_null_in_columns_of_every_type() -> None:
    blank = blank_rows(KINDS, [0])
    assert blank.schema == KINDS.schema
    assert set(blank.to_pylist()[0].values()) == {None}
    assert blank.to_pylist()[1:] == KINDS.to_pylist()[1:]


def test_no_rows_are_the_same_table() -> None:
    empty = KINDS.slice(0, 0)
    assert blank_rows(KINDS, []) is KINDS
    assert blank_rows(empty, []) is empty
    assert renamed(empty, {"a": "b"}).num_rows == 0
    vectors = np.ones((2, 3), np.float16)
    assert blank_vectors(vectors, []) is vectors


def samples(**columns: list[object]) -> pa.Table:
    count = len(next(iter(columns.values())))
    rows = [{"shard": "s", "row": at, "key": f"k{at}", "uid": f"{at:032x}"} for at in range(count)]
    table = pa.Table.from_pylist(
        [{**row, **{name: values[at] for name, values in columns.items()}} for at, row in enumerate(rows)],
        pa.schema(
            [
                (field.name, pa.string() if pa.types.is_dictionary(field.type) else field.type)
                for field in SCHEMA
            ]
        ),
    )
    return pa.table({name: table[name].cast(SCHEMA.field(name).type) for name in SCHEMA.names}, schema=SCHEMA)


def test_the_only_row_of_a_shard_can_go() -> None:
    table = samples(caption=["private"], url=["http://private"], image_bytes=[5], sample_offset=[0])
    (row,) = blank_samples(table, "p-1", [0]).to_pylist()
    name = stand_in("p-1", 0)
    told = {"shard": "s", "row": 0, "uid": name, "key": name, "failure": "removed", "failure_detail": ""}
    assert row == {**dict.fromkeys(SCHEMA.names), **told}


def test_a_row_that_had_failed_is_removed_like_any_other() -> None:
    table = samples(failure=["not_an_image", "missing_image"], failure_detail=["begins with b'private'", ""])
    blank = blank_samples(table, "p", [0])
    assert blank["failure"].to_pylist() == ["removed", "missing_image"]
    assert blank["failure_detail"].to_pylist() == ["", ""]
    assert blank["failure"].chunk(0).dictionary.to_pylist() == ["removed", "missing_image"]
    assert failure_counts(blank) == {"failed_rows": 2, "removed_rows": 1}
    assert failure_counts(table) == {"failed_rows": 2}


def test_the_stand_in_is_of_the_place_alone() -> None:
    assert len({stand_in(part, row) for part in ("a", "b", "a 1") for row in range(20)}) == 60


def test_a_ledger_without_filters_has_no_votes_to_blank() -> None:
    uids = pa.array([f"{at:032x}" for at in range(3)])
    ledger = decide({"uid": uids, "failure": pa.nulls(3, pa.string())}, ())
    blank = blank_ledger(ledger, "p", [1])
    assert blank.schema == ledger.schema
    assert blank.schema.field("votes").type == NO_VOTES
    assert blank["verdict"].to_pylist() == ["keep", "failed", "keep"]
    assert blank["weight"].to_pylist() == [1, 0, 1]
    assert blank["uid"].to_pylist() == [uids[0].as_py(), stand_in("p", 1), uids[2].as_py()]


def test_others_name_the_stand_in_in_every_text_column() -> None:
    table = pa.table({"duplicate_of": ["u", None, "v"], "value_text": ["u", "not u", None], "n": [1, 2, 3]})
    assert renamed(table, {"u": "s"}).to_pydict() == {
        "duplicate_of": ["s", None, "v"],
        "value_text": ["s", "not u", None],
        "n": [1, 2, 3],
    }
    assert renamed(table, {"x": "s"}) is table
    assert renamed(table, {}) is table


def test_failures_keep_their_order_and_what_failed_as_a_whole_comes_last() -> None:
    there = pa.Table.from_pylist(
        [
            {"shard": "s", "row": 2, "key": "private", "code": "not_an_image"},
            {"shard": "s", "row": 5, "key": "k5", "code": "zero_bytes"},
            {"shard": "s", "code": "tar_truncated", "offset": 99},
        ],
        FAILURES_SCHEMA,
    )
    found = failures_without(there, "s", "p", [0, 2])
    assert found.schema == FAILURES_SCHEMA
    assert found["row"].to_pylist() == [0, 2, 5, None]
    assert found["code"].to_pylist() == ["removed", "removed", "zero_bytes", "tar_truncated"]
    assert "private" not in str(found.to_pylist())
    assert failures_without(None, "s", "p", [3])["key"].to_pylist() == [stand_in("p", 3)]


# --- tars

LONG = "folder/" + "l" * 150


def packed(*samples: tuple[str, str | None]) -> bytes:
    """A curated tar; a sample without a uid has a member that is not JSON."""
    stream = io.BytesIO()
    for key, uid in samples:
        write_member(stream, f"{key}.jpg", key.encode() * 300)
        write_member(stream, f"{key}.curate.json", b"{" if uid is None else json.dumps({"uid": uid}).encode())
    end_tar(stream)
    return stream.getvalue()


def without(tar: bytes, *uids: str) -> bytes:
    target = io.BytesIO()
    copy_tar_without(io.BytesIO(tar), target, uids)
    return target.getvalue()


def test_a_tar_without_a_sample_is_the_tar_of_the_others() -> None:
    whole = packed(("a", "1"), (LONG, "2"), ("b", "3"), ("c", None))
    assert packed_uids(io.BytesIO(whole)) == ["1", "2", "3", None]
    assert without(whole, "2") == packed(("a", "1"), ("b", "3"), ("c", None))
    assert without(whole, "1", "3") == packed((LONG, "2"), ("c", None))
    assert without(whole) == whole
    assert without(without(whole, "2"), "2") == without(whole, "2")


def test_a_tar_can_lose_all_its_samples() -> None:
    left = without(packed(("a", "1")), "1")
    assert left == packed()
    with tarfile.open(fileobj=io.BytesIO(left)) as archive:
        assert archive.getnames() == []


def test_a_damaged_tar_is_told_of() -> None:
    with pytest.raises(TarEnded):
        without(packed(("a", "1"), ("b", "2"))[:1500], "1")
