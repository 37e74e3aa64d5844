"""Marking near duplicates in one cluster beside a bare matrix product; quotas of many clusters."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.fresh import call_fresh
from benchmarks.machine import cores
from benchmarks.section import Section
from benchmarks.timing import median_ratio, spread, stopwatch, take_turns

ROWS, WIDTH, SQUARE, CLUSTERS = 20_000, 512, 4096, 100_000
SHARE, QUOTA_SECONDS = 0.5, 0.1
MARKED = ("float32, all distinct", "float16, all distinct", "float32, 200 copies of each")


def run(*, small: bool) -> Section:
    """With one thread and with one for each core; then the quotas."""
    rows, rounds = (2_000, 1) if small else (ROWS, 5)
    found = []
    for threads in dict.fromkeys((1, cores())):
        print(f"  {threads} threads", flush=True)
        answer = call_fresh(compare, torch_threads=threads, rows=rows, rounds=rounds)
        found.append((threads, answer.value, answer.peak_bytes))
    seconds = call_fresh(quota_seconds, rounds=rounds).value
    lines = [_row(side, threads, value, peak) for threads, value, peak in found for side in value["seconds"]]
    ranges = ["-", spread(seconds, ".3f"), "-", "-", "-"]
    lines.append([f"quotas of {CLUSTERS:,} clusters", *ranges])
    least = min(_share(value, side) for _, value, _ in found for side in MARKED)
    return Section(
        name="marking",
        measured=(
            f"nearest_earlier on {rows:,} x {WIDTH} rows as one cluster; quotas of "
            f"{CLUSTERS:,} clusters of up to 2,000 samples"
        ),
        against=(
            f"float32 products of {SQUARE} x {WIDTH} by {WIDTH} x {SQUARE} through the same library with "
            "the same threads; by turns, median ratio over rounds"
        ),
        columns=("work", "threads", "seconds", "GFLOP/s", "of the bare product", "peak MiB"),
        rows=lines,
        met=[
            (f"marking at {SHARE:.0%} of the bare product's rate or more, each line", least >= SHARE),
            (f"quotas in under {QUOTA_SECONDS:g} s", statistics.median(seconds) < QUOTA_SECONDS),
        ],
        remarks=[
            "GFLOP/s: pairs that the rule needs, n (n - 1) / 2 of 2 d each; not padding, not masked halves.",
            "Seconds: median (least to greatest). Peak: of the whole process, with the sides of the product.",
        ],
    )


def _row(side: str, threads: int, value: dict[str, Any], peak: int) -> list[str]:
    seconds = value["seconds"][side]
    rate = value["work"][side] / statistics.median(seconds) / 1e9
    share = f"{_share(value, side):.0%}"
    return [side, str(threads), spread(seconds), f"{rate:.0f}", share, f"{peak / 2**20:.0f}"]


def _share(value: dict[str, Any], side: str) -> float:
    """This side's rate by the bare product's."""
    work, seconds = value["work"], value["seconds"]
    return work[side] / work["bare product"] * median_ratio(seconds["bare product"], seconds[side])


def compare(rows: int, rounds: int) -> dict[str, Any]:
    """Seconds of the bare product and of marking by rounds, and the operations of each."""
    import numpy as np

    from transforms.clustering import unit_rows
    from transforms.marking import nearest_earlier

    values = np.random.default_rng(0).standard_normal((max(rows, 2 * SQUARE), WIDTH))
    distinct = unit_rows(values.astype(np.float32))[0]
    left, right = distinct[:SQUARE], distinct[SQUARE : 2 * SQUARE]
    distinct = distinct[:rows]
    clusters = (distinct, distinct.astype(np.float16), np.repeat(distinct[: rows // 200], 200, axis=0))
    products = np.empty((SQUARE, SQUARE), np.float32)
    pairs = rows * (rows - 1) * WIDTH
    times = max(round(pairs / (2 * SQUARE**2 * WIDTH)), 1)

    def bare() -> float:
        with stopwatch() as watch:
            for _ in range(times):
                np.matmul(left, right.T, out=products)
        return watch.wall

    def mark(cluster: Any) -> float:
        with stopwatch() as watch:
            nearest_earlier(cluster, device="cpu")
        return watch.wall

    sides = {"bare product": bare}
    sides |= {
        name: lambda cluster=cluster: mark(cluster) for name, cluster in zip(MARKED, clusters, strict=True)
    }
    for side in sides.values():
        side()
    work = dict.fromkeys(MARKED, pairs) | {"bare product": times * 2 * SQUARE**2 * WIDTH}
    return {"seconds": take_turns(sides, rounds), "work": work}


def quota_seconds(rounds: int) -> list[float]:
    """Seconds for the quotas of many clusters, once for each round after a first one."""
    import numpy as np

    from filters.core.quotas import quotas

    generator = np.random.default_rng(0)
    complexity, sizes = generator.random(CLUSTERS), generator.integers(0, 2_000, CLUSTERS)
    seconds = []
    for _ in range(rounds + 1):
        with stopwatch() as watch:
            quotas(complexity, sizes, int(0.3 * sizes.sum()), temperature=0.1)
        seconds.append(watch.wall)
    return seconds[1:]
