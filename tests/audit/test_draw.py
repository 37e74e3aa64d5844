"""The draw: strata, budget, probabilities."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from curate.audit.draw import BORDERLINE_BIT, FLAGS, RARE_BIT, Candidates, allocate, draw
from filters.core.errors import QueryError
from tests.audit.conftest import GROUPS, make_world

SIZES = {(0, False): (40, 0.0), (0, True): (12, 0.5), (1, False): (9, 0.5), (3, False): (3, 1.0)}


def test_each_row_is_drawn_as_often_as_its_probability_says() -> None:
    world = make_world(SIZES)
    # Copies: one uid in several rows of a stratum.
    world.uids[:20] = world.uids[0]
    seeds = 600
    times, probability = np.zeros(len(world.codes)), np.zeros(len(world.codes))
    for seed in range(seeds):
        for one in draw(world.candidates(20, seed)):
            times[one.row] += 1
            probability[one.row] = one.stratum.probability
    spread = np.sqrt(probability * (1 - probability) / seeds)
    assert (np.abs(times / seeds - probability) <= 4 * spread + 1e-12).all()
    assert probability.min() > 0


def test_pairs_are_drawn_as_of_a_simple_random_sample() -> None:
    world = make_world({(0, False): (6, 0.0)})
    pairs = Counter(frozenset(one.row for one in draw(world.candidates(2, seed))) for seed in range(1500))
    assert len(pairs) == 15
    assert all(abs(count - 100) < 45 for count in pairs.values())


def test_every_stratum_has_two_or_all_it_has() -> None:
    world = make_world(
        {(0, False): (10_000, 0.0), (1, False): (1, 0.0), (2, True): (2, 0.0), (3, True): (50, 0.0)}
    )
    drawn = draw(world.candidates(7, 0))
    assert Counter(one.stratum.name for one in drawn) == {
        "keep": 2,
        "drop by small": 1,
        "quarantine by small, borderline": 2,
        "drop by wrong, borderline": 2,
    }


def test_probabilities_are_rows_drawn_of_rows_there() -> None:
    world = make_world(SIZES)
    drawn = draw(world.candidates(30, 1))
    assert len({one.row for one in drawn}) == len(drawn) == 30
    for stratum in {one.stratum for one in drawn}:
        inside = [one for one in drawn if one.stratum == stratum]
        assert stratum.probability == len(inside) / stratum.rows


def test_what_is_drawn_does_not_depend_on_how_the_rows_come() -> None:
    world = make_world(SIZES)
    whole = draw(world.candidates(20, 5))
    for pieces in (2, 7):
        found = Candidates(GROUPS, 20, 5)
        for rows in reversed(np.array_split(np.arange(len(world.codes)), pieces)):
            found.add(world.codes[rows], world.uids[rows], 0, rows)
        assert draw(found) == whole
    assert draw(world.candidates(20, 6)) != whole


def test_equal_content_in_two_parts_has_a_chance_of_its_own() -> None:
    uids = np.full((1, 2), 7, np.uint64)
    first = Counter[int]()
    for seed in range(200):
        found = Candidates(GROUPS, 1, seed)
        for part in (0, 1):
            found.add(np.zeros(1, np.int64), uids, part, np.zeros(1, np.int64))
        first[found.first([0])[0]["part"]] += 1
    assert 60 < first[0] < 140


def test_a_budget_beyond_the_pool_draws_all_of_it() -> None:
    drawn = draw(make_world(SIZES).candidates(1000, 0))
    assert len(drawn) == 64
    assert all(one.stratum.probability == 1 for one in drawn)


def test_one_row_is_drawn() -> None:
    (one,) = draw(make_world({(3, False): (1, 1.0)}).candidates(1, 0))
    assert (one.stratum.rows, one.stratum.drawn, one.row) == (1, 1, 0)


def test_nothing_to_draw_is_told() -> None:
    with pytest.raises(QueryError, match="no sample to look at: every one of the pool failed"):
        draw(Candidates(GROUPS, 10, 0))


def test_whoever_stops_early_has_seen_every_stratum_the_borderline_ones_first() -> None:
    world = make_world(
        {(0, False): (500, 0.0), (0, True): (60, 0.0), (1, True): (30, 0.0), (3, False): (90, 0.0)}
    )
    drawn = draw(world.candidates(80, 0))
    assert [one.stratum.borderline for one in drawn[:4]] == [True, True, False, False]
    assert len({one.stratum for one in drawn[:4]}) == 4
    for seen in range(1, 80):
        for stratum, many in Counter(one.stratum for one in drawn[:seen]).items():
            assert abs(many / stratum.drawn - seen / 80) <= 4 / 80 + 1 / stratum.drawn


def test_rare_then_borderline_are_given_up_where_the_budget_is_small() -> None:
    codes = np.repeat([0, RARE_BIT, BORDERLINE_BIT, FLAGS, FLAGS + BORDERLINE_BIT], 10)
    uids = np.random.default_rng(0).integers(0, 2**63, (50, 2), dtype=np.uint64)

    def names(budget: int) -> set[str]:
        found = Candidates(GROUPS, budget, 0)
        found.add(codes, uids, 0, np.arange(50))
        drawn = draw(found)
        assert len(drawn) == budget
        assert sum(stratum.rows for stratum in {one.stratum for one in drawn}) == 50
        return {one.stratum.name for one in drawn}

    assert names(10) == {
        "keep",
        "keep, rare cluster",
        "keep, borderline",
        "drop by small",
        "drop by small, borderline",
    }
    assert names(9) == {"keep", "keep, borderline", "drop by small", "drop by small, borderline"}
    assert names(7) == {"keep", "drop by small"}


def test_a_budget_too_small_for_what_was_decided_is_refused() -> None:
    world = make_world(SIZES)
    with pytest.raises(
        QueryError, match=r"budget of 5 is too small: it takes 6 .* each of 3 kinds .* raise --budget"
    ):
        draw(world.candidates(5, 0))


def test_the_budget_follows_the_roots_of_the_sizes_and_borderline_counts_twice() -> None:
    sizes = np.array([10_000, 100, 100], np.int64)
    assert allocate(sizes, np.array([100.0, 10.0, 20.0]), 130).tolist() == [100, 10, 20]
    assert allocate(np.array([5, 10_000]), np.array([9.0, 1.0]), 20).tolist() == [5, 15]
    drawn = draw(make_world({(0, False): (900, 0.0), (0, True): (900, 0.0)}).candidates(90, 0))
    assert Counter(one.stratum.borderline for one in drawn) == {True: 60, False: 30}
