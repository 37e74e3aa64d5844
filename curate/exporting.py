"""What every export shares: which samples, what is told of each, and the files that go along.

A target is one module of `curate.export` that declares one class derived from `Export`; its name is
the module's, with a hyphen for an underscore.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.query import Decision, connect, describe_samples, run_sql
from curate.quoting import quoted_name
from curate.where import where_clause
from filters.core.catalogue import declared_in, names_in, nearest
from filters.core.errors import QueryError, StoreError
from transforms.measure import find_measure
from transforms.storage import Folder, redact

KEPT = "verdict = 'keep'"
METADATA = "metadata.parquet"
SHARDS = "shards"
# Of no use where the pool's shards are not; `votes` is told by the card.
_LOCAL = frozenset(
    {
        *("shard", "row", "failure", "failure_detail", "sample_offset", "sample_bytes"),
        *("image_offset", "image_bytes", "value", "value_text", "bound", "votes"),
    }
)
_ROWS_AT_ONCE = 65_536


@dataclass(frozen=True)
class Selection:
    """Samples of a decision: those that it keeps, or those that meet a condition.

    Attributes:
        where: SQL condition over the view `samples`; None for the kept ones.
    """

    decision: Decision
    where: str | None = None

    @cached_property
    def _connection(self) -> duckdb.DuckDBPyConnection:
        return connect(self.decision)

    @cached_property
    def _clause(self) -> str:
        return where_clause(self._connection, self.where or KEPT)

    @cached_property
    def count(self) -> int:
        """How many there are.

        Raises: QueryError for a condition that is none.
        """
        counted = run_sql(self._connection, f"SELECT count(*) AS n FROM samples {self._clause}")  # noqa: S608
        return int(counted["n"][0].as_py())

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """What is told of each sample: identity, caption, every signal that kept samples take along."""
        uncarried = {
            column.name
            for item in self.decision.manifest["measures"]
            for column in find_measure(item["kind"]).model_construct().columns(item["name"])
            if not column.carried
        }
        names = (name for name, _, _ in describe_samples(self.decision))
        return tuple(name for name in names if name not in uncarried | _LOCAL)

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns with their types."""
        chosen = ", ".join(map(quoted_name, self.columns))
        return run_sql(self._connection, f"SELECT {chosen} FROM samples LIMIT 0").schema  # noqa: S608

    def batches(self, names: Sequence[str], rows: int = _ROWS_AT_ONCE) -> Iterator[pa.Table]:
        """These columns of the samples in the pool's order, so many rows at once."""
        chosen = ", ".join(map(quoted_name, names))
        question = f"SELECT {chosen} FROM samples {self._clause}"  # noqa: S608  (quoted and checked)
        try:
            # A connection of its own: another question would end what is being read.
            for batch in connect(self.decision).sql(question).to_arrow_reader(rows):
                yield pa.Table.from_batches([batch])
        except duckdb.Error as cause:
            msg = f"SQL: {cause}"
            raise QueryError(msg) from cause

    def numbered(
        self, names: Sequence[str], rows: int = _ROWS_AT_ONCE
    ) -> Iterator[tuple[np.ndarray, pa.Table]]:
        """As `batches`, with the (n,) int64 numbers of the rows, which count over the decision's parts."""
        parts = [part for part in self.decision.manifest["parts"] if part["rows"]]
        first = dict(
            zip(
                (part["uri"] for part in parts),
                np.cumsum([0, *(part["rows"] for part in parts)]),
                strict=False,
            )
        )
        for table in self.batches([*names, "shard", "row"], rows):
            starts = np.array([first[shard] for shard in table["shard"].to_pylist()], np.int64)
            yield starts + table["row"].to_numpy(), table.select(list(names))


@dataclass(frozen=True)
class Publication:
    """What a publisher states of the data set as a whole; None where nothing is stated.

    Attributes:
        licence: a name or URL, best one of SPDX; url: where the data set is or will be.
    """

    licence: str | None = None
    url: str | None = None


class Export:
    """One way to hand a selection on."""

    def write(self, selection: Selection, target: Folder, publication: Publication) -> list[str]:
        """Writes the files and returns their names, the one to begin with first.

        Raises: QueryError where the decision has not what the target needs; StoreError where the
        folder can't be written.
        """
        raise NotImplementedError


def export_targets() -> list[str]:
    """The names of all targets, sorted."""
    return [name.replace("_", "-") for name in names_in("curate.export")]


def find_export(name: str) -> type[Export]:
    """The target of this name.

    Raises: QueryError for an unknown one, with the nearest.
    """
    if name not in export_targets():
        msg = f"no export {name!r}; {nearest(name, export_targets())}"
        raise QueryError(msg)
    return declared_in("curate.export", name.replace("-", "_"), Export)


def export_selection(name: str, selection: Selection, target: Folder, publication: Publication) -> list[str]:
    """Writes a selection for a target into an empty folder; returns the names of the files.

    Raises: QueryError for an unknown target, a folder that is not empty, or a wrong condition;
    StoreError.
    """
    export = find_export(name)()
    try:
        inside = target.names("")
    except OSError as cause:
        msg = f"can't write {redact(target.url)}: {cause.strerror or cause}"
        raise StoreError(msg) from cause
    if inside:
        msg = (
            f"{redact(target.url)} is not empty: give a new folder, so that nothing old stands among the new"
        )
        raise QueryError(msg)
    return export.write(selection, target, publication)


# --- files that several targets write


@dataclass(frozen=True)
class WrittenFile:
    """A file of an export: its name in the folder, its size in bytes, and what SHA-256 says of it."""

    name: str
    size: int
    sha256: str


def write_metadata(selection: Selection, target: Folder) -> WrittenFile:
    """Writes what is told of each sample, in the pool's order, as one Parquet file."""
    with target.commit(METADATA) as path:
        with pq.ParquetWriter(path, selection.schema, compression="zstd") as writer:
            for table in selection.batches(selection.columns):
                writer.write_table(table.cast(selection.schema))
        return _described(METADATA, path)


def place_shards(selection: Selection, target: Folder) -> list[WrittenFile]:
    """Places the curated shards in the folder: linked where that is possible, else copied.

    Returns: none where the selection is another than what they hold, or there are none.
    """
    folder = selection.decision.store.folder
    curated = f"curated/{selection.decision.ledger}"
    names = set() if selection.where else set(folder.names(curated))
    placed = []
    for name in sorted(name for name in names if name.endswith(".tar")):
        if name.replace(".tar", ".done.json") in names:
            with target.commit(f"{SHARDS}/{name}") as path:
                place(folder, f"{curated}/{name}", path)
                placed.append(_described(f"{SHARDS}/{name}", path))
    return placed


def place(folder: Folder, name: str, path: Path) -> None:
    """Puts a file of the store at a local path: a hard link on the same file system, else a copy."""
    if not folder.local:
        folder.fs.get_file(folder.path(name), str(path))
        return
    with contextlib.suppress(OSError):
        os.link(folder.path(name), path)
        return
    shutil.copyfile(folder.path(name), path)


def _described(name: str, path: Path) -> WrittenFile:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return WrittenFile(name, path.stat().st_size, digest)


def plain_types(schema: pa.Schema) -> Mapping[str, str]:
    """Column -> integer, float, bool, text or list, for those that are of one of these."""
    tests = {
        "integer": pa.types.is_integer,
        "float": pa.types.is_floating,
        "bool": pa.types.is_boolean,
        "text": lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind),
        "list": lambda kind: pa.types.is_list(kind) or pa.types.is_large_list(kind),
    }
    return {item.name: kind for item in schema for kind, test in tests.items() if test(item.type)}
