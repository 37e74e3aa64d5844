"""The earlier survivor of the same image cluster whose caption is most alike."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from filters.core.declaration import Columns
from transforms.clustered import ClusteredComparison
from transforms.comparing import Found
from transforms.deciding import DecidePart
from transforms.exchange import Records
from transforms.relations.exact_duplicates import originals
from transforms.similar_texts import most_similar_earlier, normalised

CAPTION_BYTES = 1000


class SimilarCaptions(ClusteredComparison):
    """Greatest Jaccard similarity to the caption of an earlier row of the cluster."""

    stages: ClassVar[tuple[str, ...]] = (*ClusteredComparison.training, "sort", "compare", "write")
    hot_rows: ClassVar[int | None] = None

    @classmethod
    def fields(cls, rule: Any, width: int) -> list[tuple[Any, ...]]:  # noqa: ARG003
        return [("caption", f"S{CAPTION_BYTES}")]

    def entries(self, part: DecidePart) -> tuple[Records, NDArray[np.int64]]:
        members = self.members(part, 1, first="uid" if self.rule.by is None else "best")
        captions = members.columns["caption"].take(pa.array(members.rows)).to_pylist()
        members.records["caption"] = [
            normalised(caption or "").encode()[:CAPTION_BYTES] for caption in captions
        ]
        return members.records, members.clusters[:, 0].astype(np.int64)

    def compare(self, members: Records, key: int) -> Found:  # noqa: ARG002
        texts = [caption.decode(errors="ignore") for caption in members["caption"].tolist()]
        return Found(*most_similar_earlier(texts, self.rule.jaccard_above))

    def columns(self, rows: int, answers: Records) -> Columns:
        similarity, absent = np.zeros(rows, np.float32), np.ones(rows, np.bool_)
        similarity[answers["row"]], absent[answers["row"]] = answers["value"], False
        return {
            "caption_jaccard": pa.array(similarity, mask=absent),
            "duplicate_of": originals(rows, answers),
        }
