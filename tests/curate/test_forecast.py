"""What comparing will read is said before any work, and what would be quadratic is refused."""

from __future__ import annotations

import pytest

from curate.forecast import LARGEST_PARTS, LARGEST_ROWS, Forecast, refuse_quadratic
from filters.core.errors import RecipeError
from filters.drop_copies import DropCopies
from filters.drop_near_duplicates import DropNearDuplicates
from transforms.exchange import plan_exchange
from transforms.relations.copies import Copies
from transforms.relations.near_duplicates import NearDuplicates

GIB, MIB = 1 << 30, 1 << 20


@pytest.mark.parametrize("rows", [0, 1, 1000, 10**5, 10**6, 10**8, LARGEST_ROWS])
@pytest.mark.parametrize("workers", [1, 2, 64])
def test_an_exchange_fits_its_workers(rows: int, workers: int) -> None:
    plan = plan_exchange(rows, 1100, max(1, rows // 10_000), 50_000, workers)
    assert 1 <= plan.lots <= max(1, rows // 10_000)
    assert 1 <= plan.blocks <= 50_000
    assert rows / plan.lots * 1100 <= 3 * GIB or plan.lots == max(1, rows // 10_000)
    assert rows * 1100 / plan.blocks <= 16 * GIB + 1100 * rows / 50_000
    assert plan.reads == 1 or plan.range_bytes >= MIB or rows * 1100 / plan.blocks > 15 * GIB


def test_the_largest_pool_is_read_in_ranges_of_a_megabyte() -> None:
    rule = DropNearDuplicates(cosine_above=0.95, clusters=50_000)
    plan = NearDuplicates.forecast(rule, LARGEST_ROWS, LARGEST_PARTS, 1000, 512)
    assert plan.range_bytes >= MIB
    cells = Forecast("step", LARGEST_ROWS, plan).cells()
    assert cells[:3] == ("step", "12,800,000,000", f"{LARGEST_ROWS * plan.record_bytes / 1e12:.3g} TB")


def test_copies_say_their_comparisons_and_refuse_what_is_quadratic() -> None:
    small = Copies.forecast(DropCopies(), 10**6, 100, 1, 0)
    large = Copies.forecast(DropCopies(), LARGEST_ROWS, LARGEST_PARTS, 1, 0)
    inside = Copies.forecast(
        DropCopies(within="clip_image", clusters=10**6), LARGEST_ROWS, LARGEST_PARTS, 1, 0
    )
    assert small.comparisons is not None
    assert large.comparisons is not None
    assert inside.comparisons is not None
    assert large.comparisons / small.comparisons > 10**6
    assert inside.comparisons < large.comparisons / 1000
    refuse_quadratic("step", 10**6, small)
    refuse_quadratic("step", LARGEST_ROWS, inside)
    refuse_quadratic("step", 10, None)
    with pytest.raises(RecipeError, match=r"filter step would compare about .* pairs.*set `within`"):
        refuse_quadratic("step", LARGEST_ROWS, large)
