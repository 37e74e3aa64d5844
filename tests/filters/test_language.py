from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from filters.core.decide import Step, decide
from filters.language import Language
from tests.filters.judging import answers, judge


def test_one_language_or_a_list_can_be_given() -> None:
    assert Language(any_of="en") == Language(any_of=["en"]) == Language(any_of=("en",))  # type: ignore[arg-type]
    judgement = judge(Language(any_of=("en", "de")), language=["en", "de", "fr", "e", "", None])
    assert answers(judgement) == [True, True, False, False, False, None]
    assert judgement.bound == "one of en, de"


def test_without_a_probability_the_most_probable_language_counts() -> None:
    assert Language(any_of=("en",)).reads() == ("language",)


def test_the_probability_is_inclusive_and_unknown_ones_are_null() -> None:
    rule = Language(any_of=("en",), min_probability=0.7)
    assert rule.reads() == ("language", "language_probability")
    below = float(np.nextafter(np.float32(0.7), np.float32(0)))
    judgement = judge(
        rule,
        language=["en", "en", "de", "en", "de", None],
        language_probability=[0.7, below, 0.9, None, float("nan"), 0.9],
    )
    assert answers(judgement) == [True, False, False, None, None, None]
    assert judgement.bound == "one of en with probability at least 0.7"


def test_the_columns_carry_the_detector_s_name() -> None:
    rule = Language(any_of=("en",), min_probability=0.5, detector="cld3")
    assert rule.reads() == ("cld3", "cld3_probability")
    judgement = rule.judge({"cld3": pa.array(["en", "de"]), "cld3_probability": pa.array([0.9, 0.9])})
    assert answers(judgement) == [True, False]


@pytest.mark.parametrize("rows", [["en", None, "fr", "en"], [None, None], [], ["fr"]])
def test_a_dictionary_column_is_judged_like_its_text(rows: list[str | None]) -> None:
    rule = Language(any_of=("en", "de"))
    plain = pa.array(rows, pa.string())
    coded = plain.dictionary_encode()
    assert answers(rule.judge({"language": coded})) == answers(rule.judge({"language": plain}))
    fixed = {
        "uid": pa.array(["0" * 32] * len(rows), pa.string()),
        "failure": pa.nulls(len(rows), pa.string()),
    }
    ledgers = [decide({**fixed, "language": column}, [Step("language", rule)]) for column in (coded, plain)]
    assert ledgers[0].equals(ledgers[1])


def test_a_null_inside_the_dictionary_is_null() -> None:
    coded = pa.DictionaryArray.from_arrays(pa.array([0, 1, None]), pa.array(["en", None]))
    assert answers(Language(any_of=("en",)).judge({"language": coded})) == [True, None, None]


def test_no_language_is_refused() -> None:
    with pytest.raises(ValidationError, match="at least 1 item"):
        Language(any_of=())
