"""The index of a decision's embeddings: exact below a million rows, inverted lists above.

    index/<embedding folder>/{img,txt}/manifest.json     what it is over, how it searches, its recall
    index/<embedding folder>/{img,txt}/<fp>.faiss        the lists; not there where search is exact

An exact index holds no vectors: search reads the embeddings where they lie.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from curate.encoder_of import StoredEmbedding, stored_embeddings
from curate.query import Decision
from curate.search.lists import Lists, Say
from curate.search.vectors import Half, Numbers, Vectors
from filters.core.uids import parse_uids, uid_fraction
from transforms.fingerprints import fingerprint
from transforms.storage import redact

INDEX_VERSION = 1


@dataclass(frozen=True)
class Settings:
    """When an index has inverted lists, and how good they must be.

    Attributes:
        exact_below: rows below which search is exact.
        recall: the least recall at 10, over `questions` samples of each kind of embedding.
    """

    exact_below: int = 1_000_000
    recall: float = 0.95
    questions: int = 100


def index_folder(embedding: StoredEmbedding) -> str:
    """Where the index of these embeddings lies in the store."""
    return f"index/{embedding.folder.removeprefix('embeddings/')}"


def covered(decision: Decision) -> list[dict[str, Any]]:
    """The parts that an index of this decision is over, in order."""
    return [
        {"part": part["part"], "rows": part["rows"]} for part in decision.manifest["parts"] if part["rows"]
    ]


def read_index(decision: Decision, embedding: StoredEmbedding) -> tuple[dict[str, Any] | None, str]:
    """The manifest of the index, or None and why there is none to use.

    Raises: StoreError where it is not readable.
    """
    folder, name = decision.store.folder, f"{index_folder(embedding)}/manifest.json"
    again = f"`curate index {redact(folder.url)}` makes one"
    if not folder.exists(name):
        return None, f"{embedding.name} has no index: every search reads all embeddings; {again}"
    found = folder.read_json(name)
    if not isinstance(found, dict) or found.get("curate_index") != INDEX_VERSION:
        return None, f"the index of {embedding.name} is of another version of Curate; {again}"
    if found["parts"] != covered(decision):
        mine = sum(part["rows"] for part in covered(decision))
        return None, (
            f"the index of {embedding.name} is stale: it is over {len(found['parts'])} parts with "
            f"{found['rows']:,} rows, the decision {decision.ledger} over {len(covered(decision))} with "
            f"{mine:,}, or other ones; {again}"
        )
    return found, ""


def build_index(
    decision: Decision, embedding: StoredEmbedding, say: Say, settings: Settings | None = None
) -> dict[str, Any]:
    """Makes the index of these embeddings anew and returns its manifest; the caller holds the lock.

    The same store gives the same index: rows to train with and to ask with are drawn by uid hash.
    Raises: StoreError where embeddings can't be read or the store can't be written.
    """
    settings = settings or Settings()
    vectors = Vectors(decision, embedding)
    usable = vectors.usable()
    content: dict[str, Any] = {
        "curate_index": INDEX_VERSION,
        "embedding": embedding.name,
        "parts": covered(decision),
        "rows": vectors.rows,
        "embedded": int(np.count_nonzero(usable)),
        "width": vectors.width,
        "kind": "exact",
    }
    folder, place = decision.store.folder, index_folder(embedding)
    if content["embedded"] >= settings.exact_below:
        known = np.flatnonzero(usable)
        lists = Lists.train(vectors, known, lambda count: _drawn(vectors, known, count, seed=0), say)
        say(f"{embedding.name}: measuring recall")
        questions = _questions(vectors, known, settings.questions)
        content |= {"kind": "ivf", **lists.tuned(questions, settings.recall)}
        content["file"] = f"{fingerprint(content)}.faiss"
        with folder.commit(f"{place}/{content['file']}") as path:
            lists.write(str(path))
    content["fingerprint"] = fingerprint(content)
    folder.write_json(f"{place}/manifest.json", content)
    _remove_others(decision, place, content.get("file"))
    return content


def _remove_others(decision: Decision, place: str, keep: str | None) -> None:
    """Deletes the lists of an earlier index, once the manifest no longer names them."""
    folder = decision.store.folder
    for name in folder.names(place):
        if name.endswith(".faiss") and name != keep:
            folder.remove(f"{place}/{name}")


def _questions(vectors: Vectors, known: Numbers, count: int) -> dict[str, list[tuple[Half, int]]]:
    """Embeddings of the decision to ask with: of this kind without their own row, and of the other kind."""
    found = {}
    for one in stored_embeddings(vectors.decision).values():
        if one.measure != vectors.embedding.measure:
            continue
        own = one.kind == vectors.embedding.kind
        asked = vectors if own else Vectors(vectors.decision, one)
        numbers = _drawn(asked, known if own else np.flatnonzero(asked.usable()), count, seed=1)
        rows = asked.take(numbers)
        found[one.name] = [(row, int(at) if own else -1) for row, at in zip(rows, numbers, strict=True)]
    return found


def _drawn(vectors: Vectors, known: Numbers, count: int, seed: int) -> Numbers:
    """So many of the known rows, ascending: those whose uid hashes are least."""
    if len(known) <= count:
        return known
    store, group = vectors.decision.store, vectors.decision.manifest["samples"]
    uids = (store.read_part(group, part["part"], ["uid"])["uid"] for part in vectors.parts)
    hashes = np.concatenate([uid_fraction(parse_uids(some), seed) for some in uids])
    return np.sort(known[np.lexsort((known, hashes[known]))[:count]])
