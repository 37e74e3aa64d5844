"""Examples of concepts that a user names: a CSV file with the columns uid and concept."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass

import fsspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from filters.core.catalogue import nearest
from filters.core.errors import RecipeError
from filters.core.uids import is_uid, parse_uids
from transforms.storage import redact
from transforms.vocabulary import Vocabulary

MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class ConceptExamples:
    """Samples that show their concept, each once, in the order of their uids.

    Attributes:
        uids: (e, 2) uint64; leaf: (e,) int64 place among the vocabulary's leaves.
    """

    uids: NDArray[np.uint64]
    leaf: NDArray[np.int64]


def read_examples(path: str, vocabulary: Vocabulary) -> ConceptExamples:
    """The examples in a file, by path or URL; other columns are ignored.

    Raises: RecipeError naming file and line: it can't be read, has no column uid or concept, a uid is
    not 32 hex digits, a concept is unknown or has children, or one uid stands for two concepts.
    """
    name = redact(path)
    places = {vocabulary.concepts[leaf].name: at for at, leaf in enumerate(vocabulary.leaves.tolist())}
    found: dict[str, tuple[str, int]] = {}
    for line, uid, concept in _lines(path, name):
        if not is_uid(uid):
            msg = f"{name}, line {line}: a uid is 32 hex digits, not {uid!r}"
            raise RecipeError(msg)
        if concept not in places:
            why = (
                "has children: name one of them" if concept in vocabulary.names else nearest(concept, places)
            )
            msg = f"{name}, line {line}: concept {concept!r} {why}"
            raise RecipeError(msg)
        said, before = found.setdefault(uid.lower(), (concept, line))
        if said != concept:
            msg = f"{name}, lines {before} and {line}: {uid} shows {said!r} and {concept!r}: keep one"
            raise RecipeError(msg)
    uids = sorted(found)
    leaf = np.array([places[found[uid][0]] for uid in uids], np.int64)
    return ConceptExamples(parse_uids(pa.array(uids, pa.string())), leaf)


def _lines(path: str, name: str) -> Iterator[tuple[int, str, str]]:
    """Line, uid and concept of each row."""
    try:
        with fsspec.open(path, "rb") as stream:
            content = stream.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            msg = f"examples: {name} has more than {MAX_BYTES} bytes: give a few for each concept"
            raise RecipeError(msg)
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        columns = reader.fieldnames or []
        if not {"uid", "concept"} <= set(columns):
            msg = f"{name}, line 1: no columns uid and concept, but {', '.join(columns) or 'nothing'}"
            raise RecipeError(msg)
        for row in reader:
            yield reader.line_num, (row["uid"] or "").strip(), (row["concept"] or "").strip()
    except OSError as cause:
        msg = f"examples: can't read {name!r}: {cause.strerror or cause}"
        raise RecipeError(msg) from cause
    except (csv.Error, UnicodeDecodeError) as cause:
        msg = f"examples: {name} is no CSV file in UTF-8: {cause}"
        raise RecipeError(msg) from cause
