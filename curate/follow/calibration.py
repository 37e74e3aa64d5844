"""What fitted filters judge with in a continuous run: found once, numbered, never changed.

    calibrations/<recipe>-<fp>/<number>.json                   artefacts, and what they were fitted on
    calibrations/<recipe>-<fp>/<number>-<step>-centroids.npy   clusters of a step; its .json beside it

A calibration is a batch run without outputs whose findings are kept. It also keeps what drift is
measured against. The next calibration takes the next number; those before stay as they are.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from curate.follow.reference import measure_reference
from curate.pipeline import Flow, Say
from curate.plan import Plan
from curate.run import Clock, RunOptions, check_failures, decide_pool
from filters.core.decide import Step
from filters.core.declaration import FittedFilter
from filters.core.errors import RecipeError, StoreError
from transforms.relating import relation_class
from transforms.removal import finish_removals
from transforms.storage import redact
from transforms.store import Store


@dataclass(frozen=True)
class Calibration:
    """A calibration of a recipe; number 0 stands for none, where the recipe needs none."""

    number: int
    content: Mapping[str, Any]

    def applied(self, step: Step) -> Step:
        """The step with what was fitted."""
        return replace(step, artefact=self.content["artefacts"].get(step.name, step.artefact))

    def centroids(self, step: str) -> str | None:
        """The file of the store with the step's clusters, where it has any."""
        found: str | None = self.content["centroids"].get(step)
        return found

    @property
    def reference(self) -> Mapping[str, Any] | None:
        """What drift is measured against; None without a calibration."""
        found: Mapping[str, Any] | None = self.content["reference"]
        return found


NONE = Calibration(0, {"artefacts": {}, "centroids": {}, "reference": None})


def refuse_continuous(plan: Plan) -> None:
    """Raises RecipeError where shards that come later can't be decided by themselves."""
    for measure in plan.collective:
        msg = (
            f"measure {measure.name!r} compares all rows of a pool with one another, so shards can't be "
            "decided as they come: run it over the pool without --follow, or take out what reads it"
        )
        raise RecipeError(msg)
    for step in plan.recipe.steps:
        if step.rule.relation is None:
            continue
        reason = relation_class(step.rule.relation).refusal(step.rule)
        if reason is not None:
            msg = (
                f"filter {step.name} can't decide shards as they come: {reason}; run it over the pool "
                "without --follow, or take it out"
            )
            raise RecipeError(msg)


def calibrated_steps(plan: Plan) -> list[str]:
    """The names of the steps that judge with what a calibration finds."""
    return [step.name for step in plan.recipe.steps if isinstance(step.rule, FittedFilter) or _clusters(step)]


def calibrate(plan: Plan, options: RunOptions, say: Say) -> Calibration:
    """Fits the recipe on the plan's shards and keeps what it finds under the next number.

    Raises: RecipeError where the recipe can't be continued; whatever a run raises.
    """
    refuse_continuous(plan)
    runner = options.where()
    runner.check(plan)
    plan = runner.seen_by_workers(plan)
    plan.store.prepare()
    with plan.store.lock(), runner.start(plan.recipe.name) as engine:
        finish_removals(plan.store)
        manifest = decide_pool(Flow(plan, engine, say, options.decode_threads), Clock())
        check_failures(plan, manifest)
        if not manifest["rows"]:
            msg = "there is nothing to calibrate on: no shard of the pool has a row"
            raise StoreError(msg)
        say("measuring what drift is compared with")
        return _keep(plan, manifest)


def newest_calibration(store: Store, name: str) -> Calibration | None:
    """The calibration with the greatest number, None where there is none."""
    numbers = [
        int(stem)
        for file in store.folder.names(f"calibrations/{name}")
        if file.endswith(".json") and (stem := file.removesuffix(".json")).isdigit()
    ]
    return read_calibration(store, name, max(numbers)) if numbers else None


def read_calibration(store: Store, name: str, number: int) -> Calibration:
    """The calibration of this number."""
    return Calibration(number, store.folder.read_json(_file(name, number)))


def require_calibration(plan: Plan, command: str) -> Calibration:
    """The calibration to judge with: the newest; `NONE` where there is none and none is needed.

    command: what makes one, for the message.
    Raises: RecipeError where filters need one.
    """
    found = newest_calibration(plan.store, plan.continuous_id)
    needing = calibrated_steps(plan)
    if found is None and needing:
        msg = (
            f"{', '.join(needing)} judge{'s' if len(needing) == 1 else ''} by what is fitted to a pool, and "
            f"{redact(plan.store.folder.url)} has no calibration of this recipe: run `{command}` first"
        )
        raise RecipeError(msg)
    return found or NONE


def _keep(plan: Plan, manifest: Mapping[str, Any]) -> Calibration:
    folder, name = plan.store.folder, plan.continuous_id
    before = newest_calibration(plan.store, name)
    number = 1 if before is None else before.number + 1
    centroids = {}
    for step in plan.recipe.steps:
        if _clusters(step):
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
    folder.write_json(_file(name, number), content)
    return Calibration(number, content)


def _clusters(step: Step) -> bool:
    return step.rule.relation is not None and relation_class(step.rule.relation).clusters_rows


def _file(name: str, number: int) -> str:
    return f"calibrations/{name}/{number:04d}.json"
