"""Estimates and intervals of shares, against what is known and against simulated pools."""

from __future__ import annotations

import numpy as np
import pytest

from curate.audit.estimate import Estimate, Tally, bad_share, exact_limits, part_of
from filters.core.fusion import precision_bound

Stratum = tuple[int, int, int]  # rows, bad ones among them, drawn


def tally(rows: int, answered: int, bad: int) -> Tally:
    return Tally(rows, answered, bad, float(rows))


def test_limits_are_those_of_clopper_and_pearson_in_a_large_pool() -> None:
    for seen, answered in ((0, 10), (3, 20), (19, 20), (20, 20)):
        low, high = exact_limits(seen, answered, 10**9)
        assert low == pytest.approx(precision_bound(seen, answered, 0.975), abs=1e-6)
        assert high == pytest.approx(1 - precision_bound(answered - seen, answered, 0.975), abs=1e-6)


def test_limits_in_a_small_pool_leave_out_the_unlikely_numbers_alone() -> None:
    # Of 10 rows 5 are seen, 2 of them bad: with 1 or 8 bad ones there, such a draw is impossible.
    assert exact_limits(2, 5, 10) == (0.2, 0.7)
    # 0 of 5: with 5 bad ones of 10, the probability is 1 of 252, with 4 it is 6 of 252.
    assert exact_limits(0, 5, 10) == (0.0, 0.3)
    assert exact_limits(3, 7, 7) == (3 / 7, 3 / 7)
    assert exact_limits(1, 1, 1) == (1.0, 1.0)


def test_one_stratum_keeps_its_exact_limits() -> None:
    found = bad_share([tally(1000, 60, 3)])
    assert found.share == 0.05
    assert (found.low, found.high) == pytest.approx(exact_limits(3, 60, 1000), abs=1e-12)


def test_strata_are_weighted_by_their_rows() -> None:
    found = bad_share([tally(900, 10, 1), tally(100, 50, 50)])
    assert found.share == pytest.approx(0.9 * 0.1 + 0.1)
    assert found.low <= found.share <= found.high


def test_all_rows_answered_leave_no_doubt() -> None:
    strata = [tally(10, 10, 3), tally(5, 5, 5)]
    whole = bad_share(strata)
    assert (whole.share, whole.low, whole.high) == pytest.approx((8 / 15, 8 / 15, 8 / 15))
    found = part_of(strata[1:], strata[:1], of="bad")
    assert found is not None
    assert (found.share, found.low, found.high) == pytest.approx((5 / 8, 5 / 8, 5 / 8))


def test_few_equal_answers_of_a_large_stratum_leave_much_open() -> None:
    found = bad_share([tally(10_000, 2, 0), tally(100, 100, 0)])
    assert found.share == 0
    assert found.high > 0.8


def test_a_part_of_nothing_seen_has_no_share() -> None:
    assert part_of([tally(10, 5, 0)], [tally(20, 5, 0)], of="bad") is None
    assert part_of([], [tally(20, 5, 1)], of="bad") == Estimate(0.0, 0.0, 0.0)
    whole = part_of([tally(20, 5, 1)], [], of="bad")
    assert whole is not None
    assert (whole.share, whole.low, whole.high) == pytest.approx((1, 1, 1))


def test_a_part_and_the_rest_make_one() -> None:
    inside, outside = [tally(300, 30, 20), tally(50, 10, 9)], [tally(900, 40, 2)]
    one, rest = part_of(inside, outside, of="bad"), part_of(outside, inside, of="bad")
    assert one is not None
    assert rest is not None
    assert one.share + rest.share == pytest.approx(1)
    assert (one.low, one.high) == pytest.approx((1 - rest.high, 1 - rest.low), abs=1e-9)


def test_answers_that_stand_for_more_rows_weigh_more() -> None:
    found = bad_share([Tally(100, 20, 0, 300.0), Tally(100, 20, 20, 100.0)])
    assert found.share == 0.25


POOLS: dict[str, tuple[list[Stratum], list[Stratum]]] = {
    # Stopped, kept.
    "as drawn": (
        [(500, 100, 25), (150, 135, 20), (50, 25, 20), (200, 140, 25), (60, 24, 20)],
        [(9000, 270, 90)],
    ),
    "rare": ([(500, 450, 30)], [(90_000, 180, 80), (500, 50, 30)]),
    "few answers": ([(5000, 2500, 5), (5000, 4500, 5), (5000, 1500, 5)], [(5000, 100, 5), (5000, 500, 5)]),
    "nearly all": ([(30, 15, 25)], [(40, 4, 20)]),
}


@pytest.mark.parametrize("name", POOLS)
def test_estimates_are_unbiased_and_intervals_hold_what_they_say(name: str) -> None:
    stopped, kept = POOLS[name]
    every = [*stopped, *kept]
    rows, bad = (sum(one[at] for one in every) for at in (0, 1))
    lost = sum(all_ - wrong for all_, wrong, _ in stopped)
    truth = {"bad": bad / rows, "lost": lost / (rows - bad)}
    generator = np.random.default_rng(0)
    found: dict[str, list[Estimate]] = {"bad": [], "lost": []}
    for _ in range(150):
        seen = [
            tally(all_, drawn, int(generator.hypergeometric(wrong, all_ - wrong, drawn)))
            for all_, wrong, drawn in every
        ]
        found["bad"].append(bad_share(seen))
        part = part_of(seen[: len(stopped)], seen[len(stopped) :], of="good")
        assert part is not None
        found["lost"].append(part)
    for what, true in truth.items():
        shares = np.array([one.share for one in found[what]])
        # A ratio is unbiased for large samples only; the bias stays below a fifth of its spread.
        assert abs(shares.mean() - true) <= (0.2 if what == "bad" else 0.4) * shares.std()
        covered = np.mean([one.low - 1e-9 <= true <= one.high + 1e-9 for one in found[what]])
        assert covered >= 0.95 - 0.04
