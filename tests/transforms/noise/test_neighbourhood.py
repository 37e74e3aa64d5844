from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from transforms.clustering import Floats, unit_rows
from transforms.noise.neighbourhood import LemonScores, deduplicated, lemon, pair_reference


def random_pairs(count: int, width: int = 32, seed: int = 0) -> tuple[Floats, Floats]:
    """Images and texts of forty concepts that do not change with the seed."""
    directions = np.random.default_rng(99).standard_normal((40, width))
    generator = np.random.default_rng(seed)
    concepts = directions[generator.integers(0, 40, count)]
    sides = [concepts + 0.6 * generator.standard_normal((count, width)) for _ in range(2)]
    image, text = (unit_rows(side.astype(np.float32))[0] for side in sides)
    return image, text


def random_uids(count: int, seed: int = 0) -> NDArray[np.uint64]:
    return np.random.default_rng(seed).integers(0, 2**64, (count, 2), dtype=np.uint64)


def ascending(count: int) -> NDArray[np.uint64]:
    return np.stack([np.zeros(count), np.arange(count)], axis=1).astype(np.uint64)


def by_formula(  # noqa: PLR0917
    x: Floats, y: Floats, images: Floats, texts: Floats, own: int, k: int, t1: float, t2: float
) -> tuple[float, float]:
    """The two sides of one pair in float64; ties by place."""
    x, y, images, texts = (array.astype(np.float64) for array in (x, y, images, texts))
    others = np.setdiff1d(np.arange(len(images)), [own])
    between = 1 - (images * texts).sum(axis=1)
    sides = []
    for near, far, asked, told in ((images, texts, x, y), (texts, images, y, x)):
        distance = 1 - near @ asked
        chosen = others[np.argsort(distance[others], kind="stable")][:k]
        weights = np.exp(-t1 * distance[chosen]) * np.exp(-t2 * between[chosen])
        sides.append(float(((1 - far[chosen] @ told) * weights).sum() / len(chosen)))
    return sides[0], sides[1]


def assert_same(one: LemonScores, other: LemonScores) -> None:
    for name, left, right in zip(one._fields, one, other, strict=True):
        assert np.array_equal(left, right, equal_nan=True), name


@pytest.mark.parametrize(("k", "t1", "t2"), [(1, 0.1, 5), (30, 0.1, 5), (7, 3, 0.5), (500, 0, 0)])
def test_scores_are_those_of_the_formula(k: int, t1: float, t2: float) -> None:
    image, text = random_pairs(200)
    reference = pair_reference(image, text, ascending(200), copy_cosine=None, device="cpu")
    found = lemon(image, text, reference, uids=ascending(200), k=k, beta=2, gamma=3, t1=t1, t2=t2)
    expected = np.array([by_formula(image[at], text[at], image, text, at, k, t1, t2) for at in range(200)])
    assert found.image_side == pytest.approx(expected[:, 0], abs=2e-6)
    assert found.text_side == pytest.approx(expected[:, 1], abs=2e-6)
    assert found.distance == pytest.approx(1 - (image * text).sum(axis=1), abs=1e-6)
    assert found.score == pytest.approx(found.distance + expected @ [2, 3], abs=1e-5)
    assert all(values.dtype == np.float32 for values in found)


def test_swapped_captions_have_higher_scores() -> None:
    image, text = random_pairs(1000)
    swapped = text.copy()
    swapped[:100] = np.roll(text[:100], 1, axis=0)
    reference = pair_reference(image, swapped, random_uids(1000), device="cpu")
    found = lemon(image, swapped, reference, uids=random_uids(1000))
    for values in found:
        assert np.median(values[:100]) > np.quantile(values[100:], 0.9)


def test_a_pair_does_not_judge_itself() -> None:
    """With itself for its only neighbour, any pair looks right."""
    image, text = random_pairs(60)
    reference = pair_reference(image, text, ascending(60), copy_cosine=None, device="cpu")
    skipped = lemon(image, text, reference, uids=ascending(60), k=1)
    counted = lemon(image, text, reference, k=1)
    assert counted.image_side == pytest.approx(0, abs=1e-6)
    assert (skipped.image_side > 1e-4).all()


def test_copies_of_a_pair_do_not_judge_it() -> None:
    image, text = random_pairs(100)
    copies = np.concatenate([np.arange(100), np.zeros(20, np.int64)])
    reference = pair_reference(image[copies], text[copies], ascending(120), device="cpu")
    alone = pair_reference(image, text, ascending(100), device="cpu")
    assert len(reference.uids) == 100
    assert reference.places(ascending(120)).tolist() == copies.tolist()
    expected = lemon(image[:1], text[:1], alone, uids=ascending(1))
    for at in (0, 100, 119):
        found = lemon(image[:1], text[:1], reference, uids=ascending(120)[at : at + 1])
        assert_same(found, expected)


def test_copies_are_pairs_alike_on_both_sides_and_chains_go_back_to_the_first() -> None:
    def at(degrees: list[float]) -> Floats:
        turns = np.deg2rad(degrees)
        return np.stack([np.cos(turns), np.sin(turns)], axis=1).astype(np.float32)

    images, texts = at([0, 5, 10, 0, 90]), at([0, 0, 0, 90, 90])
    kept, stands = deduplicated(images, texts, 0.99, device="cpu")
    assert kept.tolist() == [0, 3, 4]
    assert stands.tolist() == [0, 0, 0, 3, 4]
    exactly = np.concatenate([images, images[:1]]), np.concatenate([texts, texts[:1]])
    kept, stands = deduplicated(*exactly, 1.0, device="cpu")
    assert kept.tolist() == [0, 1, 2, 3, 4]
    assert stands[5] == 0
    empty = np.zeros((0, 2), np.float32)
    assert [len(part) for part in deduplicated(empty, empty, device="cpu")] == [0, 0]


def test_the_order_of_rows_changes_nothing() -> None:
    image, text = random_pairs(400)
    text[:50] = text[0]  # many captions alike: which of them are the nearest is up to the uids
    image[300:310] = image[0]
    uids = random_uids(400)
    order = np.random.default_rng(5).permutation(400)
    expected = lemon(image, text, pair_reference(image, text, uids, device="cpu"), uids=uids, k=5)
    reference = pair_reference(image[order], text[order], uids[order], device="cpu")
    found = lemon(image[order], text[order], reference, uids=uids[order], k=5)
    assert_same(found, LemonScores(*(values[order] for values in expected)))
    for rows in (slice(0, 1), slice(100, 170)):
        some = lemon(image[rows], text[rows], reference, uids=uids[rows], k=5)
        assert_same(some, LemonScores(*(values[rows] for values in expected)))


def test_rows_without_a_direction_are_null_and_nobody_s_neighbours() -> None:
    image, text = random_pairs(80)
    bad_image, bad_text = image.astype(np.float16), text.astype(np.float16)
    bad_image[4], bad_text[9, 3] = 0, np.nan
    good = np.setdiff1d(np.arange(80), [4, 9])
    uids = random_uids(80)
    reference = pair_reference(bad_image, bad_text, uids, device="cpu")
    assert len(reference.uids) == 78
    assert reference.places(uids[[4, 9]]).tolist() == [-1, -1]
    found = lemon(bad_image, bad_text, reference, uids=uids)
    assert all(np.isnan(values[[4, 9]]).all() for values in found)
    clean = pair_reference(bad_image[good], bad_text[good], uids[good], device="cpu")
    expected = lemon(bad_image[good], bad_text[good], clean, uids=uids[good])
    assert_same(LemonScores(*(values[good] for values in found)), expected)


def test_no_pairs_have_no_scores_and_a_lone_pair_has_no_neighbour() -> None:
    image, text = random_pairs(1)
    reference = pair_reference(image, text, ascending(1), device="cpu")
    assert [len(values) for values in lemon(image[:0], text[:0], reference)] == [0, 0, 0, 0]
    alone = lemon(image, text, reference, uids=ascending(1))
    assert (alone.image_side[0], alone.text_side[0]) == (0, 0)
    assert alone.score[0] == alone.distance[0]


def test_what_cannot_be_compared_is_an_error() -> None:
    image, text = random_pairs(5)
    reference = pair_reference(image, text, ascending(5), device="cpu")
    with pytest.raises(ValueError, match="one shape"):
        lemon(image, text[:3], reference)
    with pytest.raises(ValueError, match="a neighbour and a reference pair at least, but got 0 and 5"):
        lemon(image, text, reference, k=0)
    with pytest.raises(ValueError, match="got 30 and 0"):
        lemon(image, text, pair_reference(image[:0], text[:0], ascending(0), device="cpu"))
    with pytest.raises(ValueError, match="use one encoder"):
        lemon(*random_pairs(2, 16), reference)
