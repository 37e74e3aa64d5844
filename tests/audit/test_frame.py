"""The rows of a decision in their strata."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from curate.audit.draw import BORDERLINE_BIT, FLAGS, RARE_BIT, draw
from curate.audit.frame import collect, distance_bins, groups_of, last_near, rare_clusters, smallest
from curate.explain import stored_steps
from curate.query import Decision, open_decision
from filters.core.errors import QueryError
from tests.audit.conftest import metadata_pool
from tests.pools import photo, sample
from tests.report.conftest import taken
from tests.running import ask, curate
from transforms.store import Store


def counted(decision: Decision) -> dict[tuple[str, str, int], int]:
    """(Filter, verdict, flags) -> rows."""
    steps = stored_steps(decision.manifest)
    rows = collect(decision, steps, 5, 0).rows
    groups = groups_of(steps)
    return {(*groups[code // FLAGS], code % FLAGS): int(rows[code]) for code in np.flatnonzero(rows).tolist()}


def test_strata_add_up_to_what_was_decided_and_failed_rows_are_left_out(mixed: Decision) -> None:
    found = counted(mixed)
    verdicts = mixed.manifest["verdicts"]
    assert sum(found.values()) == mixed.manifest["rows"] - verdicts["failed"]
    assert sum(rows for (name, _, _), rows in found.items() if not name) == verdicts["keep"]
    for name, dropped in mixed.manifest["dropped_by"].items():
        assert sum(rows for (by, _, _), rows in found.items() if by == name) == dropped


def test_borderline_is_what_lies_nearest_to_the_bound_on_both_sides(tmp_path: Path) -> None:
    members = [
        one for at in range(20) for one in sample(f"{at:03d}", photo(at, side=30 + at), f"a picture {at}")
    ]
    decision = taken(tmp_path, [members[:12], members[12:]], "name: n\nfilters:\n  - min_side_pixels: 40")
    found = counted(decision)
    # Ten stopped, 30 to 39 pixels: the fifth nearest to 40 is 39 and 38; as many of 40 to 49.
    assert found == {
        ("", "keep", 0): 8,
        ("", "keep", BORDERLINE_BIT): 2,
        ("min_side_pixels", "drop", 0): 8,
        ("min_side_pixels", "drop", BORDERLINE_BIT): 2,
    }
    drawn = draw(collect(decision, stored_steps(decision.manifest), 20, 0))
    sides = {(row["shard"], row["row"]): row["width"] for row in ask(decision.store, "SELECT * FROM samples")}
    uris = {part["number"]: part["uri"] for part in decision.manifest["parts"]}
    near = {sides[uris[one.part], one.row] for one in drawn if one.stratum.borderline}
    assert near == {38, 39, 40, 41}


def test_a_value_that_is_not_known_is_not_borderline(tmp_path: Path) -> None:
    metadata_pool(tmp_path / "pool", widths=[None, 10, 90, 95, 99, 100, None])
    text = "name: n\nfilters:\n  - min_side_pixels: {at_least: 100, on_null: quarantine}"
    run = curate(text, tmp_path / "pool", tmp_path / "store")
    found = counted(open_decision(Store.at(str(tmp_path / "store")), run.ledger))
    assert found == {
        ("", "keep", 0): 1,
        ("min_side_pixels", "quarantine", 0): 2,
        ("min_side_pixels", "drop", 0): 2,
        ("min_side_pixels", "drop", BORDERLINE_BIT): 2,  # the fifth of six
    }


def test_rare_clusters_are_those_of_the_first_step_with_clusters(clustered: Decision) -> None:
    sizes = {
        row["cluster_id"]: row["samples"]
        for row in ask(clustered.store, "FROM clusters WHERE step = 'drop_near_duplicates'")
    }
    found = rare_clusters(clustered)
    assert found.step == "drop_near_duplicates"
    chosen = smallest(np.array(list(sizes.values())))
    assert found.clusters.tolist() == [name for name, rare in zip(sizes, chosen, strict=True) if rare]
    rows = sum(rows for (_, _, flags), rows in counted(clustered).items() if flags & RARE_BIT)
    assert rows == sum(sizes[name] for name in found.clusters.tolist())


def test_without_clusters_nothing_is_rare(mixed: Decision) -> None:
    assert rare_clusters(mixed).step is None
    assert not any(flags & RARE_BIT for _, _, flags in counted(mixed))


def test_a_pool_without_rows_has_nothing_to_draw(tmp_path: Path) -> None:
    recipe = "name: n\nmax_failed_fraction: 1\nfilters:\n  - min_side_pixels: 9\n  - drop_exact_duplicates"
    decision = taken(tmp_path, [[]], recipe)
    with pytest.raises(QueryError, match="no sample to look at"):
        draw(collect(decision, stored_steps(decision.manifest), 5, 0))


@pytest.mark.parametrize(
    ("sizes", "rare"),
    [
        ([1, 2, 97], [True, True, False]),
        ([90, 5, 5], [False, True, True]),
        ([80, 5, 5, 5, 5], [False] * 5),  # equal ones stay together, and are more than a tenth
        ([10], [False]),
        ([1, 99], [True, False]),
    ],
)
def test_the_smallest_clusters_hold_a_tenth_at_most(sizes: list[int], rare: list[bool]) -> None:
    assert smallest(np.array(sizes)).tolist() == rare


def test_distances_are_binned_in_order_and_told_apart_to_three_per_cent() -> None:
    values = np.sort(np.concatenate([[0.0, -0.0, 5e-324, np.inf], np.logspace(-300, 300, 4001)]))
    bins = distance_bins(values)
    assert (np.diff(bins) >= 0).all()
    assert bins.max() < 65536
    exact = np.logspace(-5, 5, 500)
    assert (distance_bins(exact) < distance_bins(exact * 1.04)).all()


@pytest.mark.parametrize(
    ("counts", "wanted", "last"),
    [
        ([0, 5, 5, 5, 5], 5, 1),
        ([0, 5, 5, 5, 5], 6, 2),
        ([0, 5, 5, 5, 5], 0, -1),  # the filter stopped nothing
        ([0, 5, 90, 5], 8, 1),  # the second bin is more than half of all: its rows are like the rest
        ([0, 90, 5, 5], 8, -1),
        ([0, 0, 0], 3, -1),
        ([0, 0, 1], 1, -1),  # one row alone is all there is
    ],
)
def test_near_is_the_least_that_holds_as_many_as_wanted(counts: list[int], wanted: int, last: int) -> None:
    whole = np.zeros(65536, np.int64)
    whole[: len(counts)] = counts
    assert last_near(whole, wanted) == last


def test_unknown_distances_are_never_near() -> None:
    whole = np.zeros(65536, np.int64)
    whole[int(distance_bins(np.array([np.inf]))[0])] = 100
    whole[3] = 2
    assert last_near(whole, 20) == 3
