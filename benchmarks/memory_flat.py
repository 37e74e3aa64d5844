"""Peak memory of a run over few shards and over ten times as many."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from benchmarks.checkpoints import Checkpoint, trained_tiny
from benchmarks.fresh import Answer, call_fresh, resident_bytes
from benchmarks.photographs import linked_pool, photograph_pool, scratch
from benchmarks.product import image_plan, measure_seconds, silent
from benchmarks.section import Section

PER_SHARD = 128
TARGET = 1.2
FILTERS = (
    {"min_side_pixels": 100},
    {"top_fraction": {"by": "clip_cosine", "keep": 0.9}},
    "drop_exact_duplicates",
)


def run(*, small: bool) -> Section:
    """Measure, then decide and write, each in a process of its own."""
    few, many, per_shard = (1, 3, 32) if small else (10, 100, PER_SHARD)
    tars = photograph_pool(min(few, 10), per_shard)
    checkpoint = trained_tiny().plain()
    peaks: dict[str, dict[int, Answer]] = {"measure": {}, "decide and write": {}}
    for shards in (few, many):
        with scratch("memory") as folder:
            pool = [str(tar) for tar in linked_pool(folder / "pool", tars, shards)]
            for stage, seen in peaks.items():
                print(f"  {stage}, {shards} shards", flush=True)
                arguments = {"store": str(folder / "store"), "tars": pool, "checkpoint": checkpoint}
                seen[shards] = call_fresh(run_stage, torch_threads=1, write=stage != "measure", **arguments)
            shutil.rmtree(folder / "store")
    rows, worst = [], 0.0
    for stage, seen in peaks.items():
        ratio = seen[many].peak_bytes / seen[few].peak_bytes
        worst = max(worst, ratio)
        rows += [
            _row(stage, shards, shards * per_shard, seen[shards], f"{ratio:.2f}" if shards == many else "")
            for shards in (few, many)
        ]
    return Section(
        name="memory_flat",
        measured=(
            "highest resident memory (VmHWM) of a whole process that runs the stage: 1 worker, 2 decode "
            "threads, 1 torch thread, the tiny model; decide and write has a top_fraction and "
            "drop_exact_duplicates and copies the kept samples"
        ),
        against=f"the same process with {few} instead of {many} shards of {per_shard} images",
        columns=("stage", "shards", "images", "peak MiB", "of it before the first shard MiB", "ratio"),
        rows=rows,
        met=[(f"peak with {many} shards <= {TARGET} x that with {few}", worst <= TARGET)],
        remarks=["Python, torch, Beam and the model are what is there before the first shard."],
    )


def _row(stage: str, shards: int, images: int, answer: Answer, ratio: str) -> list[str]:
    before = f"{answer.value['before'] / 2**20:.0f}"
    return [stage, str(shards), str(images), f"{answer.peak_bytes / 2**20:.0f}", before, ratio]


def run_stage(store: str, tars: list[str], checkpoint: dict[str, Any], write: bool) -> dict[str, int]:  # noqa: FBT001
    """Measures, or decides and writes; returns the memory in use before the first shard."""
    from curate.run import RunOptions, run_recipe
    from transforms.encoders import load_encoder

    model = Checkpoint(**checkpoint)
    paths = [Path(tar) for tar in tars]
    plan = image_plan(Path(store), paths, model, filters=FILTERS, shards=write, subset=write)
    if write:
        before = resident_bytes()
        run_recipe(plan, RunOptions(1), silent)
    else:
        load_encoder(model.model, model.pretrained, "cpu", "auto")
        before = resident_bytes()
        measure_seconds(plan, 2)
    return {"before": before}
