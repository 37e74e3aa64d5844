from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from filters.min_clip_cosine import MinClipCosine
from tests.filters.judging import answers, judge


@pytest.mark.parametrize("bound", [0.28, 0.3, 0.7, 0.1, -0.05])
def test_a_stored_cosine_exactly_at_the_bound_is_kept(bound: float) -> None:
    """float32 rounds 0.7 down; the stored 0.7 is still at least 0.7."""
    below = float(np.nextafter(np.float32(bound), np.float32(-1)))
    judgement = judge(MinClipCosine(at_least=bound), clip_cosine=[bound, below, 1, None, float("nan")])
    assert answers(judgement) == [True, False, True, None, None]
    assert judgement.bound == f"at least {bound}"


def test_half_precision_scores_are_not_compared_with_a_rounded_bound() -> None:
    """0.281 in float16 lies below 0.2811, though 0.2811 rounds to it."""
    column = pa.array(np.array([0.281, 0.2813], np.float16))
    judgement = MinClipCosine(at_least=0.2811).judge({"clip_cosine": column})
    assert answers(judgement) == [False, True]


def test_the_column_carries_the_encoder_s_name() -> None:
    assert MinClipCosine(at_least=0.2, encoder="clip_l14").reads() == ("clip_l14_cosine",)


def test_a_bound_that_is_no_cosine_is_refused() -> None:
    for bound in (1.01, -1.01):
        with pytest.raises(ValidationError):
            MinClipCosine(at_least=bound)
