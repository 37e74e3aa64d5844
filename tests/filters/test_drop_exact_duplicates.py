from __future__ import annotations

import pyarrow as pa
import pytest
from pydantic import ValidationError

from filters.core.decide import Step, decide
from filters.drop_exact_duplicates import DropExactDuplicates
from tests.filters.judging import answers

ORIGINAL = "a" * 32


def relation(duplicate_of: list[str | None], compared: list[bool | None]) -> dict[str, pa.Array]:
    return {"duplicate_of": pa.array(duplicate_of, pa.string()), "compared": pa.array(compared, pa.bool_())}


def test_copies_are_dropped_and_originals_kept() -> None:
    judgement = DropExactDuplicates().judge(relation([None, ORIGINAL, None], [True, True, True]))
    assert answers(judgement) == [True, False, True]
    assert isinstance(judgement.value, pa.Array)
    assert judgement.value.to_pylist() == [None, ORIGINAL, None]
    assert judgement.bound == "no earlier sample with the same bytes"
    assert "same pixels" in DropExactDuplicates(by="pixels").judge(relation([], [])).bound


def test_a_row_that_was_not_compared_is_null() -> None:
    assert answers(DropExactDuplicates().judge(relation([None, None], [False, None]))) == [None, None]


def test_the_ledger_names_the_original_of_each_copy() -> None:
    columns = {f"twins/{name}": column for name, column in relation([None, ORIGINAL], [True, True]).items()}
    columns |= {"uid": pa.array([ORIGINAL, "b" * 32]), "failure": pa.nulls(2, pa.string())}
    kept, dropped = decide(columns, [Step("twins", DropExactDuplicates())]).to_pylist()
    assert (kept["verdict"], kept["duplicate_of"]) == ("keep", None)
    assert (dropped["verdict"], dropped["dropped_by"]) == ("drop", "twins")
    assert dropped["duplicate_of"] == dropped["value_text"] == ORIGINAL


def test_what_must_be_equal_decides_what_is_read() -> None:
    assert DropExactDuplicates().reads() == ("uid", "bytes_hash")
    assert DropExactDuplicates(by="pixels", same_caption=True).reads() == ("uid", "pixels_hash", "caption")
    with pytest.raises(ValidationError, match="'bytes' or 'pixels'"):
        DropExactDuplicates(by="name")  # type: ignore[arg-type]
