"""A made-up store like DataComp's metadata: every signal is there, no image and no pool file is."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from benchmarks.photographs import WORDS
from curate.plan import Plan, make_plan
from curate.recipe import parse_recipe
from transforms.samples import LABEL
from transforms.store import Store

Vectors: TypeAlias = "Callable[[int, int], NDArray[np.float16]]"
_HEX = np.array([[ord(digit) for digit in f"{byte:02x}"] for byte in range(256)], dtype=np.uint8)
LANGUAGES = ("en", "de", "fr", "es", "ru", "zh", "ja", "pt", "it", "nl")


LANGUAGE = {"language": {"detector": "langid"}}


def metadata_plan(
    store: Path,
    parts: int,
    filters: Sequence[Any],
    measures: Mapping[str, Any] = LANGUAGE,
    **output: object,
) -> Plan:
    """The plan of a recipe over this store; the pool's files need not be there."""
    recipe = {
        "name": "bench",
        "pool": {"format": "datacomp", "uri": [f"{store}/pool/{part:05d}.parquet" for part in range(parts)]},
        "measures": dict(measures),
        "filters": list(filters),
        "output": {"shards": False, "subset": False, "report": False, **output},
    }
    return make_plan(parse_recipe(json.dumps(recipe)), [], Store.at(str(store)))


def fill_store(
    store: Path, parts: int, rows: int, measures: Mapping[str, Any] = LANGUAGE, vectors: Vectors | None = None
) -> None:
    """Writes every table that the plan lacks, `rows` rows in all, through the store's own writer.

    vectors: makes the image embeddings of a part from its number and rows.
    """
    plan = metadata_plan(store, parts, (), measures)
    plan.store.prepare()
    for number, shard in enumerate(plan.shards):
        count = rows * (number + 1) // parts - rows * number // parts
        values = _part(np.random.default_rng(number), count, shard.uri)
        for measure in (plan.samples, *plan.measures):
            columns = {
                column.name: values[column.name]().cast(column.type)
                if column.name in values
                else _any_of(column.type, count)
                for column in measure.columns()
            }
            marker = {"shard": shard.uri, "end": None, "ignored_members": 0, "failed_rows": 0}
            extra = {}
            if vectors is not None and getattr(measure.options, "encodes", ()):
                extra[measure.embeddings("img", shard.part)] = vectors(number, count)
            plan.store.write_part(measure.group, shard.part, pa.table(columns), marker=marker, extra=extra)
        print(f"  part {number + 1} of {parts}", end="\r", flush=True)


def _part(random: np.random.Generator, count: int, uri: str) -> dict[str, Callable[[], pa.Array]]:
    """A maker for each column; cosines are float16 values, as in DataComp's files."""
    uids = _uids(random, count)
    words = random.integers(1, 20, count)

    def cosine(mean: float) -> pa.Array:
        drawn = random.normal(mean, 0.06, count).astype(np.float16)
        return pa.array(drawn.astype(np.float32))

    def nothing() -> pa.Array:
        return pa.nulls(count, pa.string())

    def place() -> pa.Array:
        return pa.array(np.arange(count))

    def side() -> pa.Array:
        return pa.array(np.exp(random.normal(6.2, 0.6, count)).astype(np.int32))

    def unknown() -> pa.Array:
        return pa.nulls(count, pa.int64())

    return {
        "shard": lambda: pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), [uri]),
        "row": place,
        "key": lambda: uids,
        "uid": lambda: uids,
        "caption": lambda: _captions(random, count),
        "url": lambda: pc.binary_join_element_wise("https://pictures.example/", uids, ".jpg", ""),
        "failure": lambda: pa.array([None] * count, pa.string()).dictionary_encode().cast(LABEL),
        "failure_detail": nothing,
        "sample_offset": place,
        "sample_bytes": unknown,
        "image_offset": unknown,
        "image_bytes": unknown,
        "width": side,
        "height": side,
        "clip_b32_cosine": lambda: cosine(0.24),
        "clip_l14_cosine": lambda: cosine(0.19),
        "caption_characters": lambda: pa.array((words * 6 + random.integers(0, 9, count)).astype(np.int32)),
        "caption_words": lambda: pa.array(words.astype(np.int32)),
        "language": lambda: _chosen(random, LANGUAGES, count),
        "language_probability": lambda: pa.array(random.random(count).astype(np.float32)),
    }


def _any_of(kind: pa.DataType, count: int) -> pa.Array:
    """Values for a column that no filter here reads."""
    random = np.random.default_rng(0)
    if pa.types.is_string(kind):
        return _chosen(random, LANGUAGES, count)
    if pa.types.is_boolean(kind):
        return pa.array(random.random(count) < 0.02)
    if pa.types.is_floating(kind) or pa.types.is_integer(kind):
        return pa.array(random.integers(0, 20, count)).cast(kind)
    return pa.nulls(count, kind)


def _uids(random: np.random.Generator, count: int) -> pa.Array:
    digits = _HEX[np.frombuffer(random.bytes(16 * count), dtype=np.uint8)]
    offsets = np.arange(count + 1, dtype=np.int32) * 32
    return pa.Array.from_buffers(
        pa.string(), count, [None, pa.py_buffer(offsets), pa.py_buffer(digits.tobytes())]
    )


def _captions(random: np.random.Generator, count: int) -> pa.Array:
    """About sixty characters: three phrases of a few thousand."""
    phrases = pa.array([" ".join(random.choice(WORDS, size=4)) for _ in range(4000)])
    taken = [phrases.take(pa.array(random.integers(0, 4000, count))) for _ in range(3)]
    return pc.binary_join_element_wise(*taken, " ")


def _chosen(random: np.random.Generator, labels: Sequence[str], count: int) -> pa.Array:
    """The first label for two thirds of the rows."""
    codes = np.maximum(0, random.integers(-2 * len(labels), len(labels), count))
    return pa.array(labels).take(pa.array(codes))
