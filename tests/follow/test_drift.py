"""What the last window says, from facts written by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from curate.follow.drift import Drift, find_drift, find_windows
from curate.follow.ledger import Ledger
from curate.follow.reference import shard_facts
from curate.recipe import DriftSection
from tests.follow.following import COMPARED, calibrated, follow, make_pool, manifest_of
from tests.running import plan_of
from transforms.storage import Folder

REFERENCE = {
    "kept": {"kept": 500, "rows": 1000, "spread": 1.0},
    "signals": {"width": {"edges": [10.0], "counts": [500, 500, 0]}},
    "least_centroid_cosine": {"near": 0.5},
}


def judged(folder: Path, facts: list[dict[str, Any]], kept: list[int], **section: Any) -> Drift:
    """The drift of a run with a part of 1000 rows for each of the facts."""
    parts = []
    for number, (fact, many) in enumerate(zip(facts, kept, strict=True)):
        path = folder / "follow" / "l" / "facts" / f"p{number}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(fact))
        verdicts = {"keep": many, "drop": 1000 - many, "failed": 0}
        parts.append({"part": f"p{number}", "rows": 1000, "verdicts": verdicts, "calibration": 1})
    ledger = Ledger(Folder(str(folder), {}), "l")
    manifest = {"parts": parts, "follow": {"calibration": 1}}
    found = find_drift(ledger, manifest, REFERENCE, DriftSection(**section), 0.1)
    assert found is not None
    return found


def fact(width: list[int], far: int) -> dict[str, Any]:
    return {"signals": {"width": width}, "far": {"near": [far, 1000]}, "failures": {}}


def test_a_window_like_the_calibration_is_no_drift(tmp_path: Path) -> None:
    found = judged(tmp_path, [fact([500, 500, 0], 10)], [510])
    assert found.alarms == {}
    assert found.distances == {"width": 0.0}
    assert found.far == {"near": 0.01}


def test_rows_far_from_all_centroids_raise_an_alarm_where_they_are_no_accident(tmp_path: Path) -> None:
    assert judged(tmp_path, [fact([500, 500, 0], 51)], [500]).alarms == {}
    found = judged(tmp_path, [fact([500, 500, 0], 120)], [500])
    assert found.alarms == {"far from near": "12.0% lie far from all of its centroids"}
    assert judged(tmp_path, [fact([500, 500, 0], 120)], [500], far_share_above=0.2).alarms == {}


def test_the_kept_rate_raises_an_alarm_unless_the_recipe_says_no(tmp_path: Path) -> None:
    assert judged(tmp_path, [fact([500, 500, 0], 0)], [700]).alarms.keys() == {"kept_rate"}
    assert judged(tmp_path, [fact([500, 500, 0], 0)], [700], kept_rate=False).alarms == {}


@pytest.mark.parametrize(("above", "alarms"), [(0.2, {"width"}), (0.3, set())])
def test_a_signal_raises_an_alarm_beyond_the_recipe_s_distance(
    tmp_path: Path, above: float, alarms: set[str]
) -> None:
    found = judged(tmp_path, [fact([250, 750, 0], 0)], [500], distance_above=above)
    assert found.distances["width"] == pytest.approx(0.25)
    assert found.alarms.keys() == alarms


def test_the_window_that_is_judged_is_the_last_one_full_or_not(tmp_path: Path) -> None:
    bad, good = fact([1000, 0, 0], 900), fact([500, 500, 0], 0)
    assert judged(tmp_path, [bad, bad, good], [0, 0, 500], window_shards=2).alarms == {}
    assert judged(tmp_path, [bad, good, good], [0, 500, 500], window_shards=3).alarms != {}


def test_without_shards_there_is_no_window(tmp_path: Path) -> None:
    ledger = Ledger(Folder(str(tmp_path), {}), "l")
    assert find_drift(ledger, {"parts": []}, None, DriftSection(), 0.1) is None
    assert find_windows({"parts": []}, None, DriftSection()) == []


def test_the_facts_of_the_calibration_s_own_shards_add_up_to_its_reference(tmp_path: Path) -> None:
    pool, store = make_pool(tmp_path / "pool", shards=2), tmp_path / "store"
    reference = calibrated(COMPARED, pool, store).reference
    assert reference is not None
    follow(COMPARED, pool, store)
    plan, manifest = plan_of(COMPARED, pool, store), manifest_of(store)
    facts = [shard_facts(plan, manifest, part["part"], reference) for part in manifest["parts"]]
    for name, calibrated_on in reference["signals"].items():
        counts = [sum(pair) for pair in zip(*(one["signals"][name] for one in facts), strict=True)]
        assert counts == calibrated_on["counts"], name
    assert "clip_cosine" in reference["signals"]
    assert sum(one["far"]["drop_near_duplicates"][1] for one in facts) > 0
