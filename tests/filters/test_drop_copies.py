"""Which stored distances and kinds are copies; finding them is tested with the relation."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from filters.drop_copies import DropCopies
from tests.filters.judging import answers


def judged(rule: DropCopies, distances: list[float | None], kinds: list[str | None]) -> list[bool | None]:
    columns = {
        "distance": pa.array(distances, pa.float32()),
        "duplicate_kind": pa.array(kinds, pa.string()),
        "duplicate_of": pa.nulls(len(kinds), pa.string()),
    }
    return answers(rule.judge(columns))


def test_hashes_within_the_radius_are_copies() -> None:
    kinds = ["copy", "copy", "none", None]
    assert judged(DropCopies(), [0, 31, float("inf"), None], kinds) == [False, False, True, None]
    assert judged(DropCopies(at_most_bits=30), [0, 31, float("inf"), None], kinds) == [
        False,
        True,
        True,
        None,
    ]
    assert judged(DropCopies(method="phash"), [10, 11], ["copy", "copy"]) == [False, True]


def test_verified_copies_go_by_their_kind() -> None:
    kinds = ["exact", "re-encoded", "edited", "similar", "none", None]
    distances = [0, 0.05, 0.15, 0.3, float("inf"), None]
    rule = DropCopies(method="verified", within="clip_image")
    assert judged(rule, distances, kinds) == [False, False, False, True, True, None]
    strict = DropCopies(method="verified", within="clip_image", kinds=("similar",))
    assert judged(strict, distances, kinds) == [True] * 5 + [None]  # alike, but less than the score
    looser = strict.model_copy(update={"at_least_score": 0.65})
    assert judged(looser, distances, kinds) == [True, True, True, False, True, None]
    closer = rule.model_copy(update={"at_least_score": 0.9})
    assert judged(closer, distances, kinds) == [False, False, True, True, True, None]


def test_what_is_read_depends_on_the_method() -> None:
    assert DropCopies().reads() == ("uid", "pdq_hash", "pdq_quality")
    assert DropCopies(method="phash", flips=True, by="width").reads() == (
        "uid",
        "phash",
        "grey_variance",
        "phash_flips",
        "width",
    )
    verified = DropCopies(method="verified", within="clip_image")
    assert verified.reads() == ("uid", "thumbnail", "pixels_hash")
    assert verified.embeddings() == ("clip_image",)
    with pytest.raises(ValueError, match="'caption' holds string, but this filter needs numbers"):
        DropCopies(by="caption").check({"caption": pa.string()})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "verified"}, "verified needs within"),
        ({"method": "verified", "within": "clip_image", "flips": True}, "are for pdq and phash"),
        ({"method": "phash", "at_most_bits": 20}, "at most 15"),
        ({"method": "sift"}, "'pdq', 'phash' or 'verified'"),
        ({"at_most_bits": 64}, "less than or equal to 63"),
        ({"kinds": ["none"]}, "'exact', 're-encoded', 'edited' or 'similar'"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DropCopies(**options)
