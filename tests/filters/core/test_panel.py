from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.typing import NDArray

from filters.core.calibration import curve, summed
from filters.core.fusion import Floats, pattern_counts, ranked
from filters.core.panel import (
    STEPS,
    Panel,
    fit_panel,
    fold_counts,
    overview,
    panel_json,
    panel_of,
    votes_of,
)

SHARES = np.full(3, 0.3), np.full(3, 0.7)
NAMES = ("a", "b", "c")


def detectors(strengths: list[float], count: int = 4000, seed: int = 0) -> tuple[Floats, NDArray[np.bool_]]:
    """The ranks of detectors whose scores of noise stand out so far, and who is noise (30 %)."""
    generator = np.random.default_rng(seed)
    noise = generator.random(count) < 0.3
    scores = [generator.normal(strength * noise) for strength in strengths]
    return np.stack([ranked(one) for one in scores], axis=1), noise


def folds_of(count: int) -> NDArray[np.int64]:
    return np.arange(count, dtype=np.int64) % 5


def fitted(ranks: Floats) -> Panel:
    folds = folds_of(len(ranks))
    votes = votes_of(ranks, *SHARES)
    panel, _ = fit_panel(fold_counts(votes, folds, 5), NAMES, NAMES)
    points = curve(summed(panel.scores(ranks, folds), panel.posteriors(votes, folds)))
    return Panel(panel.models, points)


def refusal(ranks: Floats, sources: tuple[str, ...] = NAMES) -> str:
    with pytest.raises(ValueError, match=r"others|votes") as caught:
        fit_panel(fold_counts(votes_of(ranks, *SHARES), folds_of(len(ranks)), 5), NAMES, sources)
    return str(caught.value)


def test_the_worst_share_votes_noise_the_best_clean_and_the_others_nothing() -> None:
    ranks = np.array([[0.05, 0.5, 0.95], [0.7, 0.71, np.nan]])
    votes = votes_of(ranks, np.array([0.1, 0.3, 0.1]), np.array([0.7, 0.5, 0.5]))
    assert votes.tolist() == [[0, 0, 1], [0, 1, -1]]
    assert votes_of(ranks, *SHARES).dtype == np.int8


def test_counts_of_folds_are_counts_of_their_samples() -> None:
    votes = votes_of(detectors([2, 2, 2])[0], *SHARES)
    counts = fold_counts(votes, folds_of(len(votes)), 5)
    assert np.array_equal(counts.sum(axis=0), pattern_counts(votes))
    assert np.array_equal(counts[2], pattern_counts(votes[2::5]))


def test_p_noise_is_near_the_share_of_noise_where_detectors_err_independently() -> None:
    """Between the extremes it is careful: votes tell less than the ranks that they are put upon."""
    ranks, noise = detectors([2, 2.5, 1.5], count=40_000)
    p_noise = fitted(ranks).p_noise(ranks, folds_of(len(ranks)))
    assert p_noise.mean() == pytest.approx(0.3, abs=0.02)
    for low, high, off in ((0, 0.1, 0.05), (0.1, 0.5, 0.1), (0.5, 0.9, 0.2), (0.9, 1, 0.1)):
        inside = (p_noise >= low) & (p_noise < high)
        assert noise[inside].mean() == pytest.approx(p_noise[inside].mean(), abs=off)


def test_p_noise_rises_with_every_rank_and_is_a_whole_number_of_steps() -> None:
    panel = fitted(detectors([2, 2.5, 1.5])[0])
    base = np.full((99, 3), 0.6)
    for detector in range(3):
        ranks = base.copy()
        ranks[:, detector] = np.arange(1, 100) / 100
        found = panel.p_noise(ranks, np.zeros(99, np.int64))
        assert (np.diff(found) > 0).all()
        assert np.array_equal(found * STEPS, np.rint(found * STEPS))


def test_each_sample_is_judged_by_the_model_of_its_fold() -> None:
    ranks, _ = detectors([2, 2.5, 1.5])
    panel, folds = fitted(ranks), folds_of(len(ranks))
    for fold in range(5):
        alone = Panel((panel.models[fold],) * 5, panel.points)
        here = folds == fold
        assert np.array_equal(alone.p_noise(ranks, folds)[here], panel.p_noise(ranks, folds)[here])
    assert len({model.noise_share for model in panel.models}) == 5


def test_a_missing_score_says_nothing_instead_of_lending_its_weight_to_the_others() -> None:
    panel, fold = fitted(detectors([2, 2, 2])[0]), np.zeros(3, np.int64)
    high = np.array([[0.97, 0.97, 0.97], [0.97, np.nan, np.nan], [0.97, 0.5, 0.5]])
    found = panel.p_noise(high, fold)
    assert found[0] > found[1] == found[2]


def test_too_few_scores_are_nan() -> None:
    panel, fold = fitted(detectors([2, 2, 2])[0]), np.zeros(3, np.int64)
    ranks = np.array([[0.9, 0.9, 0.9], [0.9, 0.9, np.nan], [np.nan] * 3])
    for least, known in ((1, [True, True, False]), (3, [True, False, False])):
        assert (~np.isnan(panel.scores(ranks, fold, least))).tolist() == known
        assert (~np.isnan(panel.p_noise(ranks, fold, least))).tolist() == known
    assert np.isnan(Panel(panel.models).p_noise(ranks, fold)).all()


def test_a_panel_survives_json() -> None:
    ranks, _ = detectors([2, 2.5, 1.5])
    panel, folds = fitted(ranks), folds_of(len(ranks))
    for one in (panel, Panel(panel.models), Panel()):
        copy = panel_of(json.loads(json.dumps(panel_json(one))))
        assert np.array_equal(copy.p_noise(ranks, folds), one.p_noise(ranks, folds), equal_nan=True)


def test_a_detector_the_wrong_way_round_is_named() -> None:
    ranks, _ = detectors([2, 2.5, 1.5])
    ranks[:, 1] = 1 - ranks[:, 1]
    said = refusal(ranks)
    assert said.startswith("b says noise where the others say clean (mean correlation -0.")
    assert "`high: noise`" in said


def test_votes_that_agree_by_chance_are_refused() -> None:
    said = refusal(detectors([0, 0, 0])[0])
    assert "of the votes agree with the others beyond chance, and it takes 3" in said
    assert "(mean correlations: a " in said
    assert "beyond chance" in refusal(detectors([2, 2, 2], count=20)[0])


def test_copies_of_one_detector_are_refused() -> None:
    ranks, _ = detectors([2])
    said = refusal(np.repeat(ranks, 3, axis=1))
    assert said.startswith("the votes are nearly copies of one another, worth 1.0 detectors together")


def test_a_detector_that_says_the_same_of_all_does_not_hide_that_the_others_are_copies() -> None:
    ranks, _ = detectors([2])
    votes = np.repeat(votes_of(ranks, SHARES[0][:1], SHARES[1][:1]), 4, axis=1)
    votes[:, 3] = 0
    with pytest.raises(ValueError, match=r"worth 1\.0 detectors together"):
        fit_panel(fold_counts(votes, folds_of(len(ranks)), 5), [*"abcd"], [*"abcd"])


def test_detectors_that_say_nothing_or_always_the_same_are_named() -> None:
    ranks, _ = detectors([2, 2, 2])
    ranks[:, 1], ranks[:, 2] = 0.5, np.nan
    expected = (
        "1 of the votes say both noise and clean, and it takes 3: b says the same of all, c has no score"
    )
    assert refusal(ranks) == expected
    assert refusal(ranks[:0]).startswith("0 of the votes say both noise and clean")
    both = detectors([2, 2, 2])[0]
    assert refusal(both, ("a", "b", "b")) == "2 of the votes say both noise and clean, and it takes 3"


def test_the_overview_has_none_for_what_is_unknown() -> None:
    ranks, _ = detectors([2, 2, 2])
    folds, votes = folds_of(len(ranks)), votes_of(ranks, *SHARES)
    _, model = fit_panel(fold_counts(votes, folds, 5), NAMES, NAMES)
    whole = overview(pattern_counts(votes), model)
    assert json.loads(json.dumps(whole)) == whole
    assert set(whole) == {"coverage", "reliability", "weight", "independence", "agree", "correlation"}
    assert whole["correlation"][0][0] == 1
    nothing = overview(np.zeros(27, np.int64), None)
    assert nothing["coverage"] == [None] * 3
    assert nothing["correlation"] == [[None] * 3] * 3
    assert "weight" not in nothing
