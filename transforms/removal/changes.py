"""Every file of a store that a removal rewrites or deletes, and how.

A `Change` is made by name, so that a record can say beforehand which files will change; making it
twice is the same as once. The samples tables are the last: until then they say whose uids are meant.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from filters.core.uids import uid_places
from transforms.failures import FAILURES_SCHEMA
from transforms.removal.blanking import (
    blank_ledger,
    blank_rows,
    blank_samples,
    blank_vectors,
    failures_without,
    renamed,
    uid_pairs,
)
from transforms.removal.marks import stand_in
from transforms.samples import SCHEMA, failure_counts
from transforms.storage import Folder
from transforms.store import Store

DONE = ".done.json"
PARQUET = ".parquet"


@dataclass(frozen=True)
class Change:
    """Files that become others, or nothing.

    Attributes:
        names: those that a record tells of; apply: makes the change, all commits by replacement.
    """

    names: tuple[str, ...]
    apply: Callable[[], object]


@dataclass(frozen=True)
class Scope:
    """What is removed from which store.

    Attributes:
        places: part -> its removed rows, ascending.
    """

    store: Store
    places: Mapping[str, Sequence[int]]

    @property
    def folder(self) -> Folder:
        """The store's folder."""
        return self.store.folder

    @cached_property
    def samples(self) -> list[str]:
        """The groups of samples tables: one for each way of reading a pool."""
        return groups_with(self.folder, SCHEMA.names)

    @cached_property
    def uids(self) -> dict[str, str]:
        """Uid of a removed sample -> the stand-in that others name instead; read before samples change."""
        found: dict[str, str] = {}
        for group in self.samples:
            for part in self.parts(group):
                table = self.store.read_part(group, part, ["uid"])
                rows = self.places[part]
                for row, uid in zip(rows, table["uid"].take(pa.array(rows)).to_pylist(), strict=True):
                    found.setdefault(uid, stand_in(part, row))
        return found

    def groups(self, below: str) -> list[str]:
        """The groups of one kind, such as those of signals."""
        return [f"{below}/{name}" for name in self.folder.names(below)]

    def parts(self, group: str) -> list[str]:
        """The parts of a group that hold a removed sample."""
        return [part for part in done_parts(self.folder, group) if part in self.places]


def done_parts(folder: Folder, group: str) -> list[str]:
    """The committed parts of a group."""
    return [name.removesuffix(DONE) for name in folder.names(group) if name.endswith(DONE)]


def groups_with(folder: Folder, columns: Collection[str]) -> list[str]:
    """The groups of signals that have these columns."""
    found = []
    for name in folder.names("signals"):
        parts = done_parts(folder, f"signals/{name}")
        if parts and set(columns) <= set(_schema(folder, f"signals/{name}/{parts[0]}{PARQUET}").names):
            found.append(f"signals/{name}")
    return found


def _schema(folder: Folder, name: str) -> pa.Schema:
    with folder.open(name) as stream:
        return pq.read_schema(stream)


def uncommitted(scope: Scope) -> Iterator[Change]:
    """Deletes what a killed run wrote and never committed, and work of comparisons it did not finish."""
    folder = scope.folder
    for group in (*scope.groups("signals"), *scope.groups("relations"), *scope.groups("ledger")):
        done = set(done_parts(folder, group))
        names = folder.names(group)
        stray = [f"{group}/{name}" for name in names if _stray(name, PARQUET, done)]
        if group.startswith("signals/"):
            encoder = f"embeddings/{group.removeprefix('signals/')}"
            for kind in folder.names(encoder):
                below = f"{encoder}/{kind}"
                stray += [f"{below}/{name}" for name in folder.names(below) if _stray(name, ".npy", done)]
        if stray:
            yield deletion(folder, stray)
        if "work" in names:
            yield Change((), partial(folder.remove, f"{group}/work"))
    for report in scope.groups("report"):
        for name in folder.names(report):
            if "work" in folder.names(f"{report}/{name}"):
                yield Change((), partial(folder.remove, f"{report}/{name}/work"))
    # A fit that goes on among other rows than it began with would miscount.
    fits = [f"artefacts/{name}" for name in folder.names("artefacts") if name.endswith(".json")]
    if unfinished := [name for name in fits if _begun(folder.read_json(name))]:
        yield deletion(folder, unfinished)


def _begun(artefact: object) -> bool:
    return isinstance(artefact, dict) and artefact.get("complete") is False


def _stray(name: str, ending: str, done: Collection[str]) -> bool:
    return name.endswith(ending) and name.removesuffix(ending) not in done


def signals(scope: Scope) -> Iterator[Change]:
    """Nulls the rows of every measure, and NaN in those of its embeddings."""
    for group in scope.groups("signals"):
        if group in scope.samples:
            continue
        for part in scope.parts(group):
            yield _rewritten(scope, group, part, lambda table, rows, _: blank_rows(table, rows))


def relations(scope: Scope) -> Iterator[Change]:
    """Nulls the rows of comparisons; rows that name a removed sample name its stand-in."""
    for group in scope.groups("relations"):
        yield from _pointing(scope, group, lambda table, rows, _: blank_rows(table, rows))


def ledgers(scope: Scope) -> Iterator[Change]:
    """The rows have failed in every decision."""
    for group in scope.groups("ledger"):
        yield from _pointing(scope, group, lambda table, rows, part: blank_ledger(table, part, rows))


def failures(scope: Scope) -> Iterator[Change]:
    """The rows are among the failures, without what they were before."""
    for group in scope.samples:
        below = f"failures/{group.removeprefix('signals/')}"
        for part in scope.parts(group):
            name = f"{below}/{part}{PARQUET}"
            yield Change((name,), partial(_fail, scope, name, group, part))


def samples(scope: Scope) -> Iterator[Change]:
    """The samples tables: after them nothing in the store tells who was removed."""
    for group in scope.samples:
        for part in scope.parts(group):
            yield _rewritten(scope, group, part, lambda table, rows, part: blank_samples(table, part, rows))


def references(scope: Scope) -> Iterator[Change]:
    """Reference sets that were drawn from the pool, and the `-images` beside them, without the samples."""
    for name in scope.folder.names("artefacts"):
        whole = f"artefacts/{name}"
        if not name.endswith(".npy") or "uid" not in (scope.store.read_array(whole).dtype.names or ()):
            continue
        beside = whole.replace(".npy", "-images.npy")
        both = (whole, beside) if scope.folder.exists(beside) else (whole,)
        if (uid_places(np.asarray(scope.store.read_array(whole)["uid"]), uid_pairs(scope.uids)) >= 0).any():
            yield Change(both, partial(_leave_out, scope, both))


def pages(scope: Scope, decisions: Collection[str]) -> Iterator[Change]:
    """Deletes reports and audits that may show the samples, and what else holds their embeddings.

    Indexes are made again by their command, the memory of continuous runs by their next batch.

    decisions: those over the removed rows.
    """
    folder = scope.folder
    for ledger in sorted(decisions):
        names = [f"report/{ledger}/{name}" for name in folder.names(f"report/{ledger}")]
        if shown := [name for name in names if folder.fs.isfile(folder.path(name))]:
            yield deletion(folder, shown)
        for step in folder.names(f"follow/{ledger}/memory"):
            below = f"follow/{ledger}/memory/{step}"
            yield deletion(folder, [f"{below}/{name}" for name in folder.names(below)])
    for draw in folder.names("audit"):
        if draw.rsplit("-", 2)[0] in decisions:
            yield from _audit(scope, f"audit/{draw}")
    for encoder in scope.groups("index"):
        for kind in folder.names(encoder):
            files = [f"{encoder}/{kind}/{name}" for name in folder.names(f"{encoder}/{kind}")]
            if files and _indexed(scope, f"{encoder}/{kind}/manifest.json"):
                yield deletion(folder, files)


def _audit(scope: Scope, draw: str) -> Iterator[Change]:
    """The page goes; the lists name the stand-in, so that what was answered still counts."""
    folder = scope.folder
    for name in folder.names(draw):
        file = f"{draw}/{name}"
        if name.endswith(".csv"):
            text = folder.read_bytes(file).decode()
            other = rename_listed(text, scope.uids)
            if other != text:
                yield Change((file,), partial(_write_text, folder, file, other))
        elif name.endswith(".html"):
            yield deletion(folder, [file])


def _indexed(scope: Scope, manifest: str) -> bool:
    """Whether an index holds a removed row; one that can't be read does."""
    if not scope.folder.exists(manifest):
        return True
    found = scope.folder.read_json(manifest)
    return any(item.get("part") in scope.places for item in found.get("parts", [{}]))


def rename_listed(text: str, names: Mapping[str, str]) -> str:
    """A CSV file with other uids, and keys, in the lines of some uids; itself where none is there."""
    lines = list(csv.reader(io.StringIO(text, newline="")))
    header = lines[0] if lines else []
    if "uid" not in header or not any(line[header.index("uid")] in names for line in lines[1:] if line):
        return text
    at = header.index("uid")
    for line in lines[1:]:
        if line and line[at] in names:
            line[at] = names[line[at]]
            if "key" in header:
                line[header.index("key")] = line[at]
    stream = io.StringIO(newline="")
    csv.writer(stream, lineterminator="\n").writerows(lines)
    return stream.getvalue()


def deletion(folder: Folder, names: Sequence[str]) -> Change:
    """Deletes these files."""

    def apply() -> None:
        for name in names:
            folder.remove(name)

    return Change(tuple(names), apply)


# --- one part

Blank = Callable[[pa.Table, Sequence[int], str], pa.Table]


def _rewritten(scope: Scope, group: str, part: str, blank: Blank) -> Change:
    """A part written again, with its marker and the arrays that the marker names."""
    marker = scope.store.done(group, part) or {}
    table_name = f"{group}/{part}{PARQUET}"
    arrays = [name for name in marker.get("files", {}) if name != table_name]

    def apply() -> None:
        rows = scope.places.get(part, ())
        table = scope.store.read_part(group, part)
        table = blank(table, rows, part)
        if group not in scope.samples:
            table = renamed(table, scope.uids)
        about = {name: value for name, value in marker.items() if name not in ("rows", "files")}
        if group in scope.samples:
            about |= failure_counts(table)
        extra = {name: blank_vectors(scope.store.read_array(name), rows) for name in arrays}
        scope.store.write_part(group, part, table, marker=about, extra=extra)

    return Change((*arrays, table_name, f"{group}/{part}{DONE}"), apply)


def _pointing(scope: Scope, group: str, blank: Blank) -> Iterator[Change]:
    """The parts of a group that hold removed rows, or rows that name them."""
    wanted = pa.array(list(scope.uids), pa.string())
    for part in done_parts(scope.folder, group):
        schema = _schema(scope.folder, f"{group}/{part}{PARQUET}")
        texts = [field.name for field in schema if pa.types.is_string(field.type)]
        if part in scope.places or (
            texts
            and any(
                pc.any(pc.is_in(column, value_set=wanted)).as_py()
                for column in scope.store.read_part(group, part, texts).columns
            )
        ):
            yield _rewritten(scope, group, part, blank)


def _fail(scope: Scope, name: str, group: str, part: str) -> None:
    there = None
    if scope.folder.exists(name):
        with scope.folder.open(name) as stream:
            there = pq.read_table(stream, use_threads=False)
    shard = (scope.store.done(group, part) or {})["shard"]
    table = failures_without(there, shard, part, scope.places[part])
    with scope.folder.commit(name) as path:
        pq.write_table(table.cast(FAILURES_SCHEMA), path)


def _leave_out(scope: Scope, names: Sequence[str]) -> None:
    """What lies beside the reference goes first: its uids say which rows."""
    reference = np.array(scope.store.read_array(names[0]))
    stays = uid_places(reference["uid"], uid_pairs(scope.uids)) < 0
    for name in names[1:]:
        beside = np.array(scope.store.read_array(name))
        if len(beside) == len(reference):
            scope.folder.write_array(name, beside[stays])
    scope.folder.write_array(names[0], reference[stays])


def _write_text(folder: Folder, name: str, text: str) -> None:
    with folder.commit(name) as path:
        path.write_text(text, encoding="utf-8", newline="")
