from __future__ import annotations

import pytest
from pydantic import ValidationError

from filters.min_side_pixels import MinSidePixels
from tests.filters.judging import answers, judge


def test_a_side_exactly_at_the_bound_is_kept() -> None:
    judgement = judge(MinSidePixels(at_least=200), width=[200, 199, 500, 500], height=[500, 500, 200, 199])
    assert answers(judgement) == [True, False, True, False]
    assert list(judgement.value) == [200, 199, 200, 199]
    assert judgement.bound == "at least 200 pixels"


def test_one_unknown_side_is_null_even_when_the_other_is_too_short() -> None:
    rule = MinSidePixels(at_least=200)
    assert answers(judge(rule, width=[None, 10, 300], height=[10, None, 300])) == [None, None, True]


@pytest.mark.parametrize("pixels", [0, -1, 1.5])
def test_a_bound_that_is_no_number_of_pixels_is_refused(pixels: float) -> None:
    with pytest.raises(ValidationError):
        MinSidePixels(at_least=pixels)  # type: ignore[arg-type]
