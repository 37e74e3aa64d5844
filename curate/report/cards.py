"""The samples of the report in full: identity, caption, verdict, and a small picture."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias

from curate.query import Decision
from curate.report.examples import Place
from transforms.deciding import flat
from transforms.decode import quiet_pillow
from transforms.thumbnails import read_original, thumbnail

SIDE_PIXELS = 160  # shown a little smaller, so that it is sharp on dense screens
_READERS = 8  # a remote shard answers slowly, so several are asked at once
_SAMPLE = ("key", "uid", "caption", "sample_offset", "image_offset", "image_bytes")
_LEDGER = ("verdict", "dropped_by", "value", "value_text", "bound", "duplicate_of")

Draw: TypeAlias = "Callable[[Place, Mapping[str, Any]], str | None]"


@dataclass(frozen=True)
class Card:
    """One sample with its verdict.

    Attributes:
        picture: a JPEG in base64; None where the shard is gone or the image is broken.
        has_image: False in a pool that holds no images at all.
    """

    place: Place
    key: str
    uid: str
    caption: str | None
    verdict: str
    dropped_by: str | None
    value: float | None
    value_text: str | None
    bound: str | None
    duplicate_of: str | None
    picture: str | None
    has_image: bool


def load_cards(
    decision: Decision,
    places: Iterable[Place],
    storage_options: Mapping[str, Any],
    *,
    side_pixels: int = SIDE_PIXELS,
) -> dict[Place, Card]:
    """A card for each place; every shard is opened for its own samples only."""
    quiet_pillow()
    rows: dict[str, list[int]] = {}
    for place in sorted(set(places)):
        rows.setdefault(place.shard, []).append(place.row)
    parts = {part["uri"]: part["part"] for part in decision.manifest["parts"]}
    draw = partial(_picture, decision, storage_options, side_pixels)

    def of_shard(shard: str) -> list[Card]:
        return _cards(decision, parts[shard], shard, rows[shard], draw)

    with ThreadPoolExecutor(_READERS, thread_name_prefix="report") as readers:
        return {card.place: card for cards in readers.map(of_shard, rows) for card in cards}


def _cards(decision: Decision, part: str, shard: str, rows: Sequence[int], draw: Draw) -> list[Card]:
    found: list[dict[str, Any]] = [{} for _ in rows]
    for group, names in ((decision.manifest["samples"], _SAMPLE), (f"ledger/{decision.ledger}", _LEDGER)):
        # A part holds one shard, row after row, so a row's number is its place in the part.
        table = decision.store.read_part(group, part, list(names)).take(list(rows))
        for name in names:
            for item, value in zip(found, flat(table[name]).to_pylist(), strict=True):
                item[name] = value
    return [_card(Place(shard, row), item, draw) for row, item in zip(rows, found, strict=True)]


def _card(place: Place, item: Mapping[str, Any], draw: Draw) -> Card:
    has_image = item["image_bytes"] is not None
    shown = ("key", "uid", "caption", *_LEDGER)
    return Card(
        place=place,
        picture=draw(place, item) if has_image else None,
        has_image=has_image,
        **{name: item[name] for name in shown},
    )


def _picture(
    decision: Decision,
    storage_options: Mapping[str, Any],
    side_pixels: int,
    place: Place,
    item: Mapping[str, Any],
) -> str | None:
    pool = decision.manifest["recipe"]["pool"]
    # Only an image in a tar has an offset of its own.
    form: Literal["webdataset", "parquet"] = "parquet" if item["image_offset"] is None else "webdataset"
    content = read_original(
        place.shard,
        storage_options,
        item["sample_offset"],
        item["image_offset"],
        item["image_bytes"],
        form,
        pool["columns"]["image"],
    )
    small = None if content is None else thumbnail(content, side_pixels)
    return None if small is None else base64.b64encode(small).decode()
