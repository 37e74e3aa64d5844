"""The published predictions, to the digits that the fitted parameters are published with."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from filters.core.tradeoff import (
    MEDIUM_DATA,
    MEDIUM_UTILITY,
    Fits,
    Form,
    Part,
    choose_share,
    guarded_share,
    predicted_error,
)

MEDIUM = 128_000_000
SEEN = (32_000_000, 64_000_000, 128_000_000, 640_000_000)
# Predicted ImageNet accuracy in per cent: rows keep the best 1 to 4 tenths, columns as in SEEN.
UTILITY = (
    (18.247, 24.621, 28.729, 31.176),
    (15.836, 23.301, 29.600, 38.552),
    (13.422, 20.398, 26.766, 37.565),
    (11.677, 17.989, 24.128, 35.136),
)
DATA = (
    (18.249, 24.579, 28.634, 30.769),
    (17.135, 24.424, 30.532, 39.023),
    (15.979, 23.229, 29.547, 40.090),
    (13.908, 20.834, 26.940, 37.919),
)


def one_part(form: Form) -> Fits:
    return Fits(form, a=0.025, d=0.1, parts=(Part(-0.16, 6.7272727),))


@pytest.mark.parametrize("parts", [1, 2, 3, 4])
@pytest.mark.parametrize("column", range(4))
def test_the_published_table(parts: int, column: int) -> None:
    def accuracy(fits: Fits) -> float:
        return 100 * (1 - predicted_error(fits, parts, parts * 12_800_000, SEEN[column]))

    assert accuracy(MEDIUM_UTILITY) == pytest.approx(UTILITY[parts - 1][column], abs=0.0005)
    # b is published with five digits, which leaves one unit of the last digit open.
    assert accuracy(MEDIUM_DATA) == pytest.approx(DATA[parts - 1][column], abs=0.0015)


@pytest.mark.parametrize(
    ("form", "seen", "error"),
    [
        ("published", 6_400_000, 1.027557),
        ("published", 12_800_000, 0.930187),
        ("published", 25_600_000, 0.841630),
        ("published", 64_000_000, 0.753790),
        ("published", 128_000_000, 0.712710),
        ("utility", 12_800_000, 0.930187),
        ("utility", 128_000_000, 0.7361),
        ("data", 12_800_000, 0.930187),
        ("data", 25_600_000, 0.849029),
        ("data", 64_000_000, 0.762101),
        ("data", 128_000_000, 0.714297),
    ],
)
def test_the_published_errors_of_a_single_part(form: Form, seen: int, error: float) -> None:
    tolerance = 5e-5 if error == 0.7361 else 5e-7
    assert predicted_error(one_part(form), 1, 12_800_000, seen) == pytest.approx(error, abs=tolerance)


@pytest.mark.parametrize("form", ["utility", "data"])
def test_the_irreducible_error_is_added_at_the_end(form: Form) -> None:
    """Moving d moves every error by as much, and nothing trains below it."""
    fits = one_part(form)
    higher = replace(fits, d=0.3)
    for seen in (1, 12_800_000, 10**9, 10**12):
        found = predicted_error(fits, 1, 12_800_000, seen)
        assert predicted_error(higher, 1, 12_800_000, seen) == pytest.approx(found + 0.2)
        assert found > 0.1


@pytest.mark.parametrize("fits", [MEDIUM_UTILITY, MEDIUM_DATA])
def test_more_training_never_predicts_more_error(fits: Fits) -> None:
    for parts in (1, 4):
        errors = [predicted_error(fits, parts, 1_000_000, 250_000 * step) for step in range(1, 60)]
        assert errors == sorted(errors, reverse=True)


def test_an_epoch_in_part_counts_in_part() -> None:
    by_hand = (0.025 * 128) ** -0.16 * 1.5 ** (-0.16 * 0.5 ** (1 / 6.7272727)) + 0.1
    assert predicted_error(one_part("utility"), 1, 12_800_000, 19_200_000) == pytest.approx(by_hand)
    effective = 1 + 0.5 * 0.5 ** (1 / 6.7272727)
    by_hand = (0.025 * 128 * effective) ** -0.16 + 0.1
    assert predicted_error(one_part("data"), 1, 12_800_000, 19_200_000) == pytest.approx(by_hand)


def test_a_mixture_of_equal_parts_wears_out_more_slowly() -> None:
    fits = Fits("utility", a=0.025, d=0.0, parts=(Part(-0.16, 4.0),) * 2)
    twice_as_long = Fits("utility", a=0.025, d=0.0, parts=(Part(-0.16, 8.0),))
    assert predicted_error(fits, 2, 10**7, 10**9) == predicted_error(twice_as_long, 1, 10**7, 10**9)


@pytest.mark.parametrize("form", ["utility", "published", "data"])
def test_millions_of_epochs_take_no_time_and_no_worth(form: Form) -> None:
    fits = one_part(form)
    assert predicted_error(fits, 1, 10, 10**12) == pytest.approx(predicted_error(fits, 1, 10, 10**5))


@pytest.mark.parametrize(
    ("fits", "shares"), [(MEDIUM_UTILITY, (0.1, 0.1, 0.2, 0.2)), (MEDIUM_DATA, (0.1, 0.1, 0.2, 0.3))]
)
def test_the_recipe_of_each_budget(fits: Fits, shares: tuple[float, ...]) -> None:
    for seen, share in zip(SEEN, shares, strict=True):
        choice = choose_share(MEDIUM, seen, fits)
        assert choice.keep == share
        assert choice.samples == MEDIUM * round(10 * share) // 10
        assert choice.repetitions == seen / choice.samples
        assert choice.errors[share] == min(choice.errors.values())
        assert list(choice.errors) == [0.1, 0.2, 0.3, 0.4]


def test_many_repetitions_and_the_end_of_the_fits_are_doubted() -> None:
    assert choose_share(MEDIUM, SEEN[1]).warning == ""
    assert "seen 16.7 times" in choose_share(MEDIUM, SEEN[3]).warning
    assert "nothing above the best 40% was fitted" in choose_share(MEDIUM, 10**11).warning
    whole = replace(MEDIUM_DATA, of=4)
    assert "fitted, so more" not in choose_share(MEDIUM, 10**11, whole).warning


def test_parts_keep_their_rank_whatever_their_exponent() -> None:
    """The best part is the first one, not the one with the steepest exponent."""
    fits = Fits("utility", a=0.025, d=0.1, parts=(Part(-0.05, 4.0), Part(-0.3, 4.0)))
    assert predicted_error(fits, 1, 10**7, 10**7) == pytest.approx((0.025 * 100) ** -0.05 + 0.1)


def test_equal_shares_are_settled_for_the_smaller_one() -> None:
    flat = Fits("utility", a=1e-30, d=0.1, parts=(Part(0.0, 1.0), Part(0.0, 1.0)), of=2)
    assert choose_share(100, 100, flat).keep == 0.5


@pytest.mark.parametrize(
    ("pool", "seen", "samples", "warning"),
    [
        (1000, 400, 100, ""),
        (1000, 401, 101, ""),
        (1000, 4000, 1000, ""),
        (1000, 5000, 1000, "seen 5 times; above 4"),
        (1000, 20_000, 1000, "seen 20 times, and beyond 10"),
        (1000, 1, 1, ""),
    ],
)
def test_without_fits_repetitions_decide(pool: int, seen: int, samples: int, warning: str) -> None:
    choice = guarded_share(pool, seen)
    assert (choice.samples, choice.keep) == (samples, samples / pool)
    assert choice.repetitions == seen / samples
    assert warning in choice.warning
    assert bool(choice.warning) == bool(warning)
    assert choice.errors == {}


def test_numbers_that_make_no_sense_are_refused() -> None:
    for parts, unique, seen in ((0, 1, 1), (5, 1, 1), (1, 0, 1), (1, 1, 0)):
        with pytest.raises(ValueError, match="below 1"):
            predicted_error(MEDIUM_DATA, parts, unique, seen)
    for pool, seen in ((9, 100), (100, 0)):
        with pytest.raises(ValueError, match="can't be cut"):
            choose_share(pool, seen)
    for repetitions in (0.5, math.nan, math.inf):
        with pytest.raises(ValueError, match="at least 1"):
            guarded_share(100, 100, repetitions)
