"""Semantic deduplication end to end, from embedding files to verdicts: 100 thousand and 1 million rows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.fresh import call_fresh
from benchmarks.photographs import scratch
from benchmarks.section import Section
from benchmarks.timing import stopwatch

WIDTH, CONCEPTS, PER_PART = 512, 5000, 10_000
MEASURES = {"b32": {"measure": "datacomp_embeddings", "model": "b32"}}
SECONDS, MEMORY_BYTES = 180.0, 3 * 2**30


def semdedup(clusters: int, above: float) -> list[Any]:
    """The recipe's filters."""
    options = {"embedding": "b32_image", "clusters": clusters, "cosine_above": above}
    return [{"drop_near_duplicates": options}]


def pruning(clusters: int) -> list[Any]:
    """Density-based pruning alone."""
    return [{"prune_clusters": {"embedding": "b32_image", "clusters": clusters, "keep": 0.6}}]


def run(*, small: bool) -> Section:
    """Each size in a store of its own; then another threshold, and pruning, on the largest."""
    sizes = [(20_000, 20)] if small else [(100_000, 100), (1_000_000, 1000)]
    rows, found, stages = [], {}, {}
    for count, clusters in sizes:
        with scratch(f"relate-{count}") as store:
            call_fresh(fill, store=str(store), rows=count)
            for title, filters in (
                ("drop_near_duplicates", semdedup(clusters, 0.95)),
                ("another threshold afterwards", semdedup(clusters, 0.9)),
                ("prune_clusters", pruning(clusters)),
            ):
                answer = call_fresh(decide, torch_threads=2, store=str(store), rows=count, filters=filters)
                value = answer.value
                print(f"  {title}, {count:,} rows: {value['wall']:.1f} s", flush=True)
                kept = f"{value['kept']:,}"
                peak = f"{answer.peak_bytes / 2**20:.0f}"
                shown = ", ".join(
                    f"{name.partition(': ')[2]} {took:.1f}" for name, took in value["stages"].items()
                )
                rows.append([title, f"{count:,}", str(clusters), f"{value['wall']:.1f}", peak, kept, shown])
                found[title, count] = answer
                stages[title, count] = value
            shutil.rmtree(store)
    largest = found["drop_near_duplicates", sizes[-1][0]]
    whole = not small
    return Section(
        name="relate",
        measured=(
            f"make_plan + run_recipe over stored float16 embeddings of {WIDTH} numbers, "
            f"{PER_PART:,} to a part: k-means, exchange, marking, recall, ledger; 1 worker, 2 threads"
        ),
        against="the targets; growth from the smaller to the larger pool",
        columns=("filter", "rows", "clusters", "wall s", "peak MiB", "kept", "seconds of each stage"),
        rows=rows,
        met=[
            (
                f"1,000,000 x {WIDTH} with 1,000 clusters under {SECONDS:g} s",
                whole and largest.value["wall"] < SECONDS,
            ),
            ("peak memory below 3 GiB", whole and largest.peak_bytes < MEMORY_BYTES),
        ],
        remarks=[
            f"Made up: {CONCEPTS:,} concepts with spread, one row in five a near copy of another.",
            "Nothing but descriptors of tasks crosses a Beam shuffle: less than 1 byte for each row.",
        ],
    )


def fill(store: str, rows: int) -> None:
    """Makes the store."""
    from benchmarks.metadata_store import fill_store

    fill_store(Path(store), rows // PER_PART, rows, MEASURES, vectors)


def vectors(number: int, rows: int) -> NDArray[np.float16]:
    """Unit rows around concepts; every fifth row is the one before it with a little noise."""
    concepts = np.random.default_rng(0).normal(size=(CONCEPTS, WIDTH)).astype(np.float32)
    random = np.random.default_rng(number + 1)
    spread = random.uniform(0.3, 1.2, (CONCEPTS, 1)).astype(np.float32)
    chosen = random.integers(0, CONCEPTS, rows)
    made = concepts[chosen] + spread[chosen] * random.normal(size=(rows, WIDTH)).astype(np.float32)
    made[4::5] = made[3::5][: len(made[4::5])] + 0.2 * random.normal(size=made[4::5].shape)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return made.astype(np.float16)


def decide(store: str, rows: int, filters: list[Any]) -> dict[str, Any]:
    """Plans, compares and decides; returns seconds, those of each stage, and the rows kept."""
    from benchmarks.metadata_store import metadata_plan
    from benchmarks.product import silent
    from curate.run import RunOptions, run_recipe

    with stopwatch() as watch:
        plan = metadata_plan(Path(store), rows // PER_PART, filters, MEASURES)
        result = run_recipe(plan, RunOptions(1), silent)
    newest = max((Path(store) / "runs").glob("*-bench-*.json"), key=lambda path: path.stat().st_mtime_ns)
    seconds = json.loads(newest.read_text())["seconds"]
    return {
        "wall": watch.wall,
        "kept": result.counts["keep"],
        "stages": {name: took for name, took in seconds.items() if ": " in name},
    }
