"""The act of calibrating: a batch run without outputs, whose findings are kept."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from curate.follow.calibration import (
    Calibration,
    calibration_file,
    newest_calibration,
)
from curate.follow.continuing import clusters_rows, refuse_continuous
from curate.follow.reference import measure_reference
from curate.pipeline import Say
from curate.plan import Plan
from curate.run import Clock, RunOptions, at_work, check_failures, decide_pool
from filters.core.errors import StoreError


def calibrate(plan: Plan, options: RunOptions, say: Say) -> Calibration:
    """Fits the recipe on the plan's shards and keeps what it finds under the next number.

    Raises: RecipeError where the recipe can't be continued; whatever a run raises.
    """
    refuse_continuous(plan)
    with at_work(plan, options, say) as flow:
        manifest = decide_pool(flow, Clock())
        check_failures(flow.plan, manifest)
        if not manifest["rows"]:
            msg = "there is nothing to calibrate on: no shard of the pool has a row"
            raise StoreError(msg)
        say("measuring what drift is compared with")
        return _keep(flow.plan, manifest)


def _keep(plan: Plan, manifest: Mapping[str, Any]) -> Calibration:
    folder, name = plan.store.folder, plan.continuous_id
    before = newest_calibration(plan.store, name)
    number = 1 if before is None else before.number + 1
    centroids = {}
    for step in plan.recipe.steps:
        if clusters_rows(step):
            group = manifest["relations"][step.name].rpartition("/")[2]
            target = f"calibrations/{name}/{number:04d}-{step.name}-centroids"
            source = f"artefacts/{group}-centroids"
            folder.write_array(f"{target}.npy", plan.store.read_array(f"{source}.npy"))
            folder.write_json(f"{target}.json", folder.read_json(f"{source}.json"))
            centroids[step.name] = f"{target}.npy"
    content = {
        "calibration": number,
        "recipe": manifest["recipe"],
        "ledger": manifest["ledger"],
        "made": time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()),
        "rows": manifest["rows"],
        "verdicts": manifest["verdicts"],
        "shards": [{name: part[name] for name in ("uri", "part", "rows")} for part in manifest["parts"]],
        "artefacts": manifest["artefacts"],
        "centroids": centroids,
        "reference": measure_reference(plan, manifest),
    }
    folder.write_json(calibration_file(name, number), content)
    return Calibration(number, content)
