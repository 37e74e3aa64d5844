"""Judges a few rows written by hand: what most filters' tests need."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from filters.core.declaration import Judgement, RowFilter

TYPES = {
    "width": pa.int32(),
    "height": pa.int32(),
    "caption_words": pa.int32(),
    "caption_characters": pa.int32(),
    "caption": pa.string(),
    "language": pa.string(),
    "uid": pa.string(),
}


def judge(rule: RowFilter, **columns: list[Any]) -> Judgement:
    """The judgement of these rows; columns that are not in TYPES are float32."""
    return rule.judge({name: pa.array(rows, TYPES.get(name, pa.float32())) for name, rows in columns.items()})


def answers(judgement: Judgement) -> list[bool | None]:
    """True to keep, False to drop, None where the rule could not be evaluated."""
    return [
        None if null else bool(passes) for passes, null in zip(judgement.passes, judgement.null, strict=True)
    ]
