from __future__ import annotations

import pyarrow as pa
import pytest
from pydantic import ValidationError

from filters.caption_matches import CaptionMatches
from tests.filters.judging import answers, judge


def test_a_match_anywhere_in_the_caption_is_enough() -> None:
    judgement = judge(CaptionMatches(pattern=r"\bdogs?\b"), caption=["Two DOGS.", "dogma", "", None])
    assert answers(judgement) == [True, False, False, None]
    assert isinstance(judgement.value, pa.Array)
    assert judgement.value.to_pylist() == ["Two DOGS.", "dogma", "", None]
    assert judgement.bound == r"matches \bdogs?\b"


def test_case_counts_when_it_is_asked_for() -> None:
    captions = ["Éclair", "éclair"]
    assert answers(judge(CaptionMatches(pattern="é"), caption=captions)) == [True, True]
    assert answers(judge(CaptionMatches(pattern="é", ignore_case=False), caption=captions)) == [False, True]


def test_a_pattern_that_matches_nothing_at_all_keeps_every_caption() -> None:
    assert answers(judge(CaptionMatches(pattern="x*"), caption=["", "abc", None])) == [True, True, None]


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("(a", r"missing \): \(a"),
        ("(?=dog)", r"invalid perl operator: \(\?="),
        ("(?<!a)dog", r"invalid perl operator: \(\?<"),
        (r"(a)\1", r"invalid escape sequence: \\1"),
        ("*", "no argument for repetition operator"),
    ],
)
def test_what_re2_cannot_read_is_refused_with_its_reason(pattern: str, reason: str) -> None:
    with pytest.raises(ValidationError, match="not a regular expression that RE2 reads.*" + reason):
        CaptionMatches(pattern=pattern)


def test_an_empty_pattern_is_refused() -> None:
    with pytest.raises(ValidationError, match="at least 1 character"):
        CaptionMatches(pattern="")
