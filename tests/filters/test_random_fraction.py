from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa

from filters.core.uids import parse_uids, uid_fraction
from filters.random_fraction import RandomFraction
from tests.filters.examples import uids
from tests.filters.judging import answers

COUNT = 20_000
# Computed with Python integers from the published splitmix64, not with this code.
GOLDEN = ["0x1.8c42fc136081ep-2", "0x1.6d05dc4b9c482p-1", "0x1.a7881ce1e7b80p-8", "0x1.c505425fca95ap-2"]


def kept(uid: pa.Array, keep: float, seed: int = 0) -> list[bool]:
    return [bool(passes) for passes in RandomFraction(keep=keep, seed=seed).judge({"uid": uid}).passes]


def test_a_smaller_fraction_keeps_a_subset_of_a_larger_one() -> None:
    uid = uids(COUNT)
    nested = [np.array(kept(uid, share)) for share in (0.0, 0.1, 0.25, 0.5, 0.9, 1.0)]
    for smaller, larger in pairwise(nested):
        assert not (smaller & ~larger).any()
        assert smaller.sum() < larger.sum()


def test_nothing_and_everything_are_exact() -> None:
    uid = uids(COUNT)
    assert not any(kept(uid, 0))
    assert all(kept(uid, 1))


def test_the_draw_is_uniform() -> None:
    """Within six standard deviations in each of twenty equal ranges, for sequential uids too."""
    sequential = np.column_stack([np.zeros(COUNT, np.uint64), np.arange(COUNT, dtype=np.uint64)])
    for words in (parse_uids(uids(COUNT)), sequential):
        counts, _ = np.histogram(uid_fraction(words, seed=3), bins=20, range=(0, 1))
        deviation = np.sqrt(COUNT * 0.05 * 0.95)
        assert np.abs(counts - COUNT / 20).max() < 6 * deviation


def test_another_seed_is_another_sample() -> None:
    """Two seeds agree on about half of a half: 0.5, give or take six standard deviations."""
    uid = uids(COUNT)
    agree = np.mean(np.array(kept(uid, 0.5)) == np.array(kept(uid, 0.5, seed=1)))
    assert abs(agree - 0.5) < 6 * 0.5 / np.sqrt(COUNT)


def test_the_draw_depends_on_the_uid_alone() -> None:
    uid = uids(COUNT)
    order = np.random.default_rng(5).permutation(COUNT)
    alone = np.array(kept(uid, 0.3))
    assert kept(uid.take(pa.array(order)), 0.3) == alone[order].tolist()
    shouted = pa.array([text.upper() for text in uid.to_pylist()])
    assert kept(shouted, 0.3) == kept(uid, 0.3)


def test_the_draw_never_changes_between_versions() -> None:
    """Golden numbers: a recipe must keep the same samples next year."""
    uid = pa.array(["0" * 32, "0" * 31 + "1", "f" * 32, "00112233445566778899aabbccddeeff"])
    draw = RandomFraction(keep=0.5, seed=42).judge({"uid": uid}).value
    assert [float(number).hex() for number in draw] == GOLDEN


def test_a_missing_uid_is_null_and_the_others_are_judged() -> None:
    judgement = RandomFraction(keep=1).judge({"uid": pa.array(["a" * 32, None])})
    assert answers(judgement) == [True, None]
    assert judgement.bound == "below 1"
