"""Searching a decision: by text, by image, by another sample, under a condition."""

from __future__ import annotations

import threading
from collections import OrderedDict
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from curate.encoder_of import find_embedding, query_encoder
from curate.query import Decision, connect, run_sql
from curate.quoting import quoted_text
from curate.search.index import index_folder, read_index
from curate.search.lists import Lists
from curate.search.pictures import picture_of
from curate.search.shown import SHOWN, ShownSamples
from curate.search.vectors import SELECTIVE, Half, Numbers, Vectors
from curate.where import where_clause
from filters.core.errors import QueryError
from transforms.encoders import ClipEncoder

FOUND = pa.schema([("rank", pa.int32()), ("cosine", pa.float32()), *SHOWN])
MOST_FOUND = 10_000
MOST_CHARACTERS = 10_000
_CONDITIONS = 4  # whose rows are kept: one is asked with many texts


class SearchEngine:
    """One kind of embeddings of one decision, opened to be searched; safe to use from several threads.

    Every search returns a table of the columns `FOUND`, greatest cosine first, equal ones by uid:
    the exact answer, or with inverted lists one of the recall that their manifest tells.

    Attributes:
        notes: what a user should know of the index, such as that it is stale.
    """

    def __init__(self, decision: Decision, embedding: str | None = None) -> None:
        """Opens the embeddings of this name, else the first of the decision.

        Raises: QueryError where there are none; StoreError where they can't be read.
        """
        self.decision = decision
        self.embedding = find_embedding(decision, embedding)
        self.vectors = Vectors(decision, self.embedding)
        self.samples = ShownSamples(decision, self.vectors.bounds)
        self.index, note = read_index(decision, self.embedding)
        self.notes = (note,) if note else ()
        self._connection = connect(decision)
        starts = pa.table(
            {"shard": [part["uri"] for part in self.vectors.parts], "first": self.vectors.bounds[:-1]},
            schema=pa.schema([("shard", pa.string()), ("first", pa.int64())]),
        )
        self._connection.register("search_parts", starts)
        self._asking = threading.Lock()
        self._conditions: OrderedDict[str, Numbers] = OrderedDict()

    def warm(self) -> None:
        """Loads what searches need, so that the first is as fast as the next: model, embeddings, samples."""
        _ = self.encoder
        if self._lists is None:
            self.vectors.usable()
        self.samples.fill()

    @cached_property
    def encoder(self) -> ClipEncoder:
        """The model that made the embeddings.

        Raises: ModelError where it is not here, or has other weights.
        """
        return query_encoder(self.decision, self.embedding.measure)

    def by_text(self, text: str, k: int = 50, where: str | None = None) -> pa.Table:
        """The samples nearest to a text.

        where: SQL condition over the view `samples`.
        Raises: QueryError for an empty text or a wrong condition; ModelError.
        """
        return self.by_vector(self.text_vector(text), k, where)

    def text_vector(self, text: str) -> Half:
        """The embedding of a text: (d,) float16 unit row.

        Raises: QueryError for an empty text or one that is too long; ModelError.
        """
        if not text.strip() or len(text) > MOST_CHARACTERS:
            msg = f"a text to search with has 1 to {MOST_CHARACTERS:,} characters, not {len(text):,}"
            raise QueryError(msg)
        # An argument of a command may hold bytes that are no UTF-8.
        whole = text.encode("utf-8", "replace").decode("utf-8")
        found: Half = self.encoder.encode_texts([whole])[0]
        return found

    def image_vector(self, image: bytes | Image.Image) -> Half:
        """The embedding of an encoded image, or of a picture in mode RGB: (d,) float16 unit row.

        Raises: QueryError where the bytes are no image, or one beyond bounds; ModelError.
        """
        picture = picture_of(image) if isinstance(image, bytes) else image
        found: Half = self.encoder.encode_pictures([picture])[0]
        return found

    def row_vector(self, row: int) -> Half:
        """The stored embedding of a row: (d,) float16 unit row.

        Raises: QueryError where it has none.
        """
        vector: Half = self.vectors.take(np.array([row]))[0]
        if self.vectors.width == 0 or not np.isfinite(vector).all():
            (uid,) = self.samples.uids(np.array([row]))
            msg = f"the sample {uid} has no embedding: `curate explain` says why it failed"
            raise QueryError(msg)
        return vector

    def by_image(self, image: bytes | Image.Image, k: int = 50, where: str | None = None) -> pa.Table:
        """The samples nearest to an encoded image or a picture, as `by_text`.

        Raises: QueryError also where the bytes are no image, or one beyond bounds.
        """
        return self.by_vector(self.image_vector(image), k, where)

    def like(self, uid: str, k: int = 50, where: str | None = None) -> pa.Table:
        """The other samples nearest to this one, as `by_text`.

        Raises: QueryError also for an unknown uid, or a sample without an embedding.
        """
        rows = self.matching(f"uid = {quoted_text(uid.strip().lower())}")
        if len(rows) == 0:
            msg = f"no sample with the uid {uid!r} in {self.decision.ledger}"
            raise QueryError(msg)
        known = rows[np.isfinite(self.vectors.take(rows)).all(axis=1)]
        own = int(known[0] if len(known) else rows[0])
        return self._found(self.row_vector(own), k, where, own)

    def by_vector(self, query: Half, k: int = 50, where: str | None = None) -> pa.Table:
        """The samples nearest to an embedding, as `by_text`; query: (d,) float16 unit row."""
        return self._found(query, k, where, own=None)

    def matching(self, where: str) -> Numbers:
        """The rows that meet a condition, ascending: (m,) int64 over the decision's parts.

        Raises: QueryError where it is not one SQL expression over `samples`.
        """
        with self._asking:
            if where in self._conditions:
                self._conditions.move_to_end(where)
                return self._conditions[where]
            clause = where_clause(self._connection, where)
            answer = run_sql(
                self._connection,
                'SELECT first + "row" AS number FROM '  # noqa: S608  (checked)
                f'(SELECT shard, "row" FROM samples {clause}) JOIN search_parts USING (shard)',
            )
            found: Numbers = np.sort(answer["number"].to_numpy())
            self._conditions[where] = found
            if len(self._conditions) > _CONDITIONS:
                self._conditions.popitem(last=False)
        return found

    def _found(self, query: Half, k: int, where: str | None, own: int | None) -> pa.Table:
        if not 1 <= k <= MOST_FOUND:
            msg = f"a search finds 1 to {MOST_FOUND:,} samples, not {k:,}"
            raise QueryError(msg)
        among = None if where is None else self.matching(where)
        numbers, cosines = self.nearest(query, k + (own is not None), among)
        others = numbers != (-1 if own is None else own)
        numbers, cosines = numbers[others][:k], cosines[others][:k]
        return pa.table(
            [
                pa.array(np.arange(1, len(numbers) + 1), pa.int32()),
                pa.array(cosines, pa.float32()),
                *self.samples.read(numbers).columns,
            ],
            schema=FOUND,
        )

    def nearest(
        self, query: Half, k: int, among: Numbers | None = None
    ) -> tuple[Numbers, NDArray[np.float64]]:
        """The rows nearest to an embedding, and their cosines: at most (k,) int64 and float64 each.

        among: the rows that may be in the answer, ascending; None for all.
        Raises: QueryError for an embedding of another width.
        """
        if self.vectors.width and len(query) != self.vectors.width:
            msg = f"the embeddings have {self.vectors.width} numbers, the question {len(query)}"
            raise QueryError(msg)
        numbers, cosines = self._nearest(query, k, among)
        return numbers, np.clip(cosines, -1.0, 1.0)

    def _nearest(self, query: Half, k: int, among: Numbers | None) -> tuple[Numbers, NDArray[np.float64]]:
        lists = self._lists
        selective = among is not None and len(among) * SELECTIVE < self.vectors.rows
        if lists is None or self.index is None or selective:
            return self.vectors.nearest(query, k, among, self.samples.uids)
        numbers, cosines = lists.nearest(
            query, k, self.index["probed"], self.index["refined"], among, self.samples.uids
        )
        if among is not None and len(numbers) < min(k, len(among)):
            return self.vectors.nearest(query, k, among, self.samples.uids)  # the condition is far away
        return numbers, cosines

    @cached_property
    def _lists(self) -> Lists | None:
        if self.index is None or self.index["kind"] == "exact":
            return None
        return Lists.read(self.vectors, f"{index_folder(self.embedding)}/{self.index['file']}")
