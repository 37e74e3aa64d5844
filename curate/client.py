"""The Python client: a curated store, opened to be asked from a program or a notebook."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
from PIL import Image

from curate.explain import Explanation, explain
from curate.query import Decision, connect, open_decision, run_sql
from curate.quoting import quoted_name, quoted_text
from curate.where import where_clause
from filters.core.catalogue import nearest
from filters.core.errors import PoolError, QueryError
from transforms.decode import decode
from transforms.pool import PoolOptions, RawSample
from transforms.store import Store
from transforms.thumbnails import read_original

if TYPE_CHECKING:
    from curate.search import SearchEngine  # at run time only where something is searched for


class CuratedStore:
    """One decision of a store; safe to use from several threads. `curate.open` makes it.

    Attributes:
        decision: the ledger and manifest that answers are about.
    """

    def __init__(self, decision: Decision, pool_options: Mapping[str, Any]) -> None:
        self.decision = decision
        self._pool_options = pool_options
        self._asking = threading.Lock()

    def __repr__(self) -> str:
        manifest = self.decision.manifest
        kept = manifest["verdicts"].get("keep", 0)
        return f"<{self.decision.ledger}: {kept:,} of {manifest['rows']:,} samples kept>"

    def decisions(self) -> list[str]:
        """The names of the store's finished decisions, for `curate.open(…, decision=NAME)`."""
        folder = self.decision.store.folder
        names = folder.names("ledger")
        return [name for name in names if folder.exists(f"ledger/{name}/manifest.json")]

    def query(self, sql: str) -> pa.Table:
        """The answer to one SELECT over the views that `curate query --schema` lists.

        Raises: QueryError.
        """
        with self._asking:
            return run_sql(self._connection, sql)

    def samples(
        self, where: str | None = None, columns: Sequence[str] | None = None, limit: int | None = None
    ) -> pa.Table:
        """Samples with their signals and verdict, in the order of the pool.

        where: an SQL condition, such as "verdict = 'keep' AND width > 512"; columns: all, if not
        given. `.to_pandas()` of the table gives a data frame.
        Raises: QueryError for a condition that is none, an unknown column, or a limit below 0.
        """
        if limit is not None and limit < 0:
            msg = f"a limit is 0 or more, not {limit}"
            raise QueryError(msg)
        with self._asking:
            clause = where_clause(self._connection, where)
            chosen = "*" if columns is None else ", ".join(map(self._column, columns))
            end = "" if limit is None else f" LIMIT {int(limit)}"
            return run_sql(self._connection, f"SELECT {chosen} FROM samples {clause}{end}")  # noqa: S608

    def image(self, uid: str) -> Image.Image:
        """The original picture of a sample, read from its shard: the first frame, mode RGB.

        Raises: QueryError for an unknown uid, or where the sample has no readable picture;
        PoolError where its shard is gone or changed.
        """
        row = self._row(uid)
        if row["image_bytes"] is None:
            msg = f"the sample {uid} has no image in {row['shard']}"
            raise QueryError(msg)
        pool = self.decision.manifest["recipe"]["pool"]
        content = read_original(
            row["shard"],
            self._pool_options,
            row["sample_offset"],
            row["image_offset"],
            row["image_bytes"],
            "parquet" if row["image_offset"] is None else "webdataset",
            pool["columns"]["image"],
        )
        if content is None:
            msg = (
                f"the image of {uid} can't be read from {row['shard']}, row {row['row']}: the shard is gone, "
                "was changed, or needs pool_options"
            )
            raise PoolError(msg)
        raw = RawSample(row=row["row"], key="", offset=0, image=content, caption=b"")
        found = decode(raw, PoolOptions(wrong_extension="accept", max_pixels=pool["max_pixels"]))
        if found.picture is None:
            msg = f"the image of {uid} can't be decoded: {found.failure} ({found.detail})"
            raise QueryError(msg)
        return found.picture.rgb

    def search(  # noqa: PLR0913  (the ways to search)
        self,
        text: str | None = None,
        *,
        image: bytes | str | Path | Image.Image | None = None,
        like: str | None = None,
        k: int = 50,
        where: str | None = None,
        embedding: str | None = None,
    ) -> pa.Table:
        """The k samples nearest to a text, to an image (a file, its bytes, a picture), or to a sample.

        where: as in `samples`; embedding: such as clip_image, the first if not given.
        Raises: QueryError; ModelError where the model that measured is not here.
        """
        if sum(one is not None for one in (text, image, like)) != 1:
            msg = "search for one thing: a text, image=…, or like=UID"
            raise QueryError(msg)
        from curate.search.pictures import read_image  # noqa: PLC0415

        engine = self._engine(embedding)
        if text is not None:
            return engine.by_text(text, k, where)
        if like is not None:
            return engine.like(like, k, where)
        if isinstance(image, Image.Image):
            return engine.by_image(image.convert("RGB"), k, where)
        return engine.by_image(image if isinstance(image, bytes) else read_image(Path(str(image))), k, where)

    def explain(self, name: str) -> list[Explanation]:
        """Why each sample of this key or uid got its verdict.

        Raises: QueryError where no sample has it.
        """
        return explain(self.decision, name)

    @cached_property
    def _connection(self) -> duckdb.DuckDBPyConnection:
        return connect(self.decision)

    @cached_property
    def _engines(self) -> dict[str | None, SearchEngine]:
        return {}

    def _engine(self, embedding: str | None) -> SearchEngine:
        from curate.search import SearchEngine  # noqa: PLC0415  (its models take seconds to import)

        with self._asking:
            if embedding not in self._engines:
                self._engines[embedding] = SearchEngine(self.decision, embedding)
            return self._engines[embedding]

    def _column(self, name: str) -> str:
        known = run_sql(self._connection, "SELECT * FROM samples LIMIT 0").column_names
        if name not in known:
            msg = f"no column {name!r} in samples; {nearest(name, known)}"
            raise QueryError(msg)
        return quoted_name(name)

    def _row(self, uid: str) -> dict[str, Any]:
        """Place of the first sample with this uid, one that has an image before one that has none."""
        names = ("shard", '"row"', "sample_offset", "image_offset", "image_bytes")
        found = self.query(
            f"SELECT {', '.join(names)} FROM samples WHERE uid = {quoted_text(uid.strip().lower())} "  # noqa: S608
            'ORDER BY image_bytes IS NULL, shard, "row" LIMIT 1'
        ).to_pylist()
        if not found:
            msg = f"no sample with the uid {uid!r} in {self.decision.ledger}"
            raise QueryError(msg)
        row: dict[str, Any] = found[0]
        return row


def open_store(
    url: str, decision: str | None, storage_options: Mapping[str, Any], pool_options: Mapping[str, Any]
) -> CuratedStore:
    """What `curate.open` does."""
    return CuratedStore(open_decision(Store.at(url, storage_options), decision), pool_options)
