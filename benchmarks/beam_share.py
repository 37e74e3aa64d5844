"""The measure step through Beam beside the same function called directly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.checkpoints import Checkpoint, trained_tiny
from benchmarks.fresh import call_fresh
from benchmarks.photographs import photograph_pool, scratch
from benchmarks.product import image_plan, measure_seconds
from benchmarks.section import Section
from benchmarks.timing import median_ratio, spread, stopwatch, take_turns

PER_SHARD = 256
TARGET = 0.05


def run(*, small: bool) -> Section:
    """One lane of shards with the tiny model, where Beam's share is at its greatest."""
    shards, per_shard, rounds = (2, 64, 2) if small else (20, PER_SHARD, 3)
    checkpoint = trained_tiny()
    tars = [str(tar) for tar in photograph_pool(shards, per_shard)]
    found = call_fresh(
        compare, torch_threads=1, checkpoint=checkpoint.plain(), tars=tars, rounds=rounds
    ).value
    ratio = median_ratio(found["beam"], found["direct"])
    # The least is what is left when nothing else disturbs; the pipeline's start is in it.
    least = min(found["beam"]) / min(found["direct"]) - 1
    return Section(
        name="beam_share",
        measured="seconds of Flow.measure: one Beam pipeline on FnApiRunner, 1 worker, 1 torch thread",
        against=(
            "measure_shards called directly with the same shards and measures into a fresh store; "
            "by turns; share = median over rounds of (Beam - direct) / direct"
        ),
        columns=(
            "model",
            "shards",
            "images",
            "through Beam s",
            "directly s",
            "share of Beam",
            "share by the least",
        ),
        rows=[
            [
                checkpoint.title,
                str(shards),
                str(shards * per_shard),
                spread(found["beam"]),
                spread(found["direct"]),
                f"{ratio - 1:+.1%}",
                f"{least:+.1%}",
            ]
        ],
        met=[(f"Beam's share of the measure step < {TARGET:.0%}", ratio - 1 < TARGET)],
        remarks=[
            "Seconds: median (least to greatest). Beam's part is nearly constant: the start of one pipeline.",
            "More images or a slower model make the share smaller.",
        ],
    )


def compare(checkpoint: dict[str, Any], tars: list[str], rounds: int) -> dict[str, list[float]]:
    """Seconds through Beam and directly, by rounds."""
    from transforms.measuring import measure_shards

    paths = [Path(tar) for tar in tars]
    model = Checkpoint(**checkpoint)

    def beam() -> float:
        with scratch("beam") as folder:
            return measure_seconds(image_plan(folder, paths, model), 2)

    def direct() -> float:
        with scratch("direct") as folder:
            plan = image_plan(folder, paths, model)
            with stopwatch() as watch:
                for _ in measure_shards(plan.to_measure(), plan.measure_config(2)):
                    pass
        return watch.wall

    direct()
    return take_turns({"direct": direct, "beam": beam}, rounds)
