"""Drop copies of the same image, keeping one."""

from __future__ import annotations

from typing import ClassVar, Literal

import pyarrow.compute as pc
from pydantic import Field

from filters.core.declaration import Columns, Judgement, RelationalFilter


class DropExactDuplicates(RelationalFilter):
    """Drop a sample when an earlier survivor has the same image; one of each group stays.

    "Earlier" is the smaller uid, then shard and row, so the survivor does not depend on the
    order of the shards. `by: bytes` compares the encoded file, `by: pixels` the decoded RGB
    picture and its size, which also finds the same pixels under another container or header.
    """

    shorthand: ClassVar[str] = "by"
    relation: ClassVar[str] = "exact_duplicates"
    relation_reads: ClassVar[tuple[str, ...]] = ("duplicate_of", "compared")
    relation_options: ClassVar[tuple[str, ...]] = ("by", "same_caption")

    by: Literal["bytes", "pixels"] = Field(default="bytes", description="What must be equal.")
    same_caption: bool = Field(
        default=False, description="Copies count as duplicates only with the same caption."
    )

    def reads(self) -> tuple[str, ...]:
        captions = ("caption",) if self.same_caption else ()
        return ("uid", f"{self.by}_hash", *captions)

    def judge(self, columns: Columns) -> Judgement:
        original = columns["duplicate_of"]
        copies = pc.is_valid(original).to_numpy(zero_copy_only=False)
        compared = pc.fill_null(columns["compared"], fill_value=False)
        return Judgement(
            passes=~copies,
            null=~compared.to_numpy(zero_copy_only=False),
            value=original,
            bound=f"no earlier sample with the same {self.by}",
        )
