from __future__ import annotations

import pyarrow as pa
import pytest
from pydantic import ValidationError

from filters.signal_between import SignalBetween
from tests.filters.judging import answers, judge


def test_both_bounds_are_inclusive() -> None:
    rule = SignalBetween(by="doubt", at_least=-0.5, at_most=0.3)
    judgement = judge(rule, doubt=[-0.5, -0.51, 0.3, 0.31, None, float("nan")])
    assert answers(judgement) == [True, False, True, False, None, None]
    assert judgement.bound == "at least -0.5 and at most 0.3"


def test_one_bound_is_enough() -> None:
    assert answers(judge(SignalBetween(by="width", at_most=3), width=[2, 3, 4])) == [True, True, False]
    assert answers(judge(SignalBetween(by="width", at_least=3), width=[2, 3, 4])) == [False, True, True]


def test_a_stored_float32_is_at_the_bound_as_written() -> None:
    assert answers(judge(SignalBetween(by="doubt", at_least=0.28), doubt=[0.28])) == [True]


def test_no_bound_and_crossed_bounds_are_refused() -> None:
    with pytest.raises(ValidationError, match="give at_least, at_most or both"):
        SignalBetween(by="doubt")
    with pytest.raises(ValidationError, match="at_least 5 is above at_most 3: nothing would be kept"):
        SignalBetween(by="doubt", at_least=5, at_most=3)


def test_a_column_without_numbers_is_refused() -> None:
    rule = SignalBetween(by="said", at_least=1)
    with pytest.raises(ValueError, match="column 'said' holds string, but this filter needs numbers"):
        rule.check({"said": pa.string()})
    rule.check({"said": pa.int8()})
