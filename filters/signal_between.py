"""Keep samples by any numeric signal, between two bounds."""

from __future__ import annotations

from typing import Self

import pyarrow as pa
from pydantic import Field, model_validator

from filters.core.declaration import Columns, Judgement, RowFilter, check_bounds, require_number, within


class SignalBetween(RowFilter):
    """Keep a sample when a signal of it lies between `at_least` and `at_most`.

    For signals that have no filter of their own, such as those of detectors of wrong captions.
    A float32 signal is compared as float32. Samples without the signal are null: see `on_null`.
    """

    by: str = Field(description="The signal column, such as label_agreement.")
    at_least: float | None = Field(default=None, description="Lowest value, inclusive.")
    at_most: float | None = Field(default=None, description="Highest value, inclusive.")

    @model_validator(mode="after")
    def _has_a_bound(self) -> Self:
        check_bounds(self.at_least, self.at_most)
        return self

    def reads(self) -> tuple[str, ...]:
        return (self.by,)

    def check(self, types: dict[str, pa.DataType]) -> None:
        require_number(self.by, types[self.by])

    def judge(self, columns: Columns) -> Judgement:
        return within(columns[self.by], self.at_least, self.at_most)
