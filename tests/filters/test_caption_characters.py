from __future__ import annotations

import pytest
from pydantic import ValidationError

from filters.caption_characters import CaptionCharacters
from tests.filters.judging import answers, judge


def test_both_bounds_are_inclusive() -> None:
    judgement = judge(CaptionCharacters(at_least=3, at_most=5), caption_characters=[2, 3, 5, 6, None])
    assert answers(judgement) == [False, True, True, False, None]
    assert list(judgement.value[:4]) == [2, 3, 5, 6]
    assert judgement.bound == "at least 3 and at most 5"


def test_one_bound_is_enough() -> None:
    lower = judge(CaptionCharacters(at_least=3), caption_characters=[2, 3, 10**6])
    upper = judge(CaptionCharacters(at_most=3), caption_characters=[0, 3, 4])
    assert (answers(lower), lower.bound) == ([False, True, True], "at least 3")
    assert (answers(upper), upper.bound) == ([True, True, False], "at most 3")


def test_a_large_bound_is_said_exactly() -> None:
    assert judge(CaptionCharacters(at_most=1_234_567), caption_characters=[1]).bound == "at most 1234567"


def test_no_bound_and_crossed_bounds_are_refused() -> None:
    with pytest.raises(ValidationError, match="give at_least, at_most or both"):
        CaptionCharacters()
    with pytest.raises(ValidationError, match="at_least 5 is above at_most 3: nothing would be kept"):
        CaptionCharacters(at_least=5, at_most=3)
