from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from filters.core.fusion import (
    Floats,
    Goal,
    LabelModel,
    Votes,
    accuracies,
    agreement,
    choose_cut,
    combined_ranks,
    cross_fitted,
    fit_label_model,
    pattern_counts,
    patterns,
    precision_bound,
    ranked,
)


def identities(count: int) -> NDArray[np.uint64]:
    return np.random.default_rng(9).integers(0, 2**64, (count, 2), dtype=np.uint64)


def voters(
    seed: int, right: list[float], copied: tuple[int, ...] = (), abstain: float = 0.1, count: int = 20_000
) -> tuple[Votes, NDArray[np.bool_]]:
    """Detectors that are right so often, near-copies of some of them, and who is noise (30 %)."""
    generator = np.random.default_rng(seed)
    noise = generator.random(count) < 0.3
    votes = [np.where(generator.random(count) < share, noise, ~noise) for share in right]
    votes += [np.where(generator.random(count) < 0.97, votes[at], ~votes[at]) for at in copied]
    found = np.stack(votes, axis=1).astype(np.int8)
    found[generator.random(found.shape) < abstain] = -1
    return found, noise


def plain_em(votes: Votes, steps: int = 3000) -> Floats:
    """Dawid and Skene's EM row by row, with the same smoothing."""
    voted = votes >= 0
    noise = 0.05 + 0.9 * (votes == 1).sum(axis=1) / voted.sum(axis=1)
    for _ in range(steps):
        share = (noise.sum() + 1) / (len(votes) + 2)
        odds = np.full(len(votes), np.log(share / (1 - share)))
        for column in votes.T:
            ones = [(side[column == 1].sum() + 1, side[column == 0].sum() + 1) for side in (1 - noise, noise)]
            right = [np.log(one / (one + zero)) for one, zero in ones]
            wrong = [np.log(zero / (one + zero)) for one, zero in ones]
            odds += np.where(column == 1, right[1] - right[0], np.where(column == 0, wrong[1] - wrong[0], 0))
        noise = 1 / (1 + np.exp(-odds))
    return noise


def test_patterns_and_their_counts_are_inverse_and_add_up() -> None:
    votes = patterns(4)
    assert votes.shape == (81, 4)
    assert (pattern_counts(votes) == 1).all()
    some, _ = voters(0, [0.8, 0.7], count=500)
    counts = pattern_counts(some)
    assert np.array_equal(pattern_counts(some[:200]) + pattern_counts(some[200:][::-1]), counts)
    assert (
        counts[np.flatnonzero((patterns(2) == [1, -1]).all(axis=1))[0]] == (some == [1, -1]).all(axis=1).sum()
    )
    assert pattern_counts(np.zeros((0, 2), np.int8)).tolist() == [0] * 9


@pytest.mark.parametrize("seed", range(3))
def test_reliabilities_and_noise_share_are_found_without_truth(seed: int) -> None:
    votes, noise = voters(seed, [0.9, 0.75, 0.8])
    model = fit_label_model(pattern_counts(votes))
    assert model.noise_share == pytest.approx(0.3, abs=0.03)
    assert model.reliability() == pytest.approx([0.9, 0.75, 0.8], abs=0.03)
    assert model.independence == pytest.approx(1, abs=0.01)
    known = (votes >= 0).any(axis=1)
    found = model.p_noise(votes)
    assert np.isnan(found).tolist() == (~known).tolist()
    for low, high in ((0, 0.2), (0.2, 0.8), (0.8, 1)):
        inside = known & (found >= low) & (found < high)
        assert noise[inside].mean() == pytest.approx(found[inside].mean(), abs=0.06)


def test_three_independent_detectors_are_dawid_and_skene_s() -> None:
    votes, _ = voters(1, [0.9, 0.75, 0.8], count=2000)
    votes = votes[(votes >= 0).any(axis=1)]
    model = fit_label_model(pattern_counts(votes))
    if (model.independence > 0.9999).all():
        assert model.p_noise(votes) == pytest.approx(plain_em(votes), abs=1e-4)
    else:
        pytest.fail(f"three detectors always fit: {model.independence}")


@pytest.mark.parametrize("seed", range(3))
def test_a_detector_s_near_copy_counts_as_one_with_it(seed: int) -> None:
    votes, _ = voters(seed, [0.7, 0.8, 0.75, 0.65, 0.9], copied=(3,))
    model = fit_label_model(pattern_counts(votes))
    assert model.reliability() == pytest.approx([0.7, 0.8, 0.75, 0.65, 0.9, 0.64], abs=0.03)
    assert model.independence[[3, 5]] == pytest.approx(0.52, abs=0.05)
    assert (model.independence[[0, 1, 2, 4]] > 0.95).all()


def test_a_block_of_copies_is_told_apart_only_by_its_group() -> None:
    votes, noise = voters(2, [0.8, 0.8, 0.8, 0.7], copied=(3, 3))
    known = (votes >= 0).any(axis=1)
    counts = pattern_counts(votes)
    misled = fit_label_model(counts)
    told = fit_label_model(counts, groups=(0, 1, 2, 3, 3, 3))
    assert misled.reliability()[3] > 0.95
    assert told.reliability() == pytest.approx([0.8, 0.8, 0.8, 0.7, 0.68, 0.68], abs=0.03)
    assert told.independence[3:] == pytest.approx(1 / 3, abs=0.05)
    errors = [((model.p_noise(votes) - noise)[known] ** 2).mean() for model in (misled, told)]
    assert errors[1] < errors[0] / 3


def test_accuracies_solve_a_matrix_of_products_and_ignore_a_pair_that_does_not_fit() -> None:
    truth = np.array([0.8, 0.6, 0.5, 0.7, 0.3])
    matrix = np.outer(truth, truth)
    assert accuracies(matrix) == pytest.approx(truth, abs=1e-3)
    matrix[0, 1] = matrix[1, 0] = 0.95
    assert accuracies(matrix) == pytest.approx(truth, abs=0.01)
    assert accuracies(np.full((3, 3), np.nan)).tolist() == [0, 0, 0]


def test_a_sample_is_judged_by_the_model_of_the_other_folds() -> None:
    votes, _ = voters(3, [0.9, 0.75, 0.8], count=3000)
    folds = np.arange(3000) % 3
    counts = np.stack([pattern_counts(votes[folds == fold]) for fold in range(3)])
    found = cross_fitted(votes, folds, counts)
    model = fit_label_model(counts[1] + counts[2])
    assert np.array_equal(found[folds == 0], model.p_noise(votes[folds == 0]), equal_nan=True)
    some = cross_fitted(votes[100:200], folds[100:200], counts)
    assert np.array_equal(some, found[100:200], equal_nan=True)


def test_detectors_that_are_wrong_on_the_whole_do_not_flip_the_answer_of_the_others() -> None:
    votes, noise = voters(4, [0.9, 0.85, 0.8, 0.3])
    model = fit_label_model(pattern_counts(votes))
    assert model.reliability()[3] == pytest.approx(0.3, abs=0.03)
    assert model.weights()[3] == 0
    known = (votes >= 0).any(axis=1)
    assert ((model.p_noise(votes) > 0.5) == noise)[known].mean() > 0.9


def test_what_agreement_cannot_tell_is_refused() -> None:
    votes, _ = voters(5, [0.9, 0.8, 0.7], count=300)
    with pytest.raises(ValueError, match=r"of several of 3 or more groups, not \[0, 1\]"):
        fit_label_model(pattern_counts(votes[:, :2]))
    with pytest.raises(ValueError, match=r"not \[0, 0, 1\]"):
        fit_label_model(pattern_counts(votes), groups=(0, 0, 1))
    with pytest.raises(ValueError, match="of several of 3 or more groups"):
        fit_label_model(np.zeros(27, np.int64))
    with pytest.raises(ValueError, match=r"28 counts are not 3\^m"):
        fit_label_model(np.zeros(28, np.int64))
    for wrong in (np.full((1, 3), 2, np.int8), np.zeros((1, 13), np.int8)):
        with pytest.raises(ValueError, match="votes are -1, 0 or 1 of at most 12 detectors"):
            pattern_counts(wrong)


def test_agreement_is_that_of_the_votes_themselves() -> None:
    votes, _ = voters(6, [0.9, 0.7, 0.6], copied=(0,), abstain=0.3, count=2000)
    found = agreement(pattern_counts(votes))
    assert found.coverage == pytest.approx((votes >= 0).mean(axis=0))
    for one in range(4):
        for other in range(4):
            both = (votes[:, one] >= 0) & (votes[:, other] >= 0)
            left, right = votes[both, one], votes[both, other]
            assert found.both[one, other] == both.sum()
            assert found.agree[one, other] == pytest.approx((left == right).mean())
            assert found.correlation[one, other] == pytest.approx(np.corrcoef(left, right)[0, 1])
    constant = agreement(pattern_counts(np.zeros((5, 2), np.int8)))
    assert np.isnan(constant.correlation).all()
    assert constant.agree.tolist() == [[1, 1], [1, 1]]
    assert np.isnan(agreement(np.zeros(9, np.int64)).coverage).all()


def test_agreement_of_billions_does_not_overflow() -> None:
    votes, _ = voters(7, [0.9, 0.7], count=1000)
    counts = pattern_counts(votes)
    assert agreement(counts * 10**7).correlation == pytest.approx(agreement(counts).correlation)


def test_ranks_are_shared_by_equal_scores_and_nan_stays() -> None:
    found = ranked(np.array([3.0, 1.0, 3.0, np.nan, 2.0]))
    assert found == pytest.approx([3 / 4, 0.5 / 4, 3 / 4, np.nan, 1.5 / 4], nan_ok=True)
    assert ranked(np.zeros(0)).tolist() == []
    assert ranked(np.full(3, 7.0)).tolist() == [0.5, 0.5, 0.5]


def test_combined_ranks_are_a_weighted_mean_over_those_that_are_known() -> None:
    ranks = np.array([[0.9, 0.1], [0.9, np.nan], [np.nan, np.nan], [0.7, 0.7]])
    found = combined_ranks(ranks, np.array([1.0, 1.0]))
    assert found == pytest.approx([0.5, 0.9, np.nan, 0.7], nan_ok=True)
    assert combined_ranks(ranks, np.array([2.0, 0.0]))[0] == pytest.approx(0.9)
    assert np.isnan(combined_ranks(ranks, np.zeros(2))).all()


def test_weights_are_log_odds_of_reliability_times_independence() -> None:
    given = np.array([[[0.2, 0.72, 0.08]] * 2, [[0.2, 0.08, 0.72]] * 2])
    model = LabelModel(0.3, given, np.array([1.0, 0.5]))
    assert model.weights() == pytest.approx([np.log(9), np.log(9) / 2])
    odds = np.log(0.3 / 0.7) + np.log(9)
    assert model.p_noise(np.array([[1, -1]], np.int8))[0] == pytest.approx(1 / (1 + np.exp(-odds)))


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.999])
def test_the_bound_is_the_beta_quantile(confidence: float) -> None:
    """As scipy.stats.beta.ppf, to 1e-9."""
    beta = pytest.importorskip("scipy.stats").beta
    for right, count in ((1, 1), (1, 50), (29, 29), (47, 50), (950, 1000), (5, 5000)):
        expected = beta.ppf(1 - confidence, right, count - right + 1)
        assert precision_bound(right, count, confidence) == pytest.approx(expected, abs=1e-9)
    assert precision_bound(0, 10, confidence) == 0


def test_all_right_has_a_bound_in_closed_form() -> None:
    assert precision_bound(29, 29, 0.95) == pytest.approx(0.05 ** (1 / 29))
    assert precision_bound(28, 28, 0.95) < 0.9 < precision_bound(29, 29, 0.95)


def test_the_furthest_cut_that_holds_is_chosen_on_either_side() -> None:
    uids, p_noise = identities(1000), np.arange(1000) / 1000
    ok = p_noise < 0.6
    audited = np.arange(0, 1000, 2)
    for side in ("kept", "dropped"):
        cut = choose_cut(uids, p_noise, uids[audited], ok[audited], Goal(0.9, side=side))
        assert cut.reason is None
        assert cut.bound is not None
        chosen = p_noise <= cut.bound if side == "kept" else p_noise >= cut.bound
        assert (ok[chosen] == (side == "kept")).mean() >= 0.9
        assert cut.audited == chosen[audited].sum()
        assert cut.precision_at_least >= 0.9
        assert chosen.mean() == pytest.approx(0.6 if side == "kept" else 0.4, abs=0.02)


def test_the_stated_confidence_holds_over_many_audits() -> None:
    generator = np.random.default_rng(8)
    uids, p_noise = identities(5000), np.sort(generator.random(5000))
    ok = generator.random(5000) < 1 - p_noise**2
    misses, found = 0, 0
    for _ in range(300):
        audited = generator.choice(5000, 200, replace=False)
        cut = choose_cut(uids, p_noise, uids[audited], ok[audited], Goal(0.85, confidence=0.9))
        found += cut.bound is not None
        misses += cut.bound is not None and ok[p_noise <= cut.bound].mean() < 0.85
    assert found > 200
    assert misses <= 30


def test_a_sample_that_is_too_small_or_too_bad_is_said_to_be() -> None:
    uids, p_noise = identities(200), np.arange(200) / 200
    good, bad = np.ones(200, bool), np.zeros(200, bool)
    cut = choose_cut(uids, p_noise, uids[:50], good[:50], Goal(0.9))
    assert cut.bound is None
    assert cut.reason == "50 audited samples are too few: it takes 51, all of them right"
    assert choose_cut(uids, p_noise, uids[:51], good[:51], Goal(0.9)).bound == p_noise[50]
    cut = choose_cut(uids, p_noise, uids, bad, Goal(0.9))
    assert cut.bound is None
    assert cut.reason is not None
    assert "no cut holds a precision of 0.9: the best of 10 holds 0.0000" in cut.reason
    none = choose_cut(uids, p_noise, uids[:0], good[:0], Goal(0.9))
    assert none.reason == "0 audited samples are too few: it takes 51, all of them right"


def test_equal_scores_fall_on_one_side_of_the_cut() -> None:
    uids, p_noise = identities(200), np.repeat([0.2, 0.8], 100)
    ok = p_noise < 0.5
    cut = choose_cut(uids, p_noise, uids, ok, Goal(0.9))
    assert (cut.bound, cut.audited) == (0.2, 100)


def test_repeated_answers_count_once_and_nan_scores_not_at_all() -> None:
    uids, p_noise = identities(100), np.arange(100) / 100
    p_noise[0] = np.nan
    twice = np.concatenate([uids, uids])
    cut = choose_cut(uids, p_noise, twice, np.ones(200, bool), Goal(0.5))
    assert cut.audited == 99


def test_answers_that_cannot_be_used_are_refused_by_uid() -> None:
    uids = np.array([[0, 1], [0, 2], [1, 256], [1, 256]], np.uint64)
    p_noise, yes = np.zeros(4), np.array([True])
    with pytest.raises(ValueError, match="uid 00000000000000000000000000000003 was audited but is not"):
        choose_cut(uids, p_noise, np.array([[0, 3]], np.uint64), yes, Goal(0.9))
    with pytest.raises(ValueError, match="uid 00000000000000010000000000000100 stands twice in the pool"):
        choose_cut(uids, p_noise, uids[2:3], yes, Goal(0.9))
    with pytest.raises(ValueError, match="uid 00000000000000000000000000000001 was called both ok and not"):
        choose_cut(uids, p_noise, uids[[0, 1, 0]], np.array([True, True, False]), Goal(0.9))
    for goal in (Goal(0.0), Goal(1.0), Goal(0.9, confidence=1.0), Goal(0.9, cuts=0)):
        with pytest.raises(ValueError, match="precision and confidence lie in"):
            choose_cut(uids, p_noise, uids[:1], yes, goal)
