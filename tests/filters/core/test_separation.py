from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from filters.core import separation
from filters.core.separation import (
    Alternation,
    Floats,
    fit_linear,
    label_loss,
    minimised,
    noisy_label_probabilities,
    pair_features,
    separate,
    small_loss,
    uid_folds,
)


def identities(count: int) -> NDArray[np.uint64]:
    return np.random.default_rng(9).integers(0, 2**64, (count, 2), dtype=np.uint64)


def two_groups(seed: int, count: int = 4000, share: float = 0.25) -> tuple[Floats, NDArray[np.bool_], Floats]:
    """Features whose first two columns tell noise from clean, who is noise, and a weak loss."""
    generator = np.random.default_rng(seed)
    noise = generator.random(count) < share
    features = generator.standard_normal((count, 8))
    features[:, :2] += 2.0 * noise[:, None]
    losses = generator.standard_normal(count) + 2.0 * noise
    return features, noise, losses


def certainty(losses: Floats) -> Floats:
    return 1 / (1 + np.exp(-3 * (losses - 1.0)))


def ranks_above(scores: Floats, noise: NDArray[np.bool_]) -> float:
    """The share of (noise, clean) pairs in the right order (AUROC)."""
    order = np.argsort(np.argsort(scores, kind="stable"), kind="stable")
    positives = int(noise.sum())
    return (order[noise].sum() - positives * (positives - 1) / 2) / (positives * (len(noise) - positives))


@pytest.mark.parametrize("penalty", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("classes", [2, 4])
def test_the_regression_is_scikit_learn_s(penalty: float, classes: int) -> None:
    """scikit-learn 1.9.1: LogisticRegression(C=1/penalty) on the same standardised features."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    generator = np.random.default_rng(classes)
    features = generator.standard_normal((400, 6)) * [1, 10, 0.1, 1, 1, 1] + 3
    labels = np.argmax(features[:, :classes] + generator.standard_normal((400, classes)), axis=1)
    mine = fit_linear(features, labels, penalty)
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    theirs = linear_model.LogisticRegression(C=1 / penalty, tol=1e-10, max_iter=5000).fit(scaled, labels)
    assert mine.probabilities(features) == pytest.approx(theirs.predict_proba(scaled), abs=1e-5)
    if classes == 2:
        assert mine.weights[:-1, 1] == pytest.approx(theirs.coef_[0], abs=1e-4)


def test_the_slope_is_flat_where_the_regression_ends() -> None:
    features, noise, _ = two_groups(1)
    design = np.concatenate([features, np.ones((len(features), 1))], axis=1)
    objective = separation._log_loss(design, noise.astype(np.intp), 2, 1, 1.0)
    found = minimised(objective, np.zeros(9))
    value, slope = objective(found)
    assert np.abs(slope).max() < 1e-6
    for at in range(9):
        step = np.zeros(9)
        step[at] = 1e-5
        numeric = (objective(found + 7 * step)[0] - objective(found + 5 * step)[0]) / 2e-5
        assert objective(found + 6 * step)[1][at] == pytest.approx(numeric, abs=1e-8)
        assert objective(found + step)[0] >= value


def test_separable_groups_a_constant_feature_and_one_class() -> None:
    features = np.column_stack([np.repeat([-1.0, 1.0], 20), np.full(40, 7.0)])
    model = fit_linear(features, np.repeat([0, 1], 20))
    assert (model.probabilities(features)[:, 1].round() == np.repeat([0, 1], 20)).all()
    alone = fit_linear(features, np.full(40, 3))
    assert alone.classes.tolist() == [3]
    assert alone.probabilities(features).tolist() == [[1.0]] * 40


def test_a_feature_that_is_not_finite_has_no_probability() -> None:
    features, noise, _ = two_groups(2)
    rows = features[:3].copy()
    rows[1, 0], rows[2, 3] = np.nan, np.inf
    found = fit_linear(features, noise.astype(np.int64)).probabilities(rows)
    assert np.isnan(found).any(axis=1).tolist() == [False, True, True]


def test_what_cannot_be_fitted_is_refused() -> None:
    for features, penalty in ((np.zeros((0, 2)), 1.0), (np.array([[np.nan]]), 1.0), (np.ones((1, 1)), 0.0)):
        with pytest.raises(ValueError, match="needs rows, finite features and a penalty above 0"):
            fit_linear(features, np.zeros(len(features), np.int64), penalty)


def test_pair_features_hold_both_embeddings_and_their_product() -> None:
    found = pair_features(np.array([[0.6, 0.8]], np.float16), np.array([[1.0, 0.5]], np.float32))
    assert found.dtype == np.float64
    assert found[0] == pytest.approx([0.6, 0.8, 1, 0.5, 0.6, 0.4], abs=1e-3)


def test_folds_follow_the_uid_and_are_about_equal() -> None:
    uids = identities(5000)
    folds = uid_folds(uids)
    assert np.array_equal(uid_folds(uids[::-1])[::-1], folds)
    assert (np.abs(np.bincount(folds, minlength=5) - 1000) < 120).all()
    assert not np.array_equal(uid_folds(uids, seed=1), folds)


def test_no_sample_is_scored_by_a_model_that_saw_its_label() -> None:
    generator = np.random.default_rng(3)
    features, folds = generator.standard_normal((300, 5)), np.arange(300) % 5
    labels = generator.integers(0, 3, 300)
    before = noisy_label_probabilities(features, labels, folds, 3)
    assert before.sum(axis=1) == pytest.approx(1)
    changed = np.where(folds == 2, (labels + 1) % 3, labels)
    after = noisy_label_probabilities(features, changed, folds, 3)
    assert np.array_equal(after[folds == 2], before[folds == 2])
    assert not np.allclose(after[folds != 2], before[folds != 2])


def test_probabilities_of_noisy_labels_find_the_wrong_ones() -> None:
    generator = np.random.default_rng(4)
    true = generator.integers(0, 4, 2000)
    features = generator.standard_normal((2000, 6)) + 3 * np.eye(4, 6)[true]
    wrong = generator.random(2000) < 0.2
    labels = np.where(wrong, (true + generator.integers(1, 4, 2000)) % 4, true)
    found = noisy_label_probabilities(features, labels, np.arange(2000) % 5, 4)
    assert ranks_above(1 - found[np.arange(2000), labels], wrong) > 0.97
    constant = np.full((2000, 4), 0.25)
    assert label_loss(found, labels) < label_loss(constant, labels) == pytest.approx(np.log(4))


def test_missing_labels_classes_and_features_stay_missing() -> None:
    features, labels = np.random.default_rng(5).standard_normal((60, 2)), np.arange(60) % 2
    labels[0], folds = -1, np.arange(60) % 3
    features[1, 0] = np.nan
    found = noisy_label_probabilities(features, labels, folds, 3)
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1]).all()
    assert (found[2:, 2] == 0).all()
    assert np.isnan(noisy_label_probabilities(features, labels, np.zeros(60, np.int64), 3)).all()
    assert np.isnan(label_loss(found, np.full(60, -1)))
    with pytest.raises(ValueError, match=r"labels lie in \[-1, 1\), but they reach from -1 to 1"):
        noisy_label_probabilities(features, labels, folds, 1)


def test_small_losses_are_kept_by_number_with_ties_by_uid() -> None:
    uids = np.array([[0, 5], [0, 4], [0, 3], [0, 2], [0, 1]], np.uint64)
    losses = np.array([1.0, 1.0, 1.0, 0.5, np.nan])
    assert small_loss(losses, 0.5, uids).tolist() == [False, False, True, True, False]
    assert not small_loss(losses, 0.0, uids).any()


@pytest.mark.parametrize("seed", range(4))
def test_separation_finds_more_than_its_seeds_and_ignores_the_order(seed: int) -> None:
    features, noise, losses = two_groups(seed)
    seeds, uids = certainty(losses), identities(len(noise))
    found = separate(features, seeds, losses, uids)
    assert found.reason is None
    assert ranks_above(found.p_noise, noise) > ranks_above(seeds, noise) + 0.01
    again = separate(features, seeds, losses, uids)
    assert np.array_equal(found.p_noise, again.p_noise)
    order = np.random.default_rng(seed).permutation(len(noise))
    moved = separate(features[order], seeds[order], losses[order], uids[order])
    assert moved.p_noise == pytest.approx(found.p_noise[order], abs=1e-5)
    fresh, other, _ = two_groups(seed + 100)
    assert ranks_above(found.p_noise_of(fresh), other) > 0.95


def test_simple_clean_samples_are_rescued_from_the_linear_model() -> None:
    features, noise, losses = two_groups(6)
    losses[:30], features[:30, :2] = -3.0, 2.5  # look like noise, but their loss is tiny
    seeds = certainty(losses)
    found = separate(features, seeds, losses, identities(len(noise)), Alternation(rounds=1))
    assert found.rescued[:30].sum() >= 25
    assert np.array_equal(found.p_noise[found.rescued], seeds[found.rescued])
    assert (found.p_noise[found.rescued] < 0.1).all()


def test_missing_features_losses_and_seeds_are_null_or_merely_scored() -> None:
    features, noise, losses = two_groups(7)
    seeds = certainty(losses)
    features[0, 1], losses[1], seeds[2] = np.nan, np.nan, np.nan
    found = separate(features, seeds, losses, identities(len(noise)))
    assert np.isnan(found.p_noise[:3]).tolist() == [True, True, False]
    assert np.isfinite(found.p_noise[3:]).all()


def test_seeds_that_are_few_or_one_sided_are_refused_with_a_reason() -> None:
    features, noise, losses = two_groups(8)
    uids = identities(len(noise))
    for seeds, name in ((np.full(len(noise), 0.01), "noisy"), (np.full(len(noise), 0.99), "clean")):
        found = separate(features, seeds, losses, uids)
        assert found.reason is not None
        assert f"a model would see 0 certain {name} samples, fewer than 50" in found.reason
        assert np.isnan(found.p_noise).all()
        assert not found.rescued.any()
    assert separate(features[:0], losses[:0], losses[:0], uids[:0]).reason is not None


def test_a_seed_exactly_at_the_bound_is_not_certain() -> None:
    features, noise, losses = two_groups(9)
    seeds = np.where(noise, 0.9, 0.1)
    assert separate(features, seeds, losses, identities(len(noise))).reason is not None
