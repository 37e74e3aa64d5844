"""The search finds exactly the pairs that comparing all with all finds."""

from __future__ import annotations

import tracemalloc
from itertools import islice, product

import numpy as np
import pytest
from numpy.typing import NDArray

from transforms import hamming as module
from transforms.hamming import (
    ExpectedWork,
    Pairs,
    distinct,
    expected_work,
    gathered,
    hamming,
    pairs_within,
)
from transforms.hamming_tables import BLOCK_BITS, make_tables

Codes = NDArray[np.uint8]


def random_codes(seed: int, count: int, width: int) -> Codes:
    return np.random.default_rng(seed).integers(0, 256, (count, width), dtype=np.uint8)


def flipped(code: Codes, bits: list[int]) -> Codes:
    changed = np.unpackbits(code)
    changed[bits] ^= 1
    return np.packbits(changed)


def planted(seed: int, count: int, width: int, most: int) -> Codes:
    """Random codes, each with copies of itself with up to `most` bits flipped, and equal ones."""
    random = np.random.default_rng(seed)
    codes = random_codes(seed, count, width)
    near = [flipped(code, random.permutation(8 * width)[: random.integers(0, most + 1)]) for code in codes]
    everything = np.concatenate([codes, near, codes[: count // 4], near[: count // 4]])
    return everything[random.permutation(len(everything))]


def all_pairs(codes: Codes, radius: int, queries: Codes | None = None) -> Pairs:
    """By comparing all with all."""
    apart = hamming((codes if queries is None else queries)[:, None], codes[None])
    near = apart <= radius
    if queries is None:
        near &= np.tri(len(codes), k=-1, dtype=bool).T
    query, code = np.nonzero(near)
    return Pairs(query, code, apart[query, code])


def same(one: Pairs, other: Pairs) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in ("query", "code", "distance")
    )


CASES = ((32, 31), (32, 0), (32, 3), (32, 7), (32, 40), (8, 10), (8, 0), (8, 1), (8, 15), (4, 5), (12, 13))


@pytest.mark.parametrize(("width", "radius"), CASES)
def test_all_pairs_of_codes_are_those_of_comparing_all(width: int, radius: int) -> None:
    codes = planted(1, 150, width, radius + 3)
    expected = all_pairs(codes, radius)
    assert len(expected) > 100
    assert same(gathered(pairs_within(codes, radius)), expected)


@pytest.mark.parametrize(("width", "radius"), CASES)
def test_queries_find_what_comparing_all_finds(width: int, radius: int) -> None:
    codes = planted(2, 100, width, radius + 3)
    queries = np.concatenate([codes[::3], codes[:40], random_codes(3, 50, width)])
    found = gathered(pairs_within(codes, radius, queries=queries))
    assert same(found, all_pairs(codes, radius, queries))


@pytest.mark.parametrize(("width", "radius"), [(32, 31), (8, 10)])
def test_however_finely_blocks_are_cut_the_pairs_are_the_same(
    width: int, radius: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = planted(4, 60, width, radius + 2)
    expected = all_pairs(codes, radius)
    for rows in (1, 10**5, 10**7):
        tables = make_tables(width // 4, radius, rows, rows * rows // 2)
        monkeypatch.setattr(module, "make_tables", lambda *_, tables=tables: tables)
        assert same(gathered(pairs_within(codes, radius)), expected)


def test_crowded_codes_of_few_bits_are_found() -> None:
    """Nearly all pairs are near, and most of them by many tables."""
    codes = np.random.default_rng(5).integers(0, 4, (300, 32), dtype=np.uint8)
    codes[:, 8:] = 0
    for radius in (1, 4, 8, 31):
        assert same(gathered(pairs_within(codes, radius)), all_pairs(codes, radius))


@pytest.mark.parametrize("radius", [31, 10])
def test_a_pair_exactly_at_the_radius_is_found_and_one_beyond_is_not(radius: int) -> None:
    random = np.random.default_rng(radius)
    (code,) = random_codes(6, 1, 32 if radius == 31 else 8)
    for _ in range(50):
        bits = random.permutation(8 * len(code))
        at, beyond = flipped(code, bits[:radius]), flipped(code, bits[: radius + 1])
        found = gathered(pairs_within(np.stack([at, beyond]), radius, queries=code[None]))
        assert (found.code.tolist(), found.distance.tolist()) == ([0], [radius])


def test_every_way_to_spread_the_errors_over_blocks_is_found() -> None:
    """All ways to spread 10 errors over the bytes of 64 bits, at most 3 in each."""
    spread = [each for each in product(range(4), repeat=8) if sum(each) == 10][::7]
    bits = [[8 * byte + bit for byte, count in enumerate(each) for bit in range(count)] for each in spread]
    codes = np.stack([flipped(np.zeros(8, dtype=np.uint8), each) for each in bits])
    found = gathered(pairs_within(codes, 10, queries=np.zeros((1, 8), dtype=np.uint8)))
    assert found.code.tolist() == list(range(len(codes)))


@pytest.mark.parametrize("count", [0, 1])
def test_no_code_and_one_code_have_no_pairs(count: int) -> None:
    codes = random_codes(7, count, 32)
    assert list(pairs_within(codes, 31)) == []
    assert len(gathered(pairs_within(codes, 31))) == 0
    assert expected_work(codes, 31) == ExpectedWork(0, 0)
    assert list(pairs_within(codes, 31, queries=random_codes(8, 3, 32))) == []
    assert list(pairs_within(random_codes(8, 3, 32), 31, queries=codes)) == []


def test_the_order_of_bytes_in_memory_does_not_matter() -> None:
    codes = planted(9, 50, 32, 31)
    assert same(gathered(pairs_within(np.asfortranarray(codes), 31)), all_pairs(codes, 31))
    wide = np.zeros((len(codes), 40), dtype=np.uint8)
    wide[:, 8:] = codes
    assert same(gathered(pairs_within(wide[:, 8:], 31)), all_pairs(codes, 31))


def test_batches_are_bounded_sorted_and_the_same_with_any_number_of_threads() -> None:
    codes = planted(10, 300, 32, 20)
    codes[:60] = codes[0]
    one = list(pairs_within(codes, 31, batch_pairs=50))
    assert all(0 < len(batch) <= 50 for batch in one)
    assert all(same(batch, gathered([batch])) for batch in one)
    for threads in (2, 5):
        many = list(pairs_within(codes, 31, batch_pairs=50, threads=threads))
        assert len(one) == len(many)
        assert all(same(*batches) for batches in zip(one, many, strict=True))
    assert same(gathered(one), all_pairs(codes, 31))


def test_small_chunks_give_the_same_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = planted(11, 60, 8, 12)
    monkeypatch.setattr(module, "CHUNK_PAIRS", 7)
    assert same(gathered(pairs_within(codes, 10)), all_pairs(codes, 10))
    assert same(gathered(pairs_within(codes, 10, queries=codes)), all_pairs(codes, 10, codes))


def test_many_equal_codes_take_bounded_memory() -> None:
    """100 000 equal ones and 2 000 nearly equal ones: 5 billion pairs, of which we look at a few."""
    codes = np.repeat(random_codes(12, 1, 32), 102_000, axis=0)
    for row in range(2000):
        codes[row] = flipped(codes[row], [row % 256, row // 256 + 8])
    tracemalloc.start()
    batches = list(map(len, islice(pairs_within(codes, 31, batch_pairs=100_000, threads=2), 30)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert min(batches) > 10_000
    assert max(batches) <= 100_000
    assert peak < 150 * 2**20


def test_expected_work_is_what_the_search_compares(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = planted(13, 200, 32, 20)
    queries = codes[::2]
    compared: list[int] = []
    counted = module.bits_set

    def watched(values: NDArray[np.uint8] | NDArray[np.uint32]) -> NDArray[np.uint8]:
        if values.ndim == 1:
            compared.append(len(values))
        return counted(values)

    monkeypatch.setattr(module, "bits_set", watched)
    for asked in (None, queries):
        compared.clear()
        expected = expected_work(codes, 31, queries=asked)
        assert sum(compared) == 0
        found = gathered(pairs_within(codes, 31, queries=asked))
        assert sum(compared) == expected.comparisons > 0
        assert (found.distance == 0).sum() == expected.equal_pairs > 0


def test_expected_work_tells_what_would_be_quadratic() -> None:
    equal = np.zeros((200_000, 32), dtype=np.uint8)
    assert expected_work(equal, 31) == ExpectedWork(0, 200_000 * 199_999 // 2)
    random = np.random.default_rng(14)
    crowd = np.zeros((20_000, 32), dtype=np.uint8)
    crowd[:, :2] = random.integers(0, 256, (20_000, 2), dtype=np.uint8)
    assert expected_work(crowd, 31).comparisons > 10_000**2
    assert expected_work(random_codes(15, 20_000, 32), 31).comparisons < 10_000**2


def test_distinct_groups_equal_rows_in_ascending_order() -> None:
    codes = np.zeros((6, 8), dtype=np.uint8)
    codes[[1, 4], 7] = 1  # the first word is the same as of the others
    codes[[2], 0] = 1
    groups = distinct(codes)
    found = {
        tuple(groups.order[start : start + size].tolist())
        for start, size in zip(groups.starts, groups.sizes, strict=True)
    }
    assert found == {(0, 3, 5), (1, 4), (2,)}
    assert len({word.tobytes() for word in groups.words}) == 3


def test_bits_are_counted_without_numpy_2(monkeypatch: pytest.MonkeyPatch) -> None:
    for values in (np.arange(256, dtype=np.uint8), random_codes(16, 100, 32).view(np.uint32)):
        assert np.array_equal(module._bits_by_table(values), module.bits_set(values))
        assert module._bits_by_table(values).dtype == np.uint8
    codes = planted(17, 80, 32, 33)
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    assert same(gathered(pairs_within(codes, 31)), all_pairs(codes, 31))


@pytest.mark.parametrize(
    ("codes", "radius", "queries", "said"),
    [
        (np.zeros((3, 32)), 31, None, "codes are (3, 32) float64"),
        (np.zeros(32, np.uint8), 31, None, "codes are (32,) uint8"),
        (np.zeros((3, 6), np.uint8), 3, None, "multiple of 4"),
        (np.zeros((3, 0), np.uint8), 3, None, "multiple of 4"),
        (np.zeros((3, 32), np.uint8), 64, None, "radius 64 for codes of 32 bytes; 0 to 63"),
        (np.zeros((3, 8), np.uint8), -1, None, "0 to 15"),
        (np.zeros((3, 8), np.uint8), 3, np.zeros((3, 32), np.uint8), "queries have 32 bytes, codes 8"),
    ],
)
def test_what_cannot_be_searched_is_refused_at_once(
    codes: Codes, radius: int, queries: Codes | None, said: str
) -> None:
    for ask in (pairs_within, expected_work):
        with pytest.raises(ValueError, match=r"codes|queries|radius") as caught:
            ask(codes, radius, queries=queries)
        assert said in str(caught.value)


@pytest.mark.parametrize(("blocks", "radius"), [(8, 31), (8, 5), (2, 10), (2, 0), (3, 17)])
def test_bounds_leave_no_pair_out(blocks: int, radius: int) -> None:
    """If each block had one error more than its bound, they would be more than the radius."""
    tables = make_tables(blocks, radius, 1000, 500_000)
    assert sum(bound + 1 for bound in tables[0].bounds) == radius + 1
    for table in tables:
        moves, _ = table.arranged()
        covered = sum(mask << top for _, mask, top in moves)
        assert covered == sum(mask << lowest for lowest, mask, _ in moves) == 2**BLOCK_BITS - 1
        assert len(table.fields) - len(table.chosen) == table.errors
