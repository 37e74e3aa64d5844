"""A bound on stored similarities; finding them is tested with the texts."""

from __future__ import annotations

import pyarrow as pa
import pytest
from pydantic import ValidationError

from filters.drop_similar_captions import DropSimilarCaptions
from tests.filters.judging import answers, judge


def test_above_the_bound_goes() -> None:
    rule = DropSimilarCaptions(jaccard_above=0.75)
    assert answers(judge(rule, caption_jaccard=[0, 0.75, 0.76, 1, None])) == [True, True, False, False, None]


def test_a_bound_of_one_leaves_the_signal_alone() -> None:
    assert answers(judge(DropSimilarCaptions(jaccard_above=1), caption_jaccard=[0, 1, 1])) == [True] * 3


def test_what_is_read_and_refused() -> None:
    assert DropSimilarCaptions().reads() == ("uid", "caption")
    assert DropSimilarCaptions(by="width", within="dino_image").reads() == ("uid", "caption", "width")
    assert DropSimilarCaptions(within="dino_image").embeddings() == ("dino_image",)
    with pytest.raises(ValidationError, match=r"greater than or equal to 0\.2"):
        DropSimilarCaptions(jaccard_above=0.1)
    with pytest.raises(ValueError, match="'language' holds string, but this filter needs numbers"):
        DropSimilarCaptions(by="language").check({"language": pa.string()})
