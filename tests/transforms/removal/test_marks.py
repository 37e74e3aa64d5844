"""How removed samples are known again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import xxhash

from transforms.pool import RawSample
from transforms.removal import Marks
from transforms.removal.marks import Veil, stand_in, write_marks
from transforms.store import Store

UID = "00c0ffee" * 4


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.at(str(tmp_path))


def marked(store: Store, kind: str, value: str) -> Marks:
    marks = Marks.opened(store)
    write_marks(store, [(kind, marks.of(kind, value))])  # type: ignore[arg-type]
    found = Marks.load(store)
    assert found is not None
    return found


def raw(**how: object) -> RawSample:
    return RawSample(row=4, key="k", offset=512, size=1024, **how)  # type: ignore[arg-type]


def test_a_mark_is_of_its_kind_and_of_its_store(store: Store, tmp_path: Path) -> None:
    marks = marked(store, "uid", UID)
    assert marks.has("uid", UID)
    assert not marks.has("url", UID)
    assert not marks.has("uid", None)
    other = Marks.opened(Store.at(str(tmp_path / "other")))
    assert other.of("uid", UID) != marks.of("uid", UID)
    assert UID not in (tmp_path / "removed" / "marks.parquet").read_bytes().decode("latin-1")
    assert marks.key.hex() not in repr(marks)


def test_the_key_is_made_once(store: Store) -> None:
    assert Marks.load(store) is None
    assert Marks.opened(store) == Marks.opened(store) == Marks.load(store)


@pytest.mark.parametrize(
    ("kind", "value", "sample"),
    [
        ("uid", UID, raw(metadata=json.dumps({"uid": UID.upper()}).encode())),
        ("uid", UID, raw(metadata=json.dumps({"uid": UID}).encode(), failure="duplicate_key")),
        ("uid", xxhash.xxh3_128_hexdigest(b"pixelswords"), raw(image=b"pixels", caption=b"words")),
        ("url", "http://x/\\udcff", raw(metadata=b'{"url": "http://x/\\udcff"}')),
        ("image", xxhash.xxh3_128_hexdigest(b"pixels"), raw(image=b"pixels", caption=b"other words")),
        ("image", xxhash.xxh3_128_hexdigest(b"pixels"), raw(image=b"pixels", metadata=b"not json")),
    ],
)
def test_a_sample_is_known_by_what_it_brings(store: Store, kind: str, value: str, sample: RawSample) -> None:
    veil = Veil.over(store, "signals/s", "p", marked(store, kind, value), measured=False)
    assert veil is not None
    found = veil(sample)
    assert (found.row, found.key, found.failure, found.detail) == (4, stand_in("p", 4), "removed", "")
    assert (found.image, found.caption, found.offset, found.size, found.image_offset) == (
        None,
        None,
        -1,
        -1,
        -1,
    )
    assert json.loads(found.metadata or b"") == {"uid": stand_in("p", 4)}


@pytest.mark.parametrize("sample", [raw(), raw(image=b""), raw(image=b"others", metadata=b'{"url": 7}')])
def test_other_samples_pass_as_they_are(store: Store, sample: RawSample) -> None:
    empty = xxhash.xxh3_128_hexdigest(b"")
    veil = Veil.over(store, "signals/s", "p", marked(store, "image", empty), measured=False)
    assert veil is not None
    assert veil(sample) is sample


def test_without_marks_there_is_nothing_to_look_through(store: Store) -> None:
    assert Veil.over(store, "signals/s", "p", None, measured=True) is None


def test_marks_are_written_in_one_order(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "removed" / "marks.parquet"
    Marks.opened(store)
    write_marks(store, [("url", "b"), ("uid", "a"), ("url", "b")])
    first = path.read_bytes()
    write_marks(store, [("uid", "a"), ("url", "b")])
    assert path.read_bytes() == first
    write_marks(store, [])
    assert Marks.opened(store).known == {"uid": frozenset(), "url": frozenset(), "image": frozenset()}
