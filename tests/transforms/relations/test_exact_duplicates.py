"""Exact copies: one of each group stays, whichever way the rows come together."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
import xxhash

from filters.drop_exact_duplicates import DropExactDuplicates
from transforms.relations.exact_duplicates import (
    BUCKETS,
    ENTRY,
    compared_rows,
    duplicates,
    entries,
    relation_columns,
)

Row = tuple[str | None, str, str, bool]  # hash, uid, caption, alive


def pool(count: int, *, parts: int, seed: int) -> list[list[Row]]:
    """Parts with many copies, equal uids, rows without a hash and rows that are not alive."""
    chance = random.Random(seed)  # noqa: S311  (no secrets here)
    rows: list[Row] = []
    for _ in range(count):
        content = xxhash.xxh3_128_hexdigest(str(chance.randrange(count // 3)).encode())
        uid = f"{chance.randrange(count // 2):032x}"
        hashed = None if chance.random() < 0.05 else content
        rows.append((hashed, uid, chance.choice("ab"), chance.random() < 0.9))
    return [rows[at::parts] for at in range(parts)]


def columns(rows: Sequence[Row]) -> dict[str, pa.Array]:
    return {
        "bytes_hash": pa.array([row[0] for row in rows], pa.string()),
        "uid": pa.array([row[1] for row in rows], pa.string()),
        "caption": pa.array([row[2] for row in rows], pa.string()),
    }


def by_buckets(
    parts: Sequence[Sequence[Row]], options: DropExactDuplicates, *, shuffle: int = 0
) -> list[list[str | None]]:
    """As an engine does it, in any order."""
    brought: dict[int, list[pa.Table]] = {}
    for number, rows in enumerate(parts):
        alive = np.array([row[3] for row in rows], dtype=bool)
        for bucket, table in entries(options, columns(rows), alive, number):
            brought.setdefault(bucket, []).append(table)
    chance = random.Random(shuffle)  # noqa: S311
    found: dict[int, list[pa.Table]] = {number: [] for number in range(len(parts))}
    for bucket in chance.sample(sorted(brought), len(brought)):
        tables = chance.sample(brought[bucket], len(brought[bucket]))
        for number, answers in duplicates(pa.concat_tables(tables)).items():
            found[number].append(answers)
    result = []
    for number, rows in enumerate(parts):
        alive = np.array([row[3] for row in rows], dtype=bool)
        written = relation_columns(found[number], compared_rows(options, columns(rows), alive))
        assert written["compared"].to_pylist() == [row[3] and row[0] is not None for row in rows]
        result.append(written["duplicate_of"].to_pylist())
    return result


def by_brute_force(parts: Sequence[Sequence[Row]], *, same_caption: bool = False) -> list[list[str | None]]:
    groups: dict[object, list[tuple[str, int, int]]] = {}
    for number, rows in enumerate(parts):
        for at, (content, uid, caption, alive) in enumerate(rows):
            if alive and content is not None:
                groups.setdefault((content, caption if same_caption else ""), []).append((uid, number, at))
    result: list[list[str | None]] = [[None] * len(rows) for rows in parts]
    for group in groups.values():
        first, *copies = sorted(group)
        for _, number, at in copies:
            result[number][at] = first[0]
    return result


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("same_caption", [False, True])
def test_copies_equal_those_of_a_brute_force_in_every_order(seed: int, same_caption: bool) -> None:  # noqa: FBT001
    parts = pool(300, parts=3, seed=seed)
    options = DropExactDuplicates(same_caption=same_caption)
    expected = by_brute_force(parts, same_caption=same_caption)
    assert sum(original is not None for rows in expected for original in rows) > 50
    for shuffle in range(3):
        assert by_buckets(parts, options, shuffle=shuffle) == expected


def test_the_survivor_s_uid_does_not_depend_on_the_partition() -> None:
    rows = [row for part in pool(300, parts=1, seed=9) for row in part]
    distinct = [
        (content, f"{at:032x}", caption, alive) for at, (content, _, caption, alive) in enumerate(rows)
    ]

    def originals(parts: Sequence[Sequence[Row]]) -> dict[str, str | None]:
        found = by_buckets(parts, DropExactDuplicates())
        return {
            row[1]: original
            for part, said in zip(parts, found, strict=True)
            for row, original in zip(part, said, strict=True)
        }

    whole = originals([distinct])
    assert originals([distinct[:100], distinct[100:]]) == whole
    assert originals([distinct[200:], distinct[:200]]) == whole
    assert originals([distinct[::-1]]) == whole


def test_equal_uids_are_told_apart_by_shard_then_row() -> None:
    one: Row = ("ab" + "0" * 30, "5" * 32, "", True)
    assert by_buckets([[one, one], [one]], DropExactDuplicates()) == [[None, "5" * 32], ["5" * 32]]


def test_equal_rows_are_told_apart_in_whichever_order_they_come() -> None:
    columns_of = {
        "hash": ["ab" + "0" * 30] * 4,
        "uid": ["5" * 32] * 4,
        "shard_number": [1, 0, 1, 0],
        "row": [9, 8, 2, 3],
    }
    found = duplicates(pa.table(columns_of, schema=ENTRY))
    assert {shard: answers["row"].to_pylist() for shard, answers in found.items()} == {0: [8], 1: [2, 9]}


def test_the_smaller_uid_stays_in_whichever_shard() -> None:
    high: Row = ("ab" + "0" * 30, "f" * 32, "", True)
    low: Row = ("ab" + "0" * 30, "0" * 32, "", True)
    assert by_buckets([[high], [low]], DropExactDuplicates()) == [["0" * 32], [None]]


def test_a_row_that_is_not_alive_has_no_copies() -> None:
    gone: Row = ("ab" + "0" * 30, "0" * 32, "", False)
    here: Row = ("ab" + "0" * 30, "1" * 32, "", True)
    assert by_buckets([[gone, here]], DropExactDuplicates()) == [[None, None]]


def test_all_rows_of_a_hash_lie_in_one_bucket_and_buckets_spread() -> None:
    parts = pool(3000, parts=2, seed=1)
    where: dict[str, set[int]] = {}
    for number, rows in enumerate(parts):
        for bucket, table in entries(DropExactDuplicates(), columns(rows), np.ones(len(rows), bool), number):
            assert table.schema == ENTRY
            assert 0 <= bucket < BUCKETS
            for content in table["hash"].to_pylist():
                where.setdefault(content, set()).add(bucket)
    assert {len(buckets) for buckets in where.values()} == {1}
    assert len(set.union(*where.values())) > 200


def test_nothing_brings_nothing() -> None:
    assert list(entries(DropExactDuplicates(), columns([]), np.empty(0, bool), 0)) == []
    assert duplicates(ENTRY.empty_table()) == {}
    written = relation_columns([], np.empty(0, bool))
    assert [column.type for column in written.values()] == [pa.string(), pa.bool_()]
