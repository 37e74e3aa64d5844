"""Workers that share shards out: each shard is taken once, by whoever asks first."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from pathlib import Path

from transforms.pool import Shard
from transforms.shared_shards import share_out


def shards(count: int) -> list[Shard]:
    return [Shard(f"{at}.tar", at, f"{at}-part", "webdataset", 1) for at in range(count)]


def test_workers_take_what_is_left_in_the_order_of_the_pool(tmp_path: Path) -> None:
    one, two = share_out(shards(5), 2, tmp_path)
    turns = list(zip_longest(one, two))
    assert [(a and a.number, b and b.number) for a, b in turns] == [(0, 1), (2, 3), (4, None)]
    assert list(one) == []


def test_a_slow_worker_leaves_the_rest_to_the_others(tmp_path: Path) -> None:
    one, two = share_out(shards(12), 2, tmp_path)
    assert next(iter(one)).number == 0
    assert [shard.number for shard in two] == list(range(1, 12))
    assert list(one) == []


def test_no_shard_is_taken_twice_or_left(tmp_path: Path) -> None:
    lanes = share_out(shards(300), 4, tmp_path)
    with ThreadPoolExecutor(4) as workers:
        taken = list(workers.map(list, lanes))
    assert sorted(shard.number for some in taken for shard in some) == list(range(300))


def test_nothing_to_share(tmp_path: Path) -> None:
    (only,) = share_out([], 1, tmp_path)
    assert list(only) == []
