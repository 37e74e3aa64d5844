"""What models are judged on: scenes of the demo's world, or the pairs of clean shards."""

from __future__ import annotations

from pathlib import Path

import pytest

from curate.evaluate import held_out
from curate.evaluate.held_out import clean_pairs, find_held_out, scenes
from filters.core.errors import PoolError, RecipeError
from tests.pools import broken_pool, photo, sample, write_tar


def test_scenes_are_the_same_each_time_and_true() -> None:
    found = scenes(12, 32)
    assert found.pixels.shape == (12, 32, 32, 3)
    assert found.captions == scenes(12, 32).captions
    assert len(set(found.uids)) == 12


def test_pairs_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    broken_pool(tmp_path)
    found = clean_pairs([str(tmp_path)], 32, {})
    assert {"a good picture of something", "the first of two twins"} <= set(found.captions)
    for words in ("an empty file here", "a picture that was cut", "the second of two twins"):
        assert words not in found.captions
    assert "this one is cut off with the tar" not in found.captions


def test_no_more_pairs_are_read_than_are_judged_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = [part for at in range(9) for part in sample(f"{at:04d}", photo(at), f"picture number {at}")]
    write_tar(tmp_path / "0.tar", members)
    monkeypatch.setattr(held_out, "MOST_PAIRS", 4)
    assert len(clean_pairs([str(tmp_path)], 32, {})) == 4


def test_a_pool_without_pairs_is_refused(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", sample("a", None, "no picture"))
    with pytest.raises(PoolError, match="no pair can be read from it"):
        find_held_out([str(tmp_path)], None, 32, {})
    with pytest.raises(PoolError, match=r"absent\.tar does not exist or is empty"):
        find_held_out([str(tmp_path / "absent.tar")], None, 32, {})


def test_labels_name_the_classes_of_a_user(tmp_path: Path) -> None:
    captions = ["a dog in the snow", "two cats", "a dog and a cat", "nothing at all"]
    members = [part for at, text in enumerate(captions) for part in sample(f"{at}", photo(at), text)]
    write_tar(tmp_path / "0.tar", members)
    (tmp_path / "pets.yaml").write_text("concepts: [dog, cat]\n")
    found = find_held_out([str(tmp_path / "0.tar")], str(tmp_path / "pets.yaml"), 32, {})
    assert found.labelled == 2
    assert len(found.prompts) == 2
    assert find_held_out([str(tmp_path / "0.tar")], None, 32, {}).labelled == 0
    with pytest.raises(RecipeError, match="none"):
        find_held_out([str(tmp_path / "0.tar")], str(tmp_path / "none.yaml"), 32, {})


def test_other_pairs_or_classes_have_another_name(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", sample("a", photo(1), "a dog"))
    write_tar(tmp_path / "1.tar", sample("a", photo(2), "a dog"))
    (tmp_path / "pets.yaml").write_text("concepts: [dog, cat]\n")
    labels = [None, str(tmp_path / "pets.yaml")]
    names = {
        find_held_out([str(tmp_path / shard)], some, 32, {}).fingerprint
        for shard in ("0.tar", "1.tar")
        for some in labels
    }
    assert len(names) == 4
