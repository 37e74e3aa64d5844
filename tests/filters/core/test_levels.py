from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from filters.core.levels import CC3M, PRESETS, Levels, equal_width


def test_the_published_edges_of_cc3m_are_of_equal_width() -> None:
    levels = PRESETS["cc3m"]
    assert levels.edges == CC3M
    assert np.diff(CC3M) == pytest.approx([0.06494068] * 8, abs=1e-8)
    assert equal_width(CC3M[0], CC3M[-1]).edges == pytest.approx(CC3M, abs=1e-15)
    assert len(levels) == 8


def test_a_score_on_an_edge_belongs_to_the_upper_level() -> None:
    inner = np.array(CC3M[1:-1], np.float32)
    below = np.nextafter(inner, np.float32(-1))
    assert PRESETS["cc3m"].of(inner).to_pylist() == [1, 2, 3, 4, 5, 6, 7]
    assert PRESETS["cc3m"].of(below).to_pylist() == [0, 1, 2, 3, 4, 5, 6]


def test_scores_beyond_the_outer_edges_have_the_outer_levels() -> None:
    scores = np.array([-np.inf, -1.0, CC3M[0], 0.0, 0.25, CC3M[-1], 1.0, np.inf], np.float32)
    assert PRESETS["cc3m"].of(scores).to_pylist() == [0, 0, 0, 0, 4, 7, 7, 7]


def test_a_missing_score_has_no_level_instead_of_the_best() -> None:
    assert PRESETS["cc3m"].of(np.array([np.nan, 0.3], np.float32)).to_pylist() == [None, 5]
    assert PRESETS["cc3m"].of(np.array([], np.float32)) == pa.array([], pa.int8())


def test_the_width_of_the_scores_type_does_not_matter() -> None:
    scores = np.random.default_rng(0).uniform(-0.1, 0.6, 1000).astype(np.float32)
    assert PRESETS["cc3m"].of(scores) == PRESETS["cc3m"].of(scores.astype(np.float64))
    by_hand = [sum(score >= np.float32(edge) for edge in CC3M[1:-1]) for score in scores]
    assert PRESETS["cc3m"].of(scores).to_pylist() == by_hand


def test_the_centre_of_a_level_has_that_level() -> None:
    levels = PRESETS["cc3m"]
    assert levels.of(levels.centres()).to_pylist() == list(range(8))
    assert levels.centres()[0] == pytest.approx((CC3M[0] + CC3M[1]) / 2)


@pytest.mark.parametrize("edges", [(), (0.0, 1.0), (0.0, 1.0, 1.0), (0.0, 1.0, 0.5), (0.0, 1.0, np.inf)])
def test_edges_that_do_not_rise_are_refused(edges: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="rising edges"):
        Levels(edges)


@pytest.mark.parametrize("count", [0, 1, 128])
def test_too_few_or_too_many_levels_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"not {count}"):
        equal_width(0.0, 1.0, count)
    assert len(equal_width(0.0, 1.0, 127)) == 127
