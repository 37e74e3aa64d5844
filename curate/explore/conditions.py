"""Conditions on samples: what a person brushed, ticked or typed; all of them must hold."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

MOST_LABELS = 1000


class Condition(BaseModel):
    """One condition on one column: a range, some of its texts, or whether a value is missing.

    A range is inclusive at both ends and compared as filters do: in float32 where the column is.
    A missing value meets no range and no list.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    column: str = Field(min_length=1, max_length=200, description="A column, as /columns lists it.")
    at_least: float | None = Field(default=None, strict=True, description="Lowest value that meets it.")
    at_most: float | None = Field(default=None, strict=True, description="Highest value that meets it.")
    one_of: tuple[str, ...] | None = Field(
        default=None, max_length=MOST_LABELS, description="Texts that meet it; booleans as true, false."
    )
    missing: bool | None = Field(default=None, strict=True, description="True: no value; false: any value.")

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        ranged = self.at_least is not None or self.at_most is not None
        if ranged + (self.one_of is not None) + (self.missing is not None) != 1:
            msg = "give a range (at_least, at_most), one_of, or missing: exactly one of them"
            raise ValueError(msg)
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            msg = f"at_least {self.at_least:.9g} is above at_most {self.at_most:.9g}: nothing would be left"
            raise ValueError(msg)
        return self
