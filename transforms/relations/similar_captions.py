"""The earlier survivor of the same image cluster whose caption is most alike.

In a continuous run everything kept before comes first; its signatures are remembered with its captions,
since making them is what takes the time.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from filters.core.declaration import Columns
from filters.core.uids import parse_uids
from transforms.clustered import ClusteredComparison
from transforms.comparing import Found
from transforms.deciding import DecidePart, read_columns
from transforms.exchange import Records
from transforms.memory import Memory
from transforms.relations.exact_duplicates import originals
from transforms.similar_texts import PERMUTATIONS, most_similar_earlier, normalised, signatures

CAPTION_BYTES = 1000
SIGNATURE = ("signature", "<u4", (PERMUTATIONS,))


class SimilarCaptions(ClusteredComparison):
    """Greatest Jaccard similarity to the caption of an earlier row of the cluster."""

    stages: ClassVar[tuple[str, ...]] = (*ClusteredComparison.training, "sort", "compare", "write")
    hot_rows: ClassVar[int | None] = None
    remembers: ClassVar[bool] = True

    @classmethod
    def fields(cls, rule: Any, width: int) -> list[tuple[Any, ...]]:  # noqa: ARG003
        return [("caption", f"S{CAPTION_BYTES}")]

    def entries(self, part: DecidePart) -> tuple[Records, NDArray[np.int64]]:
        members = self.members(part, 1, first="uid" if self.rule.by is None else "best")
        members.records["caption"] = _stored(members.columns["caption"], members.rows)
        return members.records, members.clusters[:, 0].astype(np.int64)

    def compare(self, members: Records, key: int) -> Found:
        if self.scope.memory is None:
            return Found(*most_similar_earlier(_texts(members), self.rule.jaccard_above))
        with Memory(self.scope.memory).survivors(key) as known:
            texts = [*_texts(known), *_texts(members)]
            found = Found(*most_similar_earlier(texts, self.rule.jaccard_above, known["signature"]))
            uids = np.concatenate([known["uid"], members["uid"]])[np.maximum(found.original, 0)]
        return replace(found, uids=uids)

    # --- what a continuous run has kept

    @property
    def remembered_type(self) -> np.dtype[Any]:
        return np.dtype([("uid", "<u8", (2,)), *self.fields(self.rule, 0), SIGNATURE])

    def remembered(self, part: DecidePart, rows: NDArray[np.intp]) -> tuple[Records, NDArray[np.int64]]:
        usable, _, clusters = self.with_clusters(part, rows)
        columns = read_columns(self.scope.config, part, ["uid", "caption"])
        records = np.zeros(len(usable), self.remembered_type)
        if len(usable):
            records["uid"] = parse_uids(columns["uid"].take(pa.array(usable)))
            records["caption"] = _stored(columns["caption"], usable)
            records["signature"] = signatures(_texts(records))
        return records, clusters

    def columns(self, rows: int, answers: Records) -> Columns:
        similarity, absent = np.zeros(rows, np.float32), np.ones(rows, np.bool_)
        similarity[answers["row"]], absent[answers["row"]] = answers["value"], False
        return {
            "caption_jaccard": pa.array(similarity, mask=absent),
            "duplicate_of": originals(rows, answers),
        }


def _stored(captions: pa.Array, rows: NDArray[np.intp]) -> list[bytes]:
    """The captions of these rows as they are compared: normalised, UTF-8, cut to CAPTION_BYTES."""
    texts = captions.take(pa.array(rows)).to_pylist()
    return [normalised(text or "").encode()[:CAPTION_BYTES] for text in texts]


def _texts(records: Records) -> list[str]:
    return [caption.decode(errors="ignore") for caption in records["caption"].tolist()]
