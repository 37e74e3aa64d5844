from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from filters.core import ranks
from filters.core.fusion import Floats, ranked
from filters.core.selection import order_keys

GENERATOR = np.random.default_rng(0)
PILE = np.where(GENERATOR.random(20_000) < 0.7, 0.5, GENERATOR.random(20_000))
POOLS: dict[str, Any] = {
    "cosines": GENERATOR.normal(0.25, 0.03, 20_000),
    "probabilities near one": 1 - GENERATOR.random(20_000) ** 8,
    "heavy tails": GENERATOR.standard_cauchy(20_000),
    "huge and infinite": np.concatenate([GENERATOR.normal(0, 1, 500), [1e38, np.inf, -np.inf]]),
    "a narrow range": 1 + GENERATOR.random(20_000) * 1e-6,
    "few values": GENERATOR.integers(0, 5, 2000),
    "one value": np.full(1000, 0.3),
    "a pile among others": PILE,
    "two samples": np.array([3.0, 4.0]),
    "one sample": np.array([-3.0]),
}
each_pool = pytest.mark.parametrize("name", POOLS)


def fitted(*columns: Any, parts: int = 1) -> dict[str, Any]:
    """The finished fit, counted in so many parts."""
    artefact = ranks.begin(len(columns))
    keys = [order_keys(np.asarray(column, np.float32)) for column in columns]
    while not artefact["complete"]:
        total = None
        for part in range(parts):
            one = ranks.count(artefact, [some[part::parts] for some in keys])
            total = one if total is None else ranks.merge(total, one)
        assert total is not None
        artefact = json.loads(json.dumps(ranks.advance(artefact, total)))
    return artefact


def ranks_of(column: Any, artefact: dict[str, Any] | None = None) -> Floats:
    table = ranks.rank_tables(artefact or fitted(column))[0]
    assert table is not None
    return table.ranks(order_keys(np.asarray(column, np.float32)))


def odds(values: Floats) -> Floats:
    return np.log(values) - np.log1p(-values)


@each_pool
def test_ranks_are_those_of_the_sorted_pool(name: str) -> None:
    scores = POOLS[name].astype(np.float32)
    found, exact = ranks_of(scores), ranked(scores)
    assert np.abs(odds(found) - odds(exact)).max() < ranks.LOOSE * ranks.STEP
    assert np.abs(found - exact).max() < 0.02


@each_pool
def test_a_higher_score_has_a_higher_rank_and_equal_scores_share_theirs(name: str) -> None:
    scores = np.unique(POOLS[name].astype(np.float32))
    found = ranks_of(scores, fitted(POOLS[name]))
    assert (np.diff(found) > 0).all()
    assert 0 < found[0] <= found[-1] < 1


@each_pool
def test_a_fit_does_not_depend_on_parts_and_is_small(name: str) -> None:
    whole = fitted(POOLS[name])
    assert fitted(POOLS[name][::-1], parts=7) == whole
    assert whole["passes"] <= ranks.MOST_PASSES
    assert len(json.dumps(whole)) < 100_000


def test_a_pile_has_its_mean_rank_exactly() -> None:
    found = ranks_of(PILE)
    assert found[PILE == 0.5] == pytest.approx(ranked(PILE)[PILE == 0.5], abs=1e-9)


def test_columns_are_fitted_together_however_many_passes_each_takes() -> None:
    columns = [POOLS["few values"], POOLS["probabilities near one"], np.zeros(0), POOLS["cosines"]]
    together = fitted(*columns)
    alone = [fitted(column)["tables"][0] for column in columns]
    assert together["tables"] == alone
    assert alone[2] is None
    assert ranks.rank_tables(together)[2] is None
    assert ranks.rank_tables(ranks.begin(1)) == [None]


def test_scores_that_the_pool_lacks_lie_between_those_it_has() -> None:
    artefact = fitted(np.array([1.0, 2.0, 3.0]))
    assert ranks_of(np.array([0.0, 1.0, 1.5, 2.0, 9.0]), artefact) == pytest.approx(
        [1 / 6, 1 / 6, ranks_of(np.array([1.5]), artefact)[0], 1 / 2, 5 / 6]
    )
    assert 1 / 6 < ranks_of(np.array([1.5]), artefact)[0] < 1 / 2
