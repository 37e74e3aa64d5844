from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from filters.max_aspect_ratio import MaxAspectRatio
from tests.filters.judging import answers, judge


def test_a_ratio_exactly_at_the_bound_is_kept() -> None:
    judgement = judge(MaxAspectRatio(at_most=3), width=[600, 601, 200, 200], height=[200, 200, 600, 601])
    assert answers(judgement) == [True, False, True, False]
    assert list(judgement.value) == [3.0, 3.005, 3.0, 3.005]
    assert judgement.bound == "at most 3"


def test_a_side_of_zero_is_infinitely_thin_and_two_are_undefined() -> None:
    judgement = judge(MaxAspectRatio(at_most=3), width=[0, 100, 0], height=[100, 0, 0])
    assert answers(judgement) == [False, False, None]
    assert list(judgement.value[:2]) == [math.inf, math.inf]


def test_a_side_of_zero_beside_an_unknown_row_is_still_dropped() -> None:
    """Nulls turn the columns into floats; zero must mean the same there."""
    rule = MaxAspectRatio(at_most=3)
    assert answers(judge(rule, width=[None, 100, 0, 90], height=[100, 0, 0, 90])) == [None, False, None, True]


def test_a_square_is_kept_at_the_smallest_bound_and_a_smaller_bound_is_refused() -> None:
    assert answers(judge(MaxAspectRatio(at_most=1), width=[64, 65], height=[64, 64])) == [True, False]
    with pytest.raises(ValidationError):
        MaxAspectRatio(at_most=0.99)
