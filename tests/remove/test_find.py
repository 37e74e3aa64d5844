"""Which samples are meant, what goes with them, and what is refused."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest
from PIL import Image

from curate.remove.find import Asked, Found, find_samples
from filters.core.errors import QueryError
from tests.pools import metadata_shard, photo, sample, write_tar
from tests.remove.conftest import (
    ANOTHER,
    KEY,
    LARGER,
    PLAIN,
    SECRETS,
    TWIN,
    UID,
    URL,
    private,
    take,
    uid_of,
    zebra,
)
from tests.remove.looking import files_with
from tests.running import ask, curate
from transforms.store import Store


def found_in(store: Path, asked: Asked) -> Found:
    return find_samples(Store.at(str(store)), asked)


def keys(store: Path, found: Found) -> dict[str, str]:
    """Key -> why it goes."""
    rows = ask(store, "SELECT key, shard, row FROM samples")
    place = {(Path(row["shard"]).stem, row["row"]): row["key"] for row in rows}
    return {place[part.rpartition("-")[0], row]: why for (part, row), why in found.why.items()}


def key(number: int) -> str:
    return f"k{number:05d}"


WITH_SAME = {KEY: "uid", key(TWIN): "same image", key(ANOTHER): "same url"}


def test_a_uid_takes_every_row_of_its_url_and_image_with_it(untouched: Path) -> None:
    found = found_in(untouched, Asked((f" {UID.upper()}",)))
    assert keys(untouched, found) == WITH_SAME
    assert found.counts == {"uid": 1, "same url": 1, "same image": 1}
    assert found.named["url"] == {URL}
    # Of what only goes with it the uid stays out, but not its own URL or image.
    assert found.named["uid"] == {UID, uid_of(TWIN), uid_of(ANOTHER)}
    assert len(found.named["image"]) == 1
    assert found.notes == []


def test_a_url_takes_all_its_samples_and_their_images(untouched: Path) -> None:
    found = found_in(untouched, Asked(urls=(URL,)))
    assert keys(untouched, found) == {KEY: "url", key(ANOTHER): "url", key(TWIN): "same image"}


def test_near_duplicates_are_what_decisions_found_in_both_directions(untouched: Path) -> None:
    found = found_in(untouched, Asked((UID,), near_duplicates=True))
    assert keys(untouched, found) == {**WITH_SAME, key(TWIN): "near duplicate", key(LARGER): "near duplicate"}
    copy = found_in(untouched, Asked((uid_of(LARGER),), near_duplicates=True))
    assert keys(untouched, copy)[KEY] == "near duplicate"
    assert keys(untouched, copy)[key(TWIN)] == "near duplicate"


@pytest.mark.parametrize("turn", [None, Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_90])
def test_an_image_finds_what_looks_like_it_also_turned(untouched: Path, turn: Image.Transpose | None) -> None:
    picture = Image.open(io.BytesIO(zebra())).copy()
    picture = picture if turn is None else picture.transpose(turn)
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    found = found_in(untouched, Asked(image=stream.getvalue()))
    alike = {name for name, why in keys(untouched, found).items() if why == "like"}
    assert alike >= {KEY, key(TWIN)}
    assert (key(LARGER) in alike) == (turn is None)
    assert not alike & {key(number) for number in range(21)}
    assert len(found.named["image"]) >= 2  # that of the file too, which no sample has


def test_without_perceptual_hashes_only_equal_pictures_are_found(plain: Path) -> None:
    stream = io.BytesIO()
    Image.open(io.BytesIO(zebra())).save(stream, "PNG")
    found = found_in(plain, Asked(image=stream.getvalue()))
    assert {name for name, why in keys(plain, found).items() if why == "like"} == {KEY, key(TWIN)}
    assert found.notes == [
        "no perceptual hashes are measured: only equal pictures are found, not similar ones"
    ]


def test_a_flat_image_finds_only_equal_ones(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (64, 64), "white").save(stream, "PNG")
    members = [*sample("a", stream.getvalue(), "white", extension="png"), *sample("b", photo(1), "not white")]
    write_tar(tmp_path / "pool" / "0.tar", members)
    text = PLAIN.replace("filters:", "measures: {perceptual_hashes: {}}\nfilters:")
    curate(text, tmp_path / "pool", tmp_path / "store")
    found = found_in(tmp_path / "store", Asked(image=stream.getvalue()))
    assert keys(tmp_path / "store", found) == {"a": "like"}
    assert "too little to see" in found.notes[0]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Asked(), "name what to remove: --uid UID, --url URL or --like IMAGE"),
        (Asked(("0" * 32, UID)), f"no sample of this store has the uid {'0' * 32}; nothing was removed"),
        (Asked(("violetkey",)), "'violetkey' is no uid"),
        (Asked(urls=("http://elsewhere",)), "has the url http://elsewhere; nothing"),
        (Asked(tuple(f"{at:032x}" for at in range(8))), "and 3 more; nothing"),
        (Asked(image=photo(77)), "no sample of this store is equal to the image or within 31 bits"),
        (Asked(image=b"<html>"), "not_an_image"),
    ],
)
def test_what_is_unknown_is_refused(untouched: Path, asked: Asked, said: str) -> None:
    with pytest.raises(QueryError) as caught:
        found_in(untouched, asked)
    assert said in str(caught.value)


def test_shards_without_rows_or_with_broken_ones_only_are_no_obstacle(tmp_path: Path) -> None:
    write_tar(tmp_path / "pool" / "0.tar", [])
    write_tar(tmp_path / "pool" / "1.tar", sample("broken", b"", "no picture here"))
    write_tar(tmp_path / "pool" / "2.tar", private())
    text = PLAIN.replace("filters:", "measures: {perceptual_hashes: {}}\nfilters:\n  - drop_copies: pdq")
    text += "max_failed_fraction: 1\n"
    curate(text, tmp_path / "pool", tmp_path / "store")
    take(tmp_path / "store", Asked(image=zebra(), near_duplicates=True))
    assert files_with(tmp_path / "store", *SECRETS) == []
    shutil.rmtree(tmp_path / "store" / "signals")
    curate(text, tmp_path / "pool", tmp_path / "store")
    assert [row["failure"] for row in ask(tmp_path / "store", "FROM samples")] == ["zero_bytes", "removed"]


def test_near_duplicates_need_a_decision_that_looked_for_them(plain: Path) -> None:
    with pytest.raises(QueryError, match="no decision of this store has looked for duplicates: run"):
        found_in(plain, Asked((UID,), near_duplicates=True))


def test_a_store_over_metadata_has_no_pictures_to_compare(tmp_path: Path) -> None:
    metadata_shard(tmp_path / "pool" / "0.parquet", [{}])
    text = PLAIN.replace("retry_seconds", "format: datacomp, retry_seconds")
    curate(text, tmp_path / "pool", tmp_path / "store")
    with pytest.raises(QueryError, match="no hashes of pictures, as it is over metadata"):
        found_in(tmp_path / "store", Asked(image=photo(1)))


def test_what_was_removed_before_is_told_and_not_unknown(plain: Path, tmp_path: Path) -> None:
    store = Path(shutil.copytree(plain, tmp_path / "store"))
    take(store)
    for asked in (Asked((UID,)), Asked(urls=(URL,)), Asked(image=zebra())):
        found = found_in(store, asked)
        assert found.why == {}
        assert "removed before" in found.notes[-1]
    both = found_in(store, Asked((UID, uid_of(3))))
    assert keys(store, both) == {key(3): "uid"}
    # The stand-in names a row from which nothing is left to remove.
    (row,) = ask(store, "SELECT uid FROM samples WHERE failure = 'removed' LIMIT 1")
    with pytest.raises(QueryError, match="no sample of this store has the uid"):
        found_in(store, Asked((row["uid"],)))


def test_an_empty_store_knows_no_sample(tmp_path: Path) -> None:
    store = Store.at(str(tmp_path / "store"))
    store.prepare()
    with pytest.raises(QueryError, match="no sample of this store"):
        find_samples(store, Asked((UID,)))
