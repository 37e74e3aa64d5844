"""The record of a removal, and its steps: begun, rewritten, done."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from filters.core.errors import StoreError
from transforms.fingerprints import stream_fingerprint
from transforms.removal import changes, outputs
from transforms.removal.changes import Change, Scope
from transforms.removal.marks import FOLDER, KEY_FILE, Kind, Marks, write_marks
from transforms.storage import Folder, redact
from transforms.store import Store

RECORD_VERSION = 1


@dataclass(frozen=True)
class Removal:
    """What is to be removed, and who answers for it.

    Attributes:
        places: part -> its rows to remove, ascending.
        named: uids, URLs and `bytes_hash`es that must stay out from now on.
        counts: why -> how many of the rows; for the record.
    """

    by: str
    reason: str
    places: Mapping[str, Sequence[int]]
    named: Mapping[Kind, Collection[str]]
    counts: Mapping[str, int]


def remove(store: Store, removal: Removal) -> tuple[str, dict[str, Any]]:
    """Removes the samples; returns the record's name and content. The caller holds the store's lock.

    An earlier removal that was killed is finished first.
    Raises: StoreError where a file can't be read or written; what was begun then goes on with the
    next call of `finish_removals`. Nothing is begun where a curated tar is gone or damaged.
    """
    finish_removals(store)
    scope = Scope(store, removal.places)
    marks = Marks.opened(store)
    found = outputs.decisions(scope)
    record = {
        "curate_removal": RECORD_VERSION,
        "state": "begun",
        "by": removal.by,
        "reason": removal.reason,
        "begun": _now(),
        "counts": dict(removal.counts),
        "marks": {
            kind: sorted(marks.of(kind, value) for value in values) for kind, values in removal.named.items()
        },
        "places": {part: list(rows) for part, rows in sorted(removal.places.items())},
        "decisions": sorted(found),
        "curated": outputs.plan_curated(scope, found),
    }
    files: dict[str, Any] = {}
    for change in (*_dependents(scope, record), *changes.samples(scope)):
        files |= {name: {"before": checksum(store.folder, name)} for name in change.names}
    record["files"] = files
    name = f"{FOLDER}/{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{len(records(store)) + 1:04d}.json"
    store.folder.write_json(name, record)
    return name, _finish(store, name)


def finish_removals(store: Store) -> list[str]:
    """Finishes removals that were killed; returns their records' names. The caller holds the lock."""
    begun = [name for name, record in records(store).items() if record["state"] != "done"]
    for name in begun:
        _finish(store, name)
    return begun


def records(store: Store) -> dict[str, dict[str, Any]]:
    """Name -> record of every removal, the oldest first.

    Raises: StoreError for a record of another version.
    """
    found = {}
    for file in store.folder.names(FOLDER):
        name = f"{FOLDER}/{file}"
        if file.endswith(".json") and name != KEY_FILE:
            record = store.folder.read_json(name)
            if not isinstance(record, dict) or record.get("curate_removal") != RECORD_VERSION:
                where = redact(store.folder.url)
                msg = f"{where}/{name} is no record that this Curate reads: use the version that wrote it"
                raise StoreError(msg)
            found[name] = record
    return found


def checksum(folder: Folder, name: str) -> dict[str, object] | None:
    """Bytes and xxh3-128 of a file, as part markers say them; None where there is none."""
    if not folder.exists(name):
        return None
    with folder.open(name) as stream:
        digest, size = stream_fingerprint(stream)
    return {"bytes": size, "xxh3_128": digest}


def _finish(store: Store, name: str) -> dict[str, Any]:
    """Goes on with a removal from what its record says."""
    folder = store.folder
    record: dict[str, Any] = folder.read_json(name)
    known = records(store).values()
    write_marks(
        store, [(kind, mark) for one in known for kind, marks in one["marks"].items() for mark in marks]
    )
    scope = Scope(store, record["places"])
    if record["state"] == "begun":
        for change in _dependents(scope, record):
            change.apply()
        record["state"] = "samples"
        folder.write_json(name, record)
    for change in changes.samples(scope):
        change.apply()
    files = {file: {**told, "after": checksum(folder, file)} for file, told in record["files"].items()}
    record |= {"files": files, "state": "done", "done": _now()}
    folder.write_json(name, record)
    return record


def _dependents(scope: Scope, record: Mapping[str, Any]) -> Iterator[Change]:
    """Every change but those of the samples tables."""
    found = outputs.decisions(scope)
    yield from changes.uncommitted(scope)
    yield from changes.pages(scope, found)
    yield from changes.signals(scope)
    yield from changes.relations(scope)
    yield from changes.failures(scope)
    yield from changes.references(scope)
    yield from outputs.curated(scope, record["curated"])
    yield from outputs.subsets(scope)
    yield from changes.ledgers(scope)
    yield from outputs.manifests(scope, found)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
