"""The product as a user would run it, for the benchmarks to time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.checkpoints import Checkpoint
from benchmarks.timing import stopwatch
from curate.engine import Engine
from curate.pipeline import Flow
from curate.plan import Plan, make_plan
from curate.recipe import parse_recipe
from transforms.store import Store

BATCH = 64
CPU = {"device": "cpu", "batch_size": BATCH}


def image_plan(
    store: Path,
    tars: Sequence[Path],
    checkpoint: Checkpoint | None,
    *,
    filters: Sequence[Any] = (),
    clip: Mapping[str, object] = CPU,
    **output: object,
) -> Plan:
    """A plan with every automatic measure, and CLIP where a model is given; the store is made."""
    measures: dict[str, Any] = {}
    if checkpoint is not None:
        measures["clip"] = {"model": checkpoint.model, **clip}
        if checkpoint.pretrained is not None:
            measures["clip"]["pretrained"] = checkpoint.pretrained
    recipe = {
        "name": "bench",
        "measures": measures,
        "filters": list(filters),
        "output": {"shards": False, "subset": False, "report": False, **output},
    }
    plan = make_plan(parse_recipe(json.dumps(recipe)), [str(tar) for tar in tars], Store.at(str(store)))
    plan.store.prepare()
    return plan


def measure_seconds(plan: Plan, decode_threads: int) -> float:
    """Seconds of the whole measure step, through Beam, for what the plan's store lacks."""
    flow = Flow(plan=plan, engine=Engine(1), say=silent, decode_threads=decode_threads)
    with stopwatch() as watch:
        flow.measure(plan.to_measure())
    return watch.wall


def silent(_: str) -> None:
    """Takes a run's words without printing them."""
