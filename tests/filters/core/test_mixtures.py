from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from filters.core import mixtures
from filters.core.declaration import Accumulator, Artefact

Floats = NDArray[np.float64]
MODELS: tuple[mixtures.Model, ...] = ("gaussian", "beta")
each_model = pytest.mark.parametrize("model", MODELS)
# The two groups of the simulations: share of clean, then mean and sd of noisy and of clean.
EQUAL = (0.686, 0.1264, 0.045, 0.2605, 0.045)
WIDE_NOISE = (0.7, 0.12, 0.06, 0.28, 0.03)
WIDE_CLEAN = (0.4, 0.1, 0.03, 0.3, 0.06)


def two_groups(groups: tuple[float, ...] = EQUAL, count: int = 100_000, seed: int = 0) -> NDArray[np.float32]:
    share, noisy, noisy_sd, clean, clean_sd = groups
    generator = np.random.default_rng(seed)
    which = generator.random(count) < share
    return np.where(
        which, generator.normal(clean, clean_sd, count), generator.normal(noisy, noisy_sd, count)
    ).astype(np.float32)


def passes(batches: list[NDArray[np.float32]]) -> tuple[Artefact, Accumulator]:
    """The finished artefact and the counts of the last pass."""
    artefact = mixtures.begin()
    while True:
        counted = [mixtures.count(artefact, batch) for batch in batches]
        total = {name: sum(one[name] for one in counted) for name in ("sizes", "counts")}
        artefact = mixtures.advance(artefact, total)
        if artefact["complete"]:
            return artefact, total


def fitted(
    scores: NDArray[Any], model: mixtures.Model = "gaussian", at_least_rows: int = 100
) -> tuple[Floats, str | None]:
    artefact, total = passes([scores])
    found, (reason,) = mixtures.fit(total["counts"][None, :], artefact["range"], model, at_least_rows)
    return found, reason


def em_of_every_score(scores: NDArray[Any]) -> list[float]:
    """Two Gaussians by EM on the scores themselves: share of clean, means and sds."""
    values = scores.astype(np.float64)
    clean = (values > values.mean()).astype(float)
    for _ in range(3000):
        sides = []
        for side in (1 - clean, clean):
            mean = (side * values).sum() / side.sum()
            variance = (side * (values - mean) ** 2).sum() / side.sum()
            density = side.mean() * np.exp(-((values - mean) ** 2) / (2 * variance)) / np.sqrt(variance)
            sides.append((mean, np.sqrt(variance), density))
        moved = sides[1][2] / (sides[0][2] + sides[1][2])
        still = np.abs(moved - clean).max() < 1e-9
        clean = moved
        if still:
            break
    return [clean.mean(), *sides[0][:2], *sides[1][:2]]


# --- the fit


@pytest.mark.parametrize("groups", [EQUAL, WIDE_NOISE, WIDE_CLEAN])
def test_a_histogram_gives_what_every_score_gives(groups: tuple[float, ...]) -> None:
    """ALGORITHMS 5.1 of the design notes: shares agree to .001 and means to .0003."""
    scores = two_groups(groups, 20_000)
    found, reason = fitted(scores)
    assert reason is None
    share, noisy, noisy_sd, clean, clean_sd = em_of_every_score(scores)
    assert found[0, 0] == pytest.approx(share, abs=1e-3)
    assert found[0, [1, 3]] == pytest.approx([noisy, clean], abs=3e-4)
    assert found[0, [2, 4]] == pytest.approx([noisy_sd, clean_sd], abs=3e-4)


@each_model
@pytest.mark.parametrize("groups", [EQUAL, WIDE_NOISE, WIDE_CLEAN])
def test_the_groups_that_were_simulated_are_found(groups: tuple[float, ...], model: mixtures.Model) -> None:
    found, reason = fitted(two_groups(groups), model)
    assert reason is None
    assert found[0, 0] == pytest.approx(groups[0], abs=0.015)
    assert found[0, 1:5] == pytest.approx(groups[1:], abs=0.004)


@each_model
@pytest.mark.parametrize("share", [0.04, 0.96])
def test_a_small_group_is_found(share: float, model: mixtures.Model) -> None:
    found, reason = fitted(two_groups((share, 0.1, 0.03, 0.3, 0.03)), model)
    assert reason is None
    assert found[0, 0] == pytest.approx(share, abs=0.003)


def test_two_beta_distributions_are_found() -> None:
    generator = np.random.default_rng(0)
    noisy = generator.random(100_000) < 0.6
    scores = np.where(noisy, generator.beta(4, 16, 100_000), generator.beta(12, 4, 100_000))
    found, reason = fitted(scores, "beta")
    assert reason is None
    assert found[0, [0, 1, 3]] == pytest.approx([0.4, 0.2, 0.75], abs=0.01)


def test_float16_scores_do_not_disturb_the_fit() -> None:
    scores = two_groups()
    rounded, _ = fitted(scores.astype(np.float16))
    assert rounded[0, :5] == pytest.approx(fitted(scores)[0][0, :5], abs=5e-4)


def test_outliers_and_infinities_do_not_ruin_the_fit() -> None:
    scores = two_groups()
    spoilt = np.concatenate([scores, np.array([1e30, -1e30, np.inf, -np.inf, np.nan], np.float32)])
    found, reason = fitted(spoilt)
    assert reason is None
    assert found[0, :5] == pytest.approx(fitted(scores)[0][0, :5], abs=1e-3)
    artefact, total = passes([spoilt])
    assert (artefact["rows"], artefact["scored"]) == (100_005, 100_004)
    assert total["counts"].sum() <= 100_000


@each_model
@pytest.mark.parametrize(("factor", "shift"), [(1.0, -5.0), (1e-38, 0.0), (1e36, 0.0), (0.05, 1000.0)])
def test_the_scale_of_the_scores_does_not_matter(factor: float, shift: float, model: mixtures.Model) -> None:
    scores = two_groups(WIDE_CLEAN, 20_000)
    moved = (scores.astype(np.float64) * factor + shift).astype(np.float32)
    first, _ = fitted(scores, model)
    second, reason = fitted(moved, model)
    assert reason is None
    assert second[0, 0] == pytest.approx(first[0, 0], abs=5e-3)
    assert mixtures.p_clean(second, model, moved) == pytest.approx(
        mixtures.p_clean(first, model, scores), abs=0.02
    )


def test_scores_that_are_nearly_equal_are_looked_at_more_closely() -> None:
    artefact, total = passes([(1000 + 0.05 * two_groups()).astype(np.float32)])
    assert artefact["passes"] == 3
    first, last = mixtures._percentiles(total["counts"][None, :])
    assert last - first >= 64
    assert passes([two_groups()])[0]["passes"] == 2


def test_scores_of_two_values_are_two_groups() -> None:
    found, reason = fitted(np.repeat(np.array([0, 1], np.float32), [300, 700]))
    assert reason is None
    assert found[0, [0, 1, 3]] == pytest.approx([0.7, 0, 1], abs=1e-3)


# --- refusals


def one_group(name: str) -> Floats:
    generator = np.random.default_rng(0)
    return {
        "normal": generator.normal(0.25, 0.05, 50_000),
        "skewed": generator.lognormal(0, 0.5, 50_000),
        "steep": generator.exponential(1.0, 50_000),
        "long tails": generator.standard_t(3, 50_000),
        "too near": np.concatenate([generator.normal(0, 1, 25_000), generator.normal(1.5, 1, 25_000)]),
        "too small": np.concatenate([generator.normal(0, 1, 50_000), generator.normal(9, 1, 400)]),
    }[name]


@each_model
@pytest.mark.parametrize("name", ["normal", "skewed", "steep", "long tails", "too near", "too small"])
def test_one_group_has_no_mixture(name: str, model: mixtures.Model) -> None:
    found, reason = fitted(one_group(name), model)
    assert np.isnan(found).all()
    assert reason is not None
    assert reason.startswith("one group: ")


@each_model
@pytest.mark.parametrize("scores", [np.full(5000, 0.3), np.append(np.full(5000, 0.3), [0.1, 0.9])])
def test_equal_scores_have_no_mixture(scores: Floats, model: mixtures.Model) -> None:
    assert fitted(scores, model)[1] == "the scores are all equal, or nearly"


def test_too_few_scores_have_no_mixture() -> None:
    assert fitted(two_groups(count=999), at_least_rows=1000)[1] == (
        "999 scores are too few to fit, below at_least_rows 1,000"
    )
    assert fitted(two_groups(count=1000), at_least_rows=1000)[1] is None


@pytest.mark.parametrize("scores", [[], [np.nan] * 9, [np.inf, -np.inf]])
def test_no_finite_score_ends_at_once(scores: list[float]) -> None:
    artefact, _ = passes([np.array(scores, np.float32)])
    assert artefact["complete"]
    assert artefact["passes"] == 1
    assert fitted(np.array(scores, np.float32))[1] is not None
    assert mixtures.advance(mixtures.begin(), None)["complete"]


# --- many histograms


@each_model
def test_clusters_are_fitted_as_if_each_were_alone(model: mixtures.Model) -> None:
    scores = np.concatenate([two_groups(WIDE_NOISE, 4000), two_groups(WIDE_CLEAN, 3000), two_groups()[:50]])
    cluster = np.repeat(np.array([2, 0, 3], np.int32), [4000, 3000, 50])
    artefact, _ = passes([scores])
    counts = mixtures.count_clusters(artefact, scores, cluster)
    assert counts.shape == (4, mixtures.CLUSTER_BINS)
    assert counts.sum(axis=1).tolist() == [3000, 0, 4000, 50]
    found, reasons = mixtures.fit(counts, artefact["range"], model, 1000)
    assert [reason is None for reason in reasons] == [True, False, True, False]
    for row, groups in ((0, WIDE_CLEAN), (2, WIDE_NOISE)):
        assert found[row, :5] == pytest.approx(groups, abs=0.03)
        alone, _ = mixtures.fit(counts[row : row + 1], artefact["range"], model, 1000)
        assert alone[0] == pytest.approx(found[row], rel=1e-9)


def test_each_score_is_judged_by_its_own_mixture() -> None:
    first, second = fitted(two_groups(WIDE_NOISE))[0], fitted(two_groups(WIDE_CLEAN))[0]
    table = np.concatenate([first, second, np.full((1, 7), np.nan)])
    scores = two_groups(count=300)
    which = np.arange(300) % 3
    chances = mixtures.p_clean(table, "gaussian", scores, which)
    assert np.isnan(chances[2::3]).all()
    for row, parameters in enumerate((first, second)):
        expected = mixtures.p_clean(parameters, "gaussian", scores[row::3])
        assert np.array_equal(chances[row::3], expected)


# --- the probability


def test_bayes_rule_alone_gives_the_best_scores_to_the_noise() -> None:
    """ALGORITHMS 5.1: without the correction the probability falls from near 1 to near 0."""
    found, _ = fitted(two_groups((0.7, 0.12, 0.08, 0.28, 0.04)))
    share, noisy, noisy_sd, clean, clean_sd = found[0, :5]

    def bayes(score: float) -> float:
        one, two = (
            weight / sd * np.exp(-((score - mean) ** 2) / (2 * sd**2))
            for weight, mean, sd in ((share, clean, clean_sd), (1 - share, noisy, noisy_sd))
        )
        return float(one / (one + two))

    chances = mixtures.p_clean(found, "gaussian", np.array([0.2, 0.32, 0.5, 0.6], np.float32))
    assert chances[:2] == pytest.approx([bayes(0.2), bayes(0.32)], abs=1e-6)
    assert bayes(0.32) > 0.98
    assert bayes(0.6) < 0.05
    assert chances[3] == chances[2] >= chances[1]


@each_model
@pytest.mark.parametrize("seed", range(30))
def test_the_probability_never_falls_when_the_score_rises(seed: int, model: mixtures.Model) -> None:
    generator = np.random.default_rng(seed)
    means = np.sort(generator.uniform(0.15, 0.85, 2))
    sds = generator.uniform(0.01, 0.12, 2)
    parameters = np.array([[generator.uniform(0.02, 0.98), means[0], sds[0], means[1], sds[1], 0.0, 1.0]])
    scores = np.concatenate([[-np.inf, -1e30], np.linspace(-1, 2, 3001), [1e30, np.inf]]).astype(np.float32)
    chances = mixtures.p_clean(parameters, model, scores)
    assert ((chances >= 0) & (chances <= 1)).all()
    assert all(later >= earlier - 1e-12 for earlier, later in pairwise(chances.tolist()))


@each_model
def test_between_the_turning_points_it_is_bayes_rule(model: mixtures.Model) -> None:
    stats = pytest.importorskip("scipy.stats")
    share, noisy, noisy_sd, clean, clean_sd = (0.6, 0.3, 0.05, 0.6, 0.1)
    low, high = -0.5, 2.0
    scores = np.linspace(noisy, clean, 50)

    def density(mean: float, sd: float) -> Any:
        if model == "gaussian":
            return stats.norm(mean, sd).pdf(scores)
        middle, variance = (mean - low) / (high - low), (sd / (high - low)) ** 2
        size = middle * (1 - middle) / variance - 1
        return stats.beta(middle * size, (1 - middle) * size, low, high - low).pdf(scores)

    odds = share * density(clean, clean_sd) / ((1 - share) * density(noisy, noisy_sd))
    parameters = np.array([[share, noisy, noisy_sd, clean, clean_sd, low, high]])
    assert mixtures.p_clean(parameters, model, scores) == pytest.approx(odds / (1 + odds), abs=1e-5)


def test_a_missing_score_has_no_probability() -> None:
    found, _ = fitted(two_groups())
    chances = mixtures.p_clean(found, "gaussian", np.array([np.nan, 0.5], np.float32))
    assert np.isnan(chances).tolist() == [True, False]
    assert len(mixtures.p_clean(found, "gaussian", np.array([], np.float32))) == 0


@each_model
def test_the_score_that_reaches_a_probability(model: mixtures.Model) -> None:
    found, _ = fitted(two_groups(), model)
    for probability in (0.1, 0.5, 0.9):
        score = mixtures.score_reaching(found, model, probability)
        assert score is not None
        around = np.array([score - 1e-4, score + 1e-4])
        below, above = mixtures.p_clean(found, model, around)
        assert below < probability < above
    unsure = np.array([[0.02, 0.4, 0.2, 0.41, 0.2, 0.0, 1.0]])
    assert mixtures.score_reaching(unsure, "gaussian", 0.9) is None


def test_quantiles_show_what_the_fit_makes_of_the_scores() -> None:
    scores = two_groups()
    artefact, total = passes([scores])
    found, _ = fitted(scores)
    shown = mixtures.at_quantiles(total["counts"], artefact["range"], found, "gaussian")
    assert [row["quantile"] for row in shown] == list(mixtures.QUANTILES)
    expected = np.quantile(scores, mixtures.QUANTILES)
    assert [row["score"] for row in shown] == pytest.approx(expected.tolist(), abs=1e-3)
    chances = [row["p_clean"] for row in shown]
    assert chances == sorted(chances)
    assert chances[0] < 0.1
    assert chances[-1] > 0.9


# --- passes


def test_partition_and_order_change_nothing() -> None:
    scores = np.append(two_groups(count=5000), np.float32(np.nan))
    whole, counts = passes([scores])
    shuffled = np.random.default_rng(1).permutation(scores)
    for parts in (2, 7, 64):
        artefact, total = passes(np.array_split(shuffled, parts))
        assert artefact == whole
        assert all(np.array_equal(total[name], counts[name]) for name in counts)


def test_every_score_between_the_percentiles_is_counted() -> None:
    for seed in range(20):
        scores = two_groups(count=2000, seed=seed) * np.float32(10.0 ** (seed - 10))
        _, total = passes([scores])
        low, high = np.quantile(scores, [0.01, 0.99], method="inverted_cdf")
        assert total["counts"].sum() >= np.count_nonzero((scores >= low) & (scores <= high))
