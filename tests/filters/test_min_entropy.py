from __future__ import annotations

import pytest
from pydantic import ValidationError

from filters.min_entropy import MinEntropy
from tests.filters.judging import answers, judge


def test_an_entropy_exactly_at_the_bound_is_kept() -> None:
    judgement = judge(MinEntropy(at_least=1.5), luminance_entropy=[1.5, 1.4999, 8, 0, None])
    assert answers(judgement) == [True, False, True, False, None]
    assert judgement.bound == "at least 1.5"


def test_a_flat_picture_passes_only_a_bound_of_zero() -> None:
    assert answers(judge(MinEntropy(at_least=0), luminance_entropy=[0.0, -0.0])) == [True, True]


def test_a_bound_above_eight_bits_is_refused() -> None:
    with pytest.raises(ValidationError):
        MinEntropy(at_least=8.01)
