"""Decode pool and model at once, beside each alone: does the model wait?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.checkpoints import Checkpoint, random_weights, slim, trained_tiny
from benchmarks.fresh import call_fresh
from benchmarks.photographs import photograph_pool, scratch
from benchmarks.product import image_plan
from benchmarks.section import Section
from benchmarks.timing import spread, take_turns

PER_SHARD = 256
TARGET = 1.15


def run(*, small: bool) -> Section:
    """Three settings: about balanced, bound by the model, bound by decoding."""
    per_shard, rounds = (64, 1) if small else (PER_SHARD, 3)
    one = [str(tar) for tar in photograph_pool(1, per_shard)]
    layers = call_fresh(balanced_layers, torch_threads=1, tars=one, quick=small).value
    settings = [("balanced", slim(layers), 1 if small else 6)]
    if not small:
        settings += [("bound by the model", random_weights("ViT-B-32"), 1)]
        settings += [("bound by decoding", trained_tiny(), 8)]
    rows, worst = [], 0.0
    for title, checkpoint, shards in settings:
        print(f"  {title}: {checkpoint.title}", flush=True)
        tars = [str(tar) for tar in photograph_pool(shards, per_shard)]
        found = call_fresh(
            compare, torch_threads=1, checkpoint=checkpoint.plain(), tars=tars, rounds=rounds
        ).value
        ratio, cells = _figures(found)
        worst = max(worst, ratio)
        rows.append([title, checkpoint.title, str(shards * per_shard), *cells])
    return Section(
        name="overlap",
        measured=(
            "seconds of the product's stream with decoding and the model at once; 1 decode thread "
            "and 1 torch thread (2 cores)"
        ),
        against=(
            "the longer of (a) the same stream with a model that does nothing (reading, decoding, "
            "image facts, hashes, CLIP's preparation) and (b) the model fed from memory with prepared "
            "tensors; by turns; least seconds of the rounds"
        ),
        columns=(
            "setting",
            "model",
            "images",
            "decode alone s",
            "model alone s",
            "both s",
            "both / longer",
            "both / sum",
        ),
        rows=rows,
        met=[(f"both < {TARGET} x the longer of the two alone, in every setting", worst < TARGET)],
        remarks=[
            "Seconds: median (least to greatest); the ratios are of the least.",
            "At once needs two free cores: whatever runs beside it adds to it more than to one alone.",
            "'both / sum' is 1 without overlap.",
        ],
    )


def _figures(found: dict[str, list[float]]) -> tuple[float, list[str]]:
    decode, model, both = (min(found[name]) for name in ("decode", "model", "both"))
    ratio, share = both / max(decode, model), both / (decode + model)
    seconds = [spread(found[name]) for name in ("decode", "model", "both")]
    return ratio, [*seconds, f"{ratio:.3f}", f"{share:.2f}"]


def compare(checkpoint: dict[str, Any], tars: list[str], rounds: int) -> dict[str, list[float]]:
    """Seconds of decode alone, model alone and both, by rounds."""
    from benchmarks.stages import PrepareOnly, clip_of, model_seconds, prepared_pairs, stream_seconds

    with scratch("overlap") as folder:
        plan = image_plan(folder, [Path(tar) for tar in tars], Checkpoint(**checkpoint))
        first = image_plan(folder, [Path(tars[0])], Checkpoint(**checkpoint))
        pairs = prepared_pairs(first, 1)
        images = len(pairs) * len(tars)
        stream_seconds(first, 1)  # the first use of a model costs more
        sides = {
            "decode": lambda: stream_seconds(plan, 1, PrepareOnly(clip=clip_of(plan))),
            "both": lambda: stream_seconds(plan, 1),
            "model": lambda: model_seconds(plan, pairs, images),
        }
        return take_turns(sides, rounds)


def balanced_layers(tars: list[str], quick: bool) -> int:  # noqa: FBT001  (called by name)
    """So many layers of the slim model that it takes about as long as decoding, one thread each."""
    from benchmarks.stages import PrepareOnly, clip_of, model_seconds, prepared_pairs, stream_seconds

    few, many = 2, 14
    with scratch("balance") as folder:
        paths = [Path(tar) for tar in tars]
        plans = {layers: image_plan(folder, paths, slim(layers)) for layers in (few, many)}
        pairs = prepared_pairs(plans[few], 1)
        decode = stream_seconds(plans[few], 1, PrepareOnly(clip=clip_of(plans[few])))
        if quick:
            return few
        alone = {}
        for layers, plan in plans.items():
            model_seconds(plan, pairs, 64)
            alone[layers] = min(model_seconds(plan, pairs, len(pairs)) for _ in range(2))
    slope = (alone[many] - alone[few]) / (many - few)
    return max(1, min(64, round(few + (decode - alone[few]) / slope)))
