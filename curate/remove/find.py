"""The samples of a store that somebody asks to remove, and all others that must go with them.

Asked for are uids, URLs, and what looks like an image; on request also the near duplicates that
decisions found: the sample that one is a copy of, and all that are copies of either. With these goes
every row that has the URL or the image bytes of one of them, and every row with the uid of any that
goes, since those stay out from now on: what is left is what reading the shards again would give.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.search.pictures import picture_of
from filters.core.catalogue import find_filter
from filters.core.errors import QueryError
from filters.core.uids import is_uid
from filters.drop_copies import DEFAULT_BITS
from transforms.decode import Picture
from transforms.failures import REMOVED
from transforms.hamming import hamming
from transforms.measures.content_hashes import ContentHashes
from transforms.measures.perceptual_hashes import codes_of, pdq_hashes
from transforms.relations.leaked import telling
from transforms.removal.changes import done_parts, groups_with
from transforms.removal.marks import Kind, Marks, true_rows
from transforms.samples import SCHEMA
from transforms.store import Store

MOST_BITS = DEFAULT_BITS["pdq"]
_CODE_BYTES = 32
_NAMED = 5  # unknown uids or URLs that a message names
Place = tuple[str, int]  # part and row


@dataclass(frozen=True)
class Asked:
    """What somebody asks to remove.

    Attributes:
        image: an encoded image; near_duplicates: whether those that decisions found go too.
    """

    uids: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    image: bytes | None = None
    near_duplicates: bool = False


@dataclass
class Found:
    """What goes.

    Attributes:
        why: place -> the first reason; named: what stays out; notes: what the user should know.
    """

    why: dict[Place, str] = field(default_factory=dict)
    named: dict[Kind, set[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def places(self) -> dict[str, list[int]]:
        """Part -> its rows, both in order."""
        found: dict[str, list[int]] = {}
        for part, row in sorted(self.why):
            found.setdefault(part, []).append(row)
        return found

    @property
    def counts(self) -> dict[str, int]:
        """Reason -> rows."""
        return dict(Counter(self.why.values()))

    def add(self, places: Collection[Place], why: str) -> None:
        """Adds places that are not there yet."""
        for place in places:
            self.why.setdefault(place, why)


def find_samples(store: Store, asked: Asked) -> Found:
    """The rows to remove; none where all that is asked for was removed before.

    Raises: QueryError where nothing is asked for, a uid or URL is unknown, no sample looks like the
    image, or the store can't tell.
    """
    if not (asked.uids or asked.urls or asked.image is not None):
        msg = "name what to remove: --uid UID, --url URL or --like IMAGE"
        raise QueryError(msg)
    samples = groups_with(store.folder, SCHEMA.names)
    marks, found = Marks.load(store), Found()
    uids = [_checked(uid) for uid in asked.uids]
    _add_named(store, samples, marks, found, ("uid", uids))
    _add_named(store, samples, marks, found, ("url", asked.urls))
    if asked.image is not None:
        _add_alike(store, marks, found, asked.image)
    if asked.near_duplicates and found.why:
        _add_near_duplicates(store, samples, found)
    if found.why:
        _add_same(store, samples, found)
    return found


def _checked(uid: str) -> str:
    text = uid.strip().lower()
    if not is_uid(text):
        msg = f"{uid!r} is no uid (32 hex digits): `curate explain STORE KEY` tells that of a key"
        raise QueryError(msg)
    return text


def _add_named(
    store: Store,
    samples: Sequence[str],
    marks: Marks | None,
    found: Found,
    wanted: tuple[Kind, Sequence[str]],
) -> None:
    """The rows with these uids or URLs; those that are unknown and were not removed before are refused."""
    kind, values = wanted
    if not values:
        return
    there = rows_with(store, samples, kind, values)
    known = values_at(store, samples, kind, there)
    gone = {value for value in values if value not in known and marks is not None and marks.has(kind, value)}
    unknown = [value for value in values if value not in known and value not in gone]
    if unknown:
        more = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
        msg = (
            f"no sample of this store has the {kind} {', '.join(unknown[:_NAMED])}{more}; nothing was "
            "removed. Find samples by `curate query`, which has uid and url in its view samples"
        )
        raise QueryError(msg)
    found.notes += [f"{kind} {value} was removed before" for value in sorted(gone)]
    found.add(there, kind)


def rows_with(store: Store, groups: Sequence[str], column: str, values: Collection[str]) -> set[Place]:
    """The places of the rows of some groups that have one of these values."""
    wanted = pa.array(sorted(values), pa.string())
    found: set[Place] = set()
    for group, part in _parts(store, groups):
        table = store.read_part(group, part, [column, "failure"] if column in SCHEMA.names else [column])
        hit = pc.is_in(table[column], value_set=wanted)
        if "failure" in table.column_names:
            gone = pc.equal(table["failure"].cast(pa.string()), REMOVED)
            hit = pc.and_not(hit, pc.fill_null(gone, fill_value=False))
        found.update((part, row) for row in true_rows(hit))
    return found


def values_at(store: Store, groups: Sequence[str], column: str, places: Collection[Place]) -> set[str]:
    """The values of a column at these places, in all groups; nulls and empty texts left out."""
    rows: dict[str, list[int]] = {}
    for part, row in sorted(places):
        rows.setdefault(part, []).append(row)
    found: set[str] = set()
    for group, part in _parts(store, groups):
        if part in rows:
            column_there = store.read_part(group, part, [column])[column]
            found.update(value for value in column_there.take(pa.array(rows[part])).to_pylist() if value)
    return found


def _parts(store: Store, groups: Sequence[str]) -> Iterator[tuple[str, str]]:
    for group in groups:
        for part in done_parts(store.folder, group):
            yield group, part


# --- what looks like an image


def _add_alike(store: Store, marks: Marks | None, found: Found, content: bytes) -> None:
    looks = groups_with(store.folder, ("pdq_hash", "pdq_quality"))
    hashes = groups_with(store.folder, ("bytes_hash", "pixels_hash"))
    if not looks and not hashes:
        msg = "this store has no hashes of pictures, as it is over metadata: give --uid or --url"
        raise QueryError(msg)
    rgb = picture_of(content)
    encoded, pixels = ContentHashes().meter("").prepare(Picture(rgb, content, "", "RGB", 1), "")
    places = rows_with(store, hashes, "bytes_hash", [encoded]) | rows_with(
        store, hashes, "pixels_hash", [pixels]
    )
    variants, quality = pdq_hashes(rgb)
    if not looks:
        found.notes.append(
            "no perceptual hashes are measured: only equal pictures are found, not similar ones"
        )
    elif telling(variants[:1], np.array([quality]))[0]:
        places |= _within(store, looks, variants)
    else:
        found.notes.append("the image has too little to see: only equal pictures are found, not similar ones")
    if not places and not (marks is not None and marks.has("image", encoded)):
        msg = f"no sample of this store is equal to the image or within {MOST_BITS} bits of its PDQ"
        raise QueryError(msg)
    if not places:
        found.notes.append("the image was removed before")
    found.add(places, "like")
    found.named.setdefault("image", set()).add(encoded)


def _within(store: Store, groups: Sequence[str], variants: np.ndarray) -> set[Place]:
    """The places whose PDQ is near that of the image or of one of its flips and turns."""
    found: set[Place] = set()
    for group, part in _parts(store, groups):
        table = store.read_part(group, part, ["pdq_hash", "pdq_quality"])
        rows = true_rows(table["pdq_hash"].is_valid())
        table = table.take(pa.array(rows, pa.int64()))
        codes = codes_of(table["pdq_hash"], _CODE_BYTES)
        bits = np.min([hamming(codes, one) for one in variants], axis=0)
        near = (bits <= MOST_BITS) & telling(codes, table["pdq_quality"].to_numpy())
        found.update((part, rows[at]) for at in np.flatnonzero(near))
    return found


# --- what goes with it


def _add_near_duplicates(store: Store, samples: Sequence[str], found: Found) -> None:
    ledgers = [f"ledger/{name}" for name in store.folder.names("ledger")]
    if not any(_finds_copies(store, group) for group in ledgers):
        msg = (
            "no decision of this store has looked for duplicates: run a recipe with drop_copies or "
            "drop_near_duplicates first, or leave --near-duplicates out"
        )
        raise QueryError(msg)
    known = values_at(store, samples, "uid", found.why)
    newest = set(known)
    while newest:
        wanted = pa.array(sorted(newest), pa.string())
        newest = set()
        for group, part in _parts(store, ledgers):
            table = store.read_part(group, part, ["uid", "duplicate_of"])
            table = table.filter(table["duplicate_of"].is_valid())
            near = pc.or_(*(pc.is_in(column, value_set=wanted) for column in table.columns))
            newest.update(uid for column in table.filter(near).columns for uid in column.to_pylist())
        newest -= known
        known |= newest
    found.add(rows_with(store, samples, "uid", known), "near duplicate")


def _finds_copies(store: Store, ledger: str) -> bool:
    name = f"{ledger}/manifest.json"
    if not store.folder.exists(name):
        return False
    filters = store.folder.read_json(name)["recipe"]["filters"]
    return any("duplicate_of" in find_filter(item["filter"]).relation_reads for item in filters)


def _add_same(store: Store, samples: Sequence[str], found: Found) -> None:
    """Every row that has a URL or image of those found so far, and every row with a uid of any of them."""
    hashes = groups_with(store.folder, ("bytes_hash",))
    asked = set(found.why)
    columns: Mapping[Kind, tuple[Sequence[str], str]] = {
        "url": (samples, "url"),
        "image": (hashes, "bytes_hash"),
    }
    for kind, (groups, column) in columns.items():
        found.named.setdefault(kind, set()).update(values_at(store, groups, column, asked))
        found.add(rows_with(store, groups, column, found.named[kind]), f"same {kind}")
    found.named["uid"] = values_at(store, samples, "uid", found.why)
    found.add(rows_with(store, samples, "uid", found.named["uid"]), "same uid")
