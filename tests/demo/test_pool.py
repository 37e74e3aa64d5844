"""The demonstration pool: the same bytes every time, and every planted defect is what truth.csv says."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections import Counter
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image, ImageOps, UnidentifiedImageError

from curate.demo.captions import KINDS, PLURALS
from curate.demo.defects import BOMB_SIDE_PIXELS, DEFECTS
from curate.demo.pool import Planted, write_pool

if TYPE_CHECKING:
    from pathlib import Path

SAMPLES = 240
SHARDS = 3


@dataclass
class Row:
    """One sample as a reader finds it: consecutive members with the same key."""

    key: str
    members: dict[str, bytes] = field(default_factory=dict)

    @property
    def caption(self) -> str:
        """Return the text member's words."""
        return self.members["txt"].decode()

    @property
    def facts(self) -> dict[str, str]:
        """Return the json member."""
        loaded: dict[str, str] = json.loads(self.members["json"])
        return loaded

    def picture(self) -> Image.Image:
        """Return the decoded image."""
        image = Image.open(io.BytesIO(self.members["jpg"]))
        image.load()
        return image


def read_rows(path: Path) -> list[Row]:
    """Return the samples of a shard up to where it can be read."""
    pairs: list[tuple[str, str, bytes]] = []
    with tarfile.open(path) as tar:
        try:
            for member in tar:
                content = tar.extractfile(member)
                assert content is not None
                data = content.read()
                if len(data) < member.size:
                    break
                key, _, extension = member.name.partition(".")
                pairs.append((key, extension, data))
        except tarfile.ReadError:
            pass
    return [
        Row(key, {extension: data for _, extension, data in members})
        for key, members in groupby(pairs, key=lambda pair: pair[0])
    ]


@dataclass(frozen=True)
class Pool:
    """A written pool, its truth and its rows."""

    folder: Path
    truth: list[Planted]
    rows: dict[tuple[str, int], Row]

    def planted(self, defect: str) -> list[tuple[Planted, Row]]:
        """Return the samples with this defect, at least one."""
        found = [(each, self.rows[each.shard, each.row]) for each in self.truth if each.defect == defect]
        assert found
        return found

    def original(self, planted: Planted) -> Row:
        """Return the clean row that a copy was made of."""
        first = next(each for each in self.truth if each.key == planted.original_key)
        assert first.defect == "clean"
        return self.rows[first.shard, first.row]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """Write one pool for all tests."""
    folder = tmp_path_factory.mktemp("pool")
    truth = write_pool(folder, samples=SAMPLES, shards=SHARDS, seed=5)
    rows = {
        (path.name, place): row
        for path in sorted((folder / "shards").glob("*.tar"))
        for place, row in enumerate(read_rows(path))
    }
    return Pool(folder, truth, rows)


def pool_bytes(folder: Path) -> dict[str, bytes]:
    """Return every file's content by its path in the folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def brightness(image: Image.Image) -> np.ndarray:
    """Return (64, 64) float64 gray levels, for comparing pictures of different sizes."""
    return np.asarray(image.convert("L").resize((64, 64), Image.Resampling.BICUBIC)).astype(np.float64)


def test_the_same_seed_gives_the_same_bytes(pool: Pool, tmp_path: Path) -> None:
    """Shards, statistics and truth repeat exactly."""
    write_pool(tmp_path, samples=SAMPLES, shards=SHARDS, seed=5)
    assert pool_bytes(tmp_path) == pool_bytes(pool.folder)


def test_another_seed_gives_other_bytes(tmp_path: Path) -> None:
    """No shard is the same under two seeds."""
    for seed in (1, 2):
        write_pool(tmp_path / str(seed), samples=20, shards=1, seed=seed, defects=())
    first, second = pool_bytes(tmp_path / "1"), pool_bytes(tmp_path / "2")
    assert first["shards/00000.tar"] != second["shards/00000.tar"]


def test_files_are_the_img2dataset_layout(pool: Pool) -> None:
    """Five-digit shards with their statistics, and the truth beside them."""
    names = [f"shards/{shard:05d}{end}" for shard in range(SHARDS) for end in (".tar", "_stats.json")]
    assert sorted(pool_bytes(pool.folder)) == sorted([*names, "truth.csv"])
    stats = [json.loads(path.read_text()) for path in sorted((pool.folder / "shards").glob("*.json"))]
    assert sum(each["count"] for each in stats) == SAMPLES
    assert set(stats[0]) == {"count", "successes", "failed_to_download", "failed_to_resize"}


def test_members_carry_no_time_or_owner(pool: Pool) -> None:
    """Headers are the same on every machine."""
    with tarfile.open(pool.folder / "shards" / "00000.tar") as tar:
        assert {(member.mtime, member.uid, member.gid, member.mode) for member in tar} == {(0, 0, 0, 0o644)}


def test_truth_has_one_line_per_sample_and_equals_the_answer(pool: Pool) -> None:
    """The csv holds exactly what write_pool returns."""
    with (pool.folder / "truth.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == SAMPLES
    assert [Planted(**{**line, "row": int(line["row"])}) for line in lines] == pool.truth  # type: ignore[arg-type]


def test_row_numbers_are_those_a_reader_counts(pool: Pool) -> None:
    """Each true row has its key; every row is told of; only the cut one has none."""
    told = {(each.shard, each.row): each.key for each in pool.truth if each.row >= 0}
    assert told == {place: row.key for place, row in pool.rows.items()}
    assert [each.defect for each in pool.truth if each.row < 0] == ["truncated_tar"]


def test_counts_follow_the_table() -> None:
    """At 1 200 samples each repeatable defect is planted 8 times or more, and 60 to 70 % are clean."""
    counts = {name: defect.per_1200 for name, defect in DEFECTS.items()}
    assert all(count >= 8 or DEFECTS[name].once for name, count in counts.items())
    assert 0.6 < 1 - sum(counts.values()) / 1200 < 0.7
    assert all(defect.description and "\n" not in defect.description for defect in DEFECTS.values())


def test_every_defect_is_planted_in_proportion(pool: Pool) -> None:
    """A smaller pool holds each defect, at least once."""
    counts = Counter(each.defect for each in pool.truth)
    for name, defect in DEFECTS.items():
        assert counts[name] == (1 if defect.once else max(1, round(defect.per_1200 * SAMPLES / 1200)))


def test_clean_samples_are_whole_and_their_uids_unique(pool: Pool) -> None:
    """Picture, text and json agree; all uids are 32 hex digits and differ."""
    for _, row in pool.planted("clean"):
        assert set(row.members) == {"jpg", "txt", "json"}
        assert row.picture().format == "JPEG"
        assert row.facts["caption"] == row.caption
        assert row.facts["key"] == row.key
        assert row.facts["concept"] in row.caption or PLURALS[row.facts["concept"]] in row.caption
    uids = [row.facts["uid"] for row in pool.rows.values()]
    assert len(set(uids)) == len(uids)
    assert all(len(uid) == 32 and set(uid) <= set("0123456789abcdef") for uid in uids)


def test_mismatched_captions_name_no_shown_main_object(pool: Pool) -> None:
    """The scene's concept is not what the caption is about."""
    for _, row in pool.planted("mismatched_caption"):
        named = [kind for kind in KINDS if f" {kind}" in row.caption or f" {PLURALS[kind]}" in row.caption]
        first = min(named, key=row.caption.index)
        assert first != row.facts["concept"]


def test_hard_mismatches_name_the_main_object(pool: Pool) -> None:
    """Only an attribute is wrong."""
    for _, row in pool.planted("hard_mismatch"):
        assert row.facts["concept"] in row.caption or PLURALS[row.facts["concept"]] in row.caption


def test_exact_copies_repeat_bytes_and_caption_under_another_key_and_uid(pool: Pool) -> None:
    """Nothing but key, uid and url differs from the earlier sample."""
    for planted, row in pool.planted("exact_copy"):
        original = pool.original(planted)
        assert planted.original_key < planted.key
        assert row.members["jpg"] == original.members["jpg"]
        assert row.members["txt"] == original.members["txt"]
        assert row.facts["uid"] != original.facts["uid"]


@pytest.mark.parametrize("defect", ["reencoded_copy", "resized_copy", "cropped_copy", "flipped_copy"])
def test_copies_show_the_original_in_other_bytes(pool: Pool, defect: str) -> None:
    """Undoing the change gives nearly the original's pixels."""
    for planted, row in pool.planted(defect):
        original, copy = pool.original(planted).picture(), row.picture()
        assert planted.original_key < planted.key
        assert row.members["jpg"] != pool.original(planted).members["jpg"]
        if defect == "flipped_copy":
            copy = ImageOps.mirror(copy)
        if defect == "cropped_copy":
            assert copy.width == round(original.width * 0.9)
            left, top = (original.width - copy.width) // 2, (original.height - copy.height) // 2
            original = original.crop((left, top, left + copy.width, top + copy.height))
        assert (copy.size != original.size) == (defect == "resized_copy")
        assert np.abs(brightness(copy) - brightness(original)).mean() < 6


def test_boilerplate_is_caught_by_length_or_by_list(pool: Pool) -> None:
    """Captions of three words and more are left to the blocklist."""
    for planted, row in pool.planted("boilerplate_caption"):
        long_enough = len(row.caption.split()) >= 3
        assert planted.expected_code == ("caption_blocklist" if long_enough else "caption_words")


def test_foreign_captions_are_utf8_without_english_articles(pool: Pool) -> None:
    """All planted languages decode."""
    for _, row in pool.planted("wrong_language"):
        assert not {"the", "of", "with", "there"} & set(row.caption.lower().split())


def test_image_shapes_break_their_bounds(pool: Pool) -> None:
    """Tiny is under 32 pixels, extreme over 4, blank nearly one colour."""
    assert all(min(row.picture().size) < 32 for _, row in pool.planted("tiny_image"))
    for _, row in pool.planted("extreme_aspect"):
        short, long = sorted(row.picture().size)
        assert long / short > 4
        assert short >= 32
    assert all(np.asarray(row.picture()).std(axis=(0, 1)).max() < 1 for _, row in pool.planted("blank_image"))


def test_truncated_jpegs_open_but_do_not_load(pool: Pool) -> None:
    """The header is whole, the pixels are not."""
    for _, row in pool.planted("truncated_jpeg"):
        image = Image.open(io.BytesIO(row.members["jpg"]))
        with pytest.raises(OSError, match="truncated"):
            image.load()


@pytest.mark.parametrize("defect", ["html_named_jpg", "zero_bytes"])
def test_what_is_not_an_image_does_not_open(pool: Pool, defect: str) -> None:
    """Pillow finds no format in it."""
    for _, row in pool.planted(defect):
        assert (len(row.members["jpg"]) == 0) == (defect == "zero_bytes")
        with pytest.raises(UnidentifiedImageError):
            Image.open(io.BytesIO(row.members["jpg"]))


def test_wrong_extensions_hold_png_files(pool: Pool) -> None:
    """The bytes are a good PNG under a .jpg name."""
    assert all(row.picture().format == "PNG" for _, row in pool.planted("wrong_extension"))


def test_bombs_are_small_files_of_huge_pictures(pool: Pool) -> None:
    """Pillow refuses them by their declared size."""
    for _, row in pool.planted("decompression_bomb"):
        assert len(row.members["png"]) < 200_000
        assert int.from_bytes(row.members["png"][16:20], "big") == BOMB_SIDE_PIXELS
        with pytest.raises(Image.DecompressionBombError):
            Image.open(io.BytesIO(row.members["png"]))


def test_missing_members_are_missing(pool: Pool) -> None:
    """No caption anywhere, or no image."""
    for _, row in pool.planted("missing_caption"):
        assert set(row.members) == {"jpg", "json"}
        assert "caption" not in row.facts
    assert all(set(row.members) == {"txt", "json"} for _, row in pool.planted("missing_image"))


def test_invalid_utf8_has_no_other_caption(pool: Pool) -> None:
    """The text does not decode, and the json has none."""
    for _, row in pool.planted("invalid_utf8"):
        assert "caption" not in row.facts
        with pytest.raises(UnicodeDecodeError):
            row.members["txt"].decode()


def test_the_later_of_two_equal_keys_is_the_planted_one(pool: Pool) -> None:
    """Both are good pictures in one shard, not next to each other."""
    for planted, row in pool.planted("duplicate_key"):
        earlier = [
            place
            for (shard, place), each in pool.rows.items()
            if (shard, each.key) == (planted.shard, row.key)
        ]
        assert len(earlier) == 2
        assert planted.row == max(earlier)
        assert planted.row - min(earlier) > 1
        assert planted.original_key == planted.key
        assert row.picture().format == "JPEG"


def test_the_last_shard_ends_inside_its_last_image(pool: Pool) -> None:
    """The last header is there, its content is not."""
    path = pool.folder / "shards" / f"{SHARDS - 1:05d}.tar"
    with tarfile.open(path) as tar:
        last = None
        try:
            for member in tar:
                last = member
        except tarfile.ReadError:
            pass
    assert last is not None
    assert last.name == f"{pool.truth[-1].key}.jpg"
    assert last.offset_data < path.stat().st_size < last.offset_data + last.size


def test_a_pool_without_defects_is_clean(tmp_path: Path) -> None:
    """Choosing no defect gives only samples to keep."""
    truth = write_pool(tmp_path, samples=6, shards=2, defects=())
    assert {(each.defect, each.expected, each.expected_code) for each in truth} == {("clean", "keep", "")}
    assert [row.key for row in read_rows(tmp_path / "shards" / "00001.tar")] == [
        "000010000",
        "000010001",
        "000010002",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 10}, "too few"),
        ({"samples": 3, "shards": 4}, "each shard holds"),
        ({"samples": 60, "defects": ("blurred",)}, "unknown defects"),
    ],
)
def test_impossible_pools_are_refused(tmp_path: Path, options: dict[str, object], message: str) -> None:
    """The message says what does not fit."""
    with pytest.raises(ValueError, match=message):
        write_pool(tmp_path, **options)  # type: ignore[arg-type]
