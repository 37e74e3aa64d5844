"""Images per second on a GPU from tar bytes, beside the same model fed from memory."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from benchmarks.checkpoints import Checkpoint, random_weights
from benchmarks.fresh import call_fresh
from benchmarks.machine import cores, gpu_name
from benchmarks.photographs import linked_pool, photograph_pool, scratch
from benchmarks.product import image_plan, measure_seconds
from benchmarks.section import Section
from benchmarks.timing import median_ratio, take_turns

PER_SHARD = 256
BATCH = 256
CUDA = {"device": "cuda", "batch_size": BATCH}
MODELS = ("ViT-B-32", "ViT-L-14")


def run(*, small: bool) -> Section:
    """Both models; says so where there is no GPU."""
    rows, remarks = [], ["Images per second: median of the rounds. Random weights, bf16."]
    if gpu_name() is None:
        remarks = ["Not measured: no GPU on this machine."]
    else:
        shards, per_shard, rounds = (2, 64, 1) if small else (40, PER_SHARD, 3)
        tars = [str(tar) for tar in photograph_pool(min(shards, 10), per_shard)]
        for name in MODELS:
            print(f"  {name}", flush=True)
            found = call_fresh(
                compare, checkpoint=random_weights(name).plain(), tars=tars, shards=shards, rounds=rounds
            ).value
            rows.append(_row(name, found))
    return Section(
        name="gpu",
        measured=(
            "images per second from tar bytes to columns on disk (all automatic measures and CLIP, "
            f"bf16, batches of {BATCH}), one decode thread for each core"
        ),
        against=(
            "the same model fed from memory with prepared tensors (the ceiling), and the stream "
            "with a model that does nothing (what decoding allows); by turns"
        ),
        columns=(
            "model",
            "decode threads",
            "end to end",
            "model from memory",
            "decode alone",
            "end to end / lower of both",
            "limited by",
        ),
        rows=rows,
        met=[("named: the stage that limits", bool(rows) or None)],
        remarks=remarks,
    )


def _row(name: str, found: dict[str, Any]) -> list[str]:
    images = found["images"]
    rates = {side: images / statistics.median(found[side]) for side in ("end to end", "model", "decode")}
    limit = "decoding" if rates["decode"] < rates["model"] else "the model"
    slower = found["decode"] if limit == "decoding" else found["model"]
    share = median_ratio(slower, found["end to end"])
    cells = [f"{rates[side]:.0f}" for side in ("end to end", "model", "decode")]
    return [name, str(found["decode_threads"]), *cells, f"{share:.2f}", limit]


def compare(checkpoint: dict[str, Any], tars: list[str], shards: int, rounds: int) -> dict[str, Any]:
    """Seconds end to end, of the model alone and of decoding alone, by rounds."""
    from benchmarks.stages import PrepareOnly, clip_of, model_seconds, prepared_pairs, stream_seconds

    model, threads = Checkpoint(**checkpoint), cores()
    with scratch("gpu") as folder:
        pool = linked_pool(folder / "pool", [Path(tar) for tar in tars], shards)
        plan = image_plan(folder / "stages", pool, model, clip=CUDA)
        first = image_plan(folder / "stages", pool[:2], model, clip=CUDA)
        pairs = prepared_pairs(first, threads)
        images = len(pairs) * shards // 2
        model_seconds(plan, pairs, 4 * BATCH)
        sides = {
            "end to end": lambda: _end_to_end(pool, model, threads),
            "model": lambda: model_seconds(plan, pairs, images),
            "decode": lambda: stream_seconds(plan, threads, PrepareOnly(clip=clip_of(plan))),
        }
        seconds = take_turns(sides, rounds)
    return {**seconds, "images": images, "decode_threads": threads}


def _end_to_end(pool: list[Path], model: Checkpoint, threads: int) -> float:
    with scratch("gpu-store") as store:
        return measure_seconds(image_plan(store, pool, model, clip=CUDA), threads)
