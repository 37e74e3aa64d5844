"""Keep captions in the languages you train on."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field, field_validator

from filters.core.declaration import Columns, Judgement, RowFilter, missing, numbers


class Language(RowFilter):
    """Keep a sample when its caption's detected language is one of these.

    Short captions are hard for every detector: with `min_probability: 0` (the default, as in
    DataComp) the most probable language counts, however unsure.
    """

    shorthand: ClassVar[str] = "any_of"

    any_of: tuple[str, ...] = Field(
        min_length=1, description="ISO 639-1 codes, such as en or de; one, or a list."
    )
    min_probability: float = Field(
        default=0.0, ge=0, le=1, description="The detector's probability, inclusive."
    )
    detector: str = Field(
        default="language", description="Name of the language measure in the recipe's `measures`."
    )

    @field_validator("any_of", mode="before", json_schema_input_type=str | tuple[str, ...])
    @classmethod
    def _one_is_a_list(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    def reads(self) -> tuple[str, ...]:
        if self.min_probability > 0:
            return (self.detector, f"{self.detector}_probability")
        return (self.detector,)

    def judge(self, columns: Columns) -> Judgement:
        found = columns[self.detector]
        if pa.types.is_dictionary(found.type) and found.dictionary.null_count:
            found = found.dictionary_decode()  # so that a null value is a null row
        null = pc.is_null(found).to_numpy(zero_copy_only=False)
        passes = _is_one_of(found, self.any_of)
        bound = "one of " + ", ".join(self.any_of)
        if self.min_probability > 0:
            probability = numbers(columns[f"{self.detector}_probability"])
            null = null | missing(probability)
            with np.errstate(invalid="ignore"):
                passes = passes & (probability >= self.min_probability)
            bound += f" with probability at least {self.min_probability:.12g}"
        return Judgement(passes, null, found, bound)


def _is_one_of(found: pa.Array, codes: tuple[str, ...]) -> NDArray[np.bool_]:
    """(n,) bool, False for null; a dictionary column is compared once for each of its values."""
    if not pa.types.is_dictionary(found.type):
        result: NDArray[np.bool_] = pc.is_in(found, value_set=pa.array(codes, found.type)).to_numpy(
            zero_copy_only=False
        )
        return result
    # One place more than values, False: where a null's index points.
    wanted = np.append(_is_one_of(found.dictionary, codes), np.False_)
    known: NDArray[np.bool_] = wanted[found.indices.fill_null(len(found.dictionary)).to_numpy()]
    return known
