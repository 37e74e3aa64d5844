"""Exact copies: one of each group stays, whichever way the rows come together."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import xxhash

from filters.drop_exact_duplicates import DropExactDuplicates
from tests.relating import compared, relate, scope_of
from transforms import exchange
from transforms.relations import exact_duplicates

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


def columns(rows: Sequence[Row]) -> dict[str, list[str | None]]:
    return {
        "bytes_hash": [row[0] for row in rows],
        "uid": [row[1] for row in rows],
        "caption": [row[2] for row in rows],
        "failure": [None if row[3] else "timeout" for row in rows],
    }


def originals(
    folder: Path,
    parts: Sequence[Sequence[Row]],
    *,
    same_caption: bool = False,
    workers: int = 1,
    seed: int = 0,
) -> list[list[str | None]]:
    rule = DropExactDuplicates(same_caption=same_caption)
    found = compared(folder, rule, [columns(rows) for rows in parts], workers=workers, seed=seed)
    for rows, written in zip(parts, found, strict=True):
        assert written["compared"] == [row[3] and row[0] is not None for row in rows]
    return [written["duplicate_of"] for written in found]


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


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("same_caption", [False, True])
def test_copies_equal_those_of_a_brute_force(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    same_caption: bool,  # noqa: FBT001
) -> None:
    monkeypatch.setattr(exact_duplicates, "ROWS_PER_BUCKET", 50 if seed else 1000)
    parts = pool(300, parts=3, seed=seed)
    expected = by_brute_force(parts, same_caption=same_caption)
    assert sum(original is not None for rows in expected for original in rows) > 50
    assert originals(tmp_path, parts, same_caption=same_caption, seed=seed) == expected


def test_the_survivor_s_uid_does_not_depend_on_partition_or_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exact_duplicates, "ROWS_PER_BUCKET", 20)
    monkeypatch.setattr("transforms.exchange.LOT_ROWS_AT_LEAST", 10)
    monkeypatch.setattr("transforms.exchange.BLOCK_BYTES_AT_LEAST", 500)
    monkeypatch.setattr("transforms.exchange.RANGE_BYTES_AT_LEAST", 10)
    rows = [row for part in pool(300, parts=1, seed=9) for row in part]
    distinct = [
        (content, f"{at:032x}", caption, alive) for at, (content, _, caption, alive) in enumerate(rows)
    ]

    def by_uid(name: str, parts: Sequence[Sequence[Row]], workers: int) -> dict[str, str | None]:
        found = originals(tmp_path / name, parts, workers=workers, seed=workers)
        return {
            row[1]: original
            for part, said in zip(parts, found, strict=True)
            for row, original in zip(part, said, strict=True)
        }

    whole = by_uid("whole", [distinct], 1)
    assert by_uid("two", [distinct[:100], distinct[100:]], 2) == whole
    assert by_uid("swapped", [distinct[200:], distinct[:200]], 4) == whole
    assert by_uid("many", [distinct[at::7][::-1] for at in range(7)], 3) == whole


def test_equal_uids_are_told_apart_by_shard_then_row(tmp_path: Path) -> None:
    one: Row = ("ab" + "0" * 30, "5" * 32, "", True)
    assert originals(tmp_path, [[one, one], [one]]) == [[None, "5" * 32], ["5" * 32]]


def test_the_smaller_uid_stays_in_whichever_shard(tmp_path: Path) -> None:
    high: Row = ("ab" + "0" * 30, "f" * 32, "", True)
    low: Row = ("ab" + "0" * 30, "0" * 32, "", True)
    assert originals(tmp_path, [[high], [low]]) == [["0" * 32], [None]]


def test_a_row_that_is_not_alive_has_no_copies(tmp_path: Path) -> None:
    gone: Row = ("ab" + "0" * 30, "0" * 32, "", False)
    here: Row = ("ab" + "0" * 30, "1" * 32, "", True)
    assert originals(tmp_path, [[gone, here]]) == [[None, None]]


def test_buckets_grow_with_the_pool_and_spread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact_duplicates, "ROWS_PER_BUCKET", 100)
    scope, parts = scope_of(
        tmp_path, DropExactDuplicates(), [columns(rows) for rows in pool(3000, parts=2, seed=1)]
    )
    relation = exact_duplicates.ExactDuplicates(scope)
    assert relation.keys() == 32
    relation.perform("sort", relation.waiting("sort", parts)[0])
    with exchange.gathered(scope.folder, [scope.work("sorted/0")], relation.dtype, 0, 32) as (records, keys):
        where: dict[bytes, set[int]] = {}
        for record, key in zip(records, keys.tolist(), strict=True):
            where.setdefault(record["hash"].tobytes(), set()).add(key)
    assert {len(buckets) for buckets in where.values()} == {1}
    assert len(set.union(*where.values())) == 32


def test_nothing_brings_nothing(tmp_path: Path) -> None:
    assert originals(tmp_path / "one", [[]]) == [[]]
    assert originals(tmp_path / "dead", [[("ab" + "0" * 30, "0" * 32, "", False)], []]) == [[None], []]


def test_working_files_go_when_the_relation_is_complete(tmp_path: Path) -> None:
    scope, parts = scope_of(
        tmp_path, DropExactDuplicates(), [columns(rows) for rows in pool(30, parts=2, seed=1)]
    )
    relation = relate(scope, parts)
    assert relation.complete()
    assert scope.folder.names(scope.group) == [
        "p0.done.json",
        "p0.parquet",
        "p1.done.json",
        "p1.parquet",
        "summary.json",
    ]


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    scope, parts = scope_of(
        tmp_path, DropExactDuplicates(), [columns(rows) for rows in pool(30, parts=2, seed=1)]
    )
    relation = exact_duplicates.ExactDuplicates(scope)
    assert not relation.complete()
    (task,) = relation.waiting("sort", parts)
    relation.perform("sort", task)
    assert relation.waiting("sort", parts) == []
