"""What the tables of detectors are made of: figures, swaps, and a label for every caption."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.noise import (
    Figures,
    better,
    figures,
    fused_less_best,
    rank_correlation,
    swap_table,
    table,
)
from benchmarks.noise_detectors import DETECTORS
from benchmarks.noisy_pools import NoisyPool, Swap, class_named, swapped
from curate.demo.captions import KINDS, Facts, describe
from curate.demo.world import draw_scene

ONCE = np.ones((1, 6), np.int64)
WRONG = np.array([True, True, False, False, False, False])


def reached(scores: list[float], weights: np.ndarray = ONCE) -> list[float]:
    found: list[float] = figures(np.array(scores), WRONG, weights)[0].tolist()
    return found


def test_a_perfect_order_a_reversed_one_and_none() -> None:
    assert reached([5, 4, 3, 2, 1, 0]) == [1.0, 1.0, 1.0]
    area, _, at_rate = reached([0, 1, 2, 3, 4, 5])
    assert (area, at_rate) == (0.0, 0.0)
    assert reached([1, 1, 1, 1, 1, 1]) == pytest.approx([0.5, 1 / 3, 1 / 3])


def test_figures_of_a_mixed_order() -> None:
    """Wrong, right, wrong, right, right, right: 7 of 8 pairs in order; precisions 1 and 2/3."""
    assert reached([6, 4, 5, 3, 2, 1]) == pytest.approx([7 / 8, (1 + 2 / 3) / 2, 0.5])


def test_a_pair_without_a_score_is_the_least_suspicious() -> None:
    assert reached([np.nan, 5, 4, 3, 2, 1]) == reached([0, 5, 4, 3, 2, 1])


def test_a_pair_that_is_drawn_twice_counts_twice() -> None:
    twice = np.array([[2, 0, 1, 1, 1, 1]])
    assert reached([5, 0, 4, 3, 2, 1], twice) == [1.0, 1.0, 1.0]


def test_ranks_agree_whatever_their_units() -> None:
    one = np.array([0.1, 0.5, 0.9])
    assert rank_correlation(one, np.exp(one)) == pytest.approx(1.0)
    assert rank_correlation(one, -one) == pytest.approx(-1.0)


# --- swaps


@pytest.fixture(scope="module")
def facts() -> list[Facts]:
    return [draw_scene(5, index).facts for index in range(300)]


def pool_of(labels: np.ndarray, *, seed: int = 0) -> NoisyPool:
    """Pictures near their class's direction, and captions that say it; four wide, no pair is wrong."""
    generator = np.random.default_rng(seed)
    classes = np.linalg.qr(generator.standard_normal((16, 16)))[0][: int(labels.max()) + 1]
    image = classes[labels] + 0.15 * generator.standard_normal((len(labels), 16))
    text = classes[labels] + 0.05 * generator.standard_normal((len(labels), 16))
    image, text = (
        (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16) for rows in (image, text)
    )
    return NoisyPool(image, image, text, labels, labels, classes, np.zeros(len(labels), np.bool_), 20.0)


@pytest.mark.parametrize("swap", ["random", "hard"])
def test_captions_are_exchanged_so_that_each_is_wrong(swap: Swap, facts: list[Facts]) -> None:
    labels = np.array([KINDS.index(one.things[0].kind) for one in facts])
    plain = pool_of(labels % 10)
    marked = NoisyPool(**{**vars(plain), "text": np.arange(300, dtype=np.float16)[:, None]})
    found = swapped(marked, facts, swap, 0.2)
    partner = found.text[:, 0].astype(int)
    assert found.wrong.sum() == 60
    assert sorted(partner.tolist()) == list(range(300))
    assert (partner[partner] == np.arange(300)).all()
    assert ((partner != np.arange(300)) == found.wrong).all()
    assert (found.labels == marked.labels[partner]).all()
    for row in np.flatnonzero(found.wrong).tolist():
        shown = {(thing.kind, thing.colour) for thing in facts[row].things}
        assert not {(thing.kind, thing.colour) for thing in facts[partner[row]].things} <= shown
        if swap == "hard":
            assert labels[row] == labels[partner[row]]


def test_more_swaps_than_pairs_allow_are_refused(facts: list[Facts]) -> None:
    plain = pool_of(np.zeros(4, np.int64))
    with pytest.raises(ValueError, match=r"4 pairs allow \d hard swaps, fewer than 2"):
        swapped(plain, facts[:4], "hard", 1.0)


def test_a_caption_names_the_main_object_first() -> None:
    for index in range(60):
        scene = draw_scene(7, index)
        assert KINDS[class_named(describe(scene.facts, scene.wording))] == scene.concept
    assert class_named("nothing of this world") == -1


# --- detectors


def test_every_detector_scores_every_pair_and_suspects_the_wrong_ones() -> None:
    labels = np.arange(1200) % 6
    pool = pool_of(labels)
    generator = np.random.default_rng(1)
    wrong = generator.random(len(labels)) < 0.15
    given = np.where(wrong, (labels + generator.integers(1, 6, len(labels))) % 6, labels)
    text = pool_of(given, seed=0).text
    noisy = NoisyPool(pool.image, pool.mirrored, text, given, labels, pool.prompts, wrong, pool.scale)
    once = np.ones((1, len(labels)), np.int64)
    for detector in DETECTORS:
        scores = detector.score(noisy)
        assert scores.shape == (len(labels),)
        if np.isnan(scores).all():  # a filter may refuse what is this easy, for then all agree
            assert detector.name.startswith(("fused", "linear"))
            continue
        assert figures(scores, wrong, once)[0, 0] > 0.9, detector.name


# --- tables

GOOD = np.tile([0.9, 0.8, 0.7], (40, 1))
BETTER, REFUSED = GOOD + 0.05, None


def test_a_table_has_a_row_for_each_detector_and_differences_to_the_first() -> None:
    lines = table({"1 - clip_cosine": GOOD, "other": BETTER, "silent": REFUSED}).splitlines()
    assert len(lines) == 5
    assert lines[2].startswith("| 1 - clip_cosine | 0.900 (0.900 to 0.900) | 0.800")
    assert lines[2].endswith("| - |")
    assert "+0.0500 (+0.0500 to +0.0500)" in lines[3]
    assert lines[4] == "| silent | no answer | - | - | - |"


def test_pools_stand_side_by_side() -> None:
    found: dict[str, dict[str, Figures | None]] = {
        "random 5%": {"first": GOOD, "other": BETTER},
        "hard 5%": {"first": GOOD, "other": REFUSED},
    }
    lines = swap_table(found).splitlines()
    assert lines[0] == "| detector | random 5% | hard 5% |"
    assert lines[3].count("<br>") == 6
    assert "no answer" in lines[3]


def test_who_beats_the_first_is_named() -> None:
    found = {"first": GOOD, "same": GOOD.copy(), "better": BETTER, "silent": REFUSED}
    assert better(found) == ["better"]
    assert better({"first": REFUSED, "better": BETTER}) == []


def test_fused_detectors_are_compared_with_the_best_single_one() -> None:
    (said,) = fused_less_best({"first": GOOD, "better": BETTER, "fused": GOOD + 0.06, "fused too": REFUSED})
    assert said.startswith("fused less better: AUROC +0.0100 (+0.0100 to +0.0100)")
