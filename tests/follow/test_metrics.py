"""What a process says of its measuring: how long models were at work, and what waited for them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from curate.follow.metrics import Page, Process
from transforms.measuring import ShardReport

STATUS = {
    "ledger": "a-1",
    "shards": {"done": 2, "failed": 0, "waiting": 1},
    "drift": None,
    "windows": [],
    "lag_seconds": 0.0,
    "batches": 1,
    "verdicts": {"keep": 3},
    "dropped_by": {},
    "failures": {},
}


def report(rows: int, seconds: float, ahead: int) -> ShardReport:
    return ShardReport("p", "p.tar", rows, 0, ("samples",), model_seconds=seconds, read_ahead=ahead)


@pytest.mark.parametrize(
    ("reports", "seconds", "share", "ahead"),
    [
        ([report(10, 3.0, 40), report(30, 1.0, 0)], 8.0, 0.5, 1.0),
        ([report(10, 3.0, 0)], 2.0, 0.0, 0.0),  # clocks of several threads: never below nothing
        ([report(10, 0.0, 5)], 2.0, None, 0.5),
        ([report(0, 0.0, 0)], 1.0, None, None),
        ([], 0.0, None, None),
    ],
)
def test_the_share_of_waiting_is_what_models_leave_of_the_time(
    reports: Sequence[ShardReport], seconds: float, share: float | None, ahead: float | None
) -> None:
    process = Process()
    process.measured(reports, seconds)
    assert process.wait_share == share
    assert process.read_ahead == ahead
    process.measured(reports, seconds)
    assert process.model_seconds == 2 * sum(one.model_seconds for one in reports)


def test_what_there_is_nothing_to_say_of_has_no_sample() -> None:
    page, process = Page(), Process()
    assert list(page.collect()) == []
    page.show(STATUS, process)
    found = {family.name: family.samples for family in page.collect()}
    assert [sample.value for sample in found["curate_shards_done"]] == [2]
    assert found["curate_model_wait_share"] == []
    process.measured([report(4, 1.0, 8)], 4.0)
    page.show(STATUS, process)
    found = {family.name: family.samples for family in page.collect()}
    assert found["curate_model_wait_share"][0].labels == {"ledger": "a-1"}
    assert found["curate_model_wait_share"][0].value == 0.75
    assert found["curate_read_ahead_samples"][0].value == 2
