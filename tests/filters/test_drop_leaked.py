from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from filters.drop_leaked import DropLeaked
from tests.filters.judging import answers

IMAGES: dict[str, Any] = {"against": "evaluation/*.tar", "set_name": "imagenet-val"}
EMBEDDED: dict[str, Any] = {
    "against": "val.npy",
    "set_name": "imagenet-val",
    "method": "embedding",
    "cosine_above": 0.9,
}


def rule(options: dict[str, Any], **more: Any) -> DropLeaked:
    return DropLeaked.model_validate({**options, **more})


def test_hashes_within_the_bits_are_dropped() -> None:
    column = {"leaked_bits": pa.array([0, 31, 32, None], pa.int32())}
    judgement = rule(IMAGES).judge(column)
    assert answers(judgement) == [False, False, True, None]
    assert judgement.bound == "more than 31 bits from every picture of imagenet-val"
    assert answers(rule(IMAGES, at_most_bits=10).judge(column)) == [False, True, True, None]


def test_embeddings_above_the_cosine_are_dropped() -> None:
    column = {"leaked_cosine": pa.array([0.89, 0.9, 0.91, None, float("nan")], pa.float64())}
    judgement = rule(EMBEDDED).judge(column)
    assert answers(judgement) == [True, True, False, None, None]
    assert judgement.bound == "cosine to everything in imagenet-val at most 0.9"


def test_what_is_read_depends_on_the_method() -> None:
    assert rule(IMAGES).reads() == ("uid", "pdq_hash", "pdq_quality")
    assert rule(IMAGES).embeddings() == ()
    assert rule(IMAGES).relation_reads == ("leaked_bits",)
    assert rule(EMBEDDED).reads() == ("uid",)
    assert rule(EMBEDDED, embedding="l14_image").embeddings() == ("l14_image",)
    assert rule(EMBEDDED).relation_reads == ("leaked_cosine",)
    assert DropLeaked.relation_reads == ("leaked_bits", "leaked_cosine")


def test_what_cannot_be_compared_stays_unless_the_recipe_says_otherwise() -> None:
    assert rule(IMAGES).on_null == "keep"
    assert rule(IMAGES, on_null="quarantine").on_null == "quarantine"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({**IMAGES, "cosine_above": 0.9}, "cosine_above needs method: embedding"),
        ({**IMAGES, "method": "embedding"}, "method: embedding needs cosine_above"),
        ({**IMAGES, "against": ["a.tar", "b.npz"]}, "npz files need method: embedding"),
        ({**EMBEDDED, "against": "a/*.tar"}, "measure the set with the pool's encoder"),
        ({**IMAGES, "at_most_bits": 32}, "less than or equal to 31"),
        ({**IMAGES, "set_name": ""}, "at least 1 character"),
        ({"against": "a.tar"}, "set_name"),
        ({**IMAGES, "against": "https://host/a.tar?token=secret"}, "credentials in the environment"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        DropLeaked.model_validate(options)


def test_hashes_of_another_type_are_refused() -> None:
    with pytest.raises(ValueError, match="column 'pdq_hash' holds int32"):
        rule(IMAGES).check({"pdq_hash": pa.int32()})
    rule(IMAGES).check({"pdq_hash": pa.string()})
    rule(EMBEDDED).check({})


def test_a_relative_set_lies_beside_the_recipe_where_it_is_there(tmp_path: Path) -> None:
    (tmp_path / "evaluation").mkdir()
    assert rule(IMAGES).located(tmp_path).against == "evaluation/*.tar"
    (tmp_path / "evaluation" / "0.tar").touch()
    assert rule(IMAGES).located(tmp_path).against == f"{tmp_path}/evaluation/*.tar"
    assert rule(IMAGES, against="evaluation").located(tmp_path).against == f"{tmp_path}/evaluation"
