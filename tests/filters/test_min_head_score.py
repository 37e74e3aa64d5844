from __future__ import annotations

import pytest
from pydantic import ValidationError

from filters.min_head_score import MinHeadScore
from tests.filters.judging import answers, judge


def test_a_score_exactly_at_the_bound_is_kept() -> None:
    rule = MinHeadScore(head="aesthetic", at_least=5)
    judgement = judge(rule, aesthetic_score=[5, 4.9999, float("inf"), float("-inf"), None])
    assert answers(judgement) == [True, False, True, False, None]
    assert judgement.bound == "at least 5"


def test_a_bound_beyond_the_column_s_range_keeps_nothing_and_does_not_overflow() -> None:
    assert answers(judge(MinHeadScore(head="a", at_least=1e300), a_score=[3e38, None])) == [False, None]


def test_the_head_must_be_named() -> None:
    with pytest.raises(ValidationError, match="head"):
        MinHeadScore(at_least=5)  # type: ignore[call-arg]
    assert MinHeadScore(head="nsfw", at_least=0).reads() == ("nsfw_score",)
    assert MinHeadScore.shorthand is None
