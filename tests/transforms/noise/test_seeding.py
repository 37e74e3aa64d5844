"""What a signal is certain of: probabilities, a mixture where there are two groups, else tails."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from transforms.noise.seeding import Seeding, seeding


def groups(count: int = 4000) -> np.ndarray:
    generator = np.random.default_rng(0)
    centres = np.where(np.arange(count) % 4 == 0, 0.1, 0.3)
    return generator.normal(centres, 0.03)


def test_probabilities_are_taken_as_they_are() -> None:
    values = np.array([0.2, 1.0, np.nan], np.float32)
    assert seeding(values, "p_noise", 0.1, 0.5).p_noise(values) == pytest.approx(
        [0.2, 1, np.nan], nan_ok=True
    )
    assert seeding(values, "p_clean", 0.1, 0.5).p_noise(values) == pytest.approx(
        [0.8, 0, np.nan], nan_ok=True
    )


@pytest.mark.parametrize(("says", "values"), [("p_noise", [0.2, 1.4]), ("p_clean", [-0.3, np.nan])])
def test_a_probability_outside_of_its_range_is_refused(says: Any, values: list[float]) -> None:
    with pytest.raises(
        ValueError, match=rf"{says} lies in \[0, 1\], but values reach from .*: is it a score"
    ):
        seeding(np.array(values), says, 0.1, 0.5)
    assert seeding(np.array([np.nan]), says, 0.1, 0.5).by == "probability"
    assert seeding(np.array([1.0000001, 0]), says, 0.1, 0.5).p_noise(np.array([1.0000001])).max() <= 1


def test_two_groups_are_told_apart_by_their_mixture() -> None:
    scores = groups()
    found = seeding(scores, "agreement", 0.1, 0.5)
    assert (found.by, found.reason) == ("mixture", None)
    assert found.p_noise(np.array([0.05, 0.35])) == pytest.approx([1, 0], abs=0.01)
    doubt = seeding(-scores, "doubt", 0.1, 0.5)
    assert doubt.p_noise(-scores) == pytest.approx(found.p_noise(scores), abs=1e-6)


def test_one_group_is_cut_at_its_tails() -> None:
    scores = np.arange(100) / 100
    found = seeding(np.append(scores, np.nan), "agreement", 0.1, 0.3)
    assert found.by == "tails"
    assert found.reason == "100 scores are too few to fit, below at_least_rows 1,000"
    p_noise = found.p_noise(np.append(scores, np.nan))
    assert p_noise[:10].tolist() == [1.0] * 10
    assert p_noise[10:70].tolist() == [0.5] * 60
    assert p_noise[70:100].tolist() == [0.0] * 30
    assert np.isnan(p_noise[100])
    doubt = seeding(-scores, "doubt", 0.1, 0.3)
    assert doubt.p_noise(-scores).tolist() == p_noise[:100].tolist()


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        (np.full(2000, 0.3), "the scores are all equal, or nearly"),
        (np.array([0.1, 0.2]), "2 scores have no tails"),
        (np.full(50, np.nan), "0 scores have no tails"),
        (np.zeros(0), "0 scores have no tails"),
    ],
)
def test_where_there_are_no_sides_there_is_a_reason(scores: np.ndarray, reason: str) -> None:
    found = seeding(scores, "agreement", 0.1, 0.5)
    assert (found.by, found.reason) == ("nothing", reason)
    assert np.isnan(found.p_noise(np.array([0.1, 0.5]))).all()


def test_it_survives_json() -> None:
    scores = groups()
    found = seeding(scores, "agreement", 0.1, 0.5)
    again = Seeding(**{**asdict(found), "mixture": list(found.mixture)})
    assert np.array_equal(again.p_noise(scores), found.p_noise(scores))
