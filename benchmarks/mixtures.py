"""Fitting a mixture to the scores of DataComp small: seconds, and the same fit by EM over every score."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.fresh import call_fresh
from benchmarks.section import Section
from benchmarks.timing import spread, stopwatch

ROWS, PARTS, COMPARED_ROWS, CLUSTERS, SECONDS = 12_800_000, 26, 500_000, 500, 5.0
# Share of clean, mean and sd of noisy, mean and sd of clean.
GROUPS = (0.686, 0.1264, 0.045, 0.2605, 0.05)
NAMES = ("share of clean", "noisy mean", "noisy sd", "clean mean", "clean sd")
CLOSE = 1e-3
FITS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("gaussian", {"model": "gaussian"}),
    ("beta", {"model": "beta"}),
    (f"gaussian, within {CLUSTERS} clusters", {"within": "clip_image", "clusters": CLUSTERS}),
)


def run(*, small: bool) -> Section:
    """Each fit of the filter; then the histogram beside EM over every score."""
    rows, parts, rounds = (200_000, 2, 1) if small else (ROWS, PARTS, 3)
    lines, medians = [], []
    for title, options in FITS:
        answer = call_fresh(
            fit_seconds, torch_threads=1, rows=rows, parts=parts, rounds=rounds, options=options
        )
        seconds = spread(answer.value)
        print(f"  {title}: {seconds} s", flush=True)
        medians.append(statistics.median(answer.value))
        lines.append([title, f"{rows:,}", str(parts), seconds, f"{answer.peak_bytes / 2**20:.0f}"])
    compared = 20_000 if small else COMPARED_ROWS
    answer = call_fresh(compare, torch_threads=1, rows=compared)
    for title, (seconds, _) in answer.value.items():
        peak = f"{answer.peak_bytes / 2**20:.0f}"
        lines.append([f"gaussian, EM over {title}", f"{compared:,}", "1", f"{seconds:.2f}", peak])
    pairs = list(zip(NAMES, *(parameters for _, parameters in answer.value.values()), strict=True))
    return Section(
        name="mixtures",
        measured="drop_mismatched's fit: accumulate, merge, advance over float32 scores in memory, one core",
        against="the targets; EM over every score with one start, to the same standstill",
        columns=("fit", "scores", "parts", "seconds", "peak MiB"),
        rows=lines,
        met=[
            (f"{ROWS:,} scores in under {SECONDS:g} s, each fit", max(medians) < SECONDS),
            (
                f"histogram and every score within {CLOSE:g} of each other in each parameter",
                all(abs(one - two) < CLOSE for _, one, two in pairs),
            ),
        ],
        remarks=[
            "Histogram and every score: "
            + "; ".join(f"{name} {one:.4f} and {two:.4f}" for name, one, two in pairs)
            + ".",
            "Seconds: median (least to greatest). Peak: of the whole process, with the scores.",
            "Made up: two Gaussian groups; clusters by chance, so that every cluster has two groups.",
        ],
    )


def scores_of(rows: int, seed: int = 0) -> Any:
    """Scores of two groups: (rows,) float32."""
    import numpy as np

    share, noisy, noisy_sd, clean, clean_sd = GROUPS
    generator = np.random.default_rng(seed)
    which = generator.random(rows, np.float32) < share
    values = generator.standard_normal(rows, np.float32)
    values *= np.where(which, np.float32(clean_sd), np.float32(noisy_sd))
    values += np.where(which, np.float32(clean), np.float32(noisy))
    return values


def fit_seconds(rows: int, parts: int, rounds: int, options: dict[str, Any]) -> list[float]:
    """Seconds of the whole fit, once for each round."""
    import numpy as np
    import pyarrow as pa

    from filters.drop_mismatched import DropMismatched

    rule = DropMismatched(**options)
    scores = np.array_split(scores_of(rows), parts)
    cluster = np.random.default_rng(1).integers(0, CLUSTERS, len(scores[0]), dtype=np.int32)
    batches = [
        {"clip_cosine": pa.array(part), "cluster_id": pa.array(cluster[: len(part)])} for part in scores
    ]
    seconds = []
    for _ in range(rounds):
        with stopwatch() as watch:
            artefact = rule.start()
            while not rule.complete(artefact):
                total = None
                for batch in batches:
                    one = rule.accumulate(artefact, batch)
                    total = one if total is None else rule.merge(total, one)
                artefact = rule.advance(artefact, total)
        if artefact["mixture"] is None:
            raise ValueError(artefact["reason"])
        seconds.append(watch.wall)
    return seconds


def compare(rows: int) -> dict[str, Any]:
    """Seconds and parameters by the histogram, and by EM over every score."""
    import pyarrow as pa

    from filters.core.mixtures import PARAMETERS
    from filters.drop_mismatched import DropMismatched

    scores = scores_of(rows)
    rule, batch = DropMismatched(), {"clip_cosine": pa.array(scores)}
    with stopwatch() as quick:
        artefact = rule.start()
        while not rule.complete(artefact):
            artefact = rule.advance(artefact, rule.accumulate(artefact, batch))
    by_histogram = [artefact["mixture"][name] for name in PARAMETERS[:5]]
    with stopwatch() as slow:
        by_score = em_of_every_score(scores)
    return {"histogram": (quick.wall, by_histogram), "every score": (slow.wall, by_score)}


def em_of_every_score(scores: Any) -> list[float]:
    """Two Gaussians by EM, from the split at the mean: the parameters in the order of NAMES."""
    import numpy as np

    values = scores.astype(np.float64)
    clean = (values > values.mean()).astype(np.float64)
    state = np.zeros(5)
    for _ in range(1000):
        shares, means, sds, densities = [], [], [], []
        for side in (1 - clean, clean):
            total = side.sum()
            shares.append(total / len(values))
            means.append(side @ values / total)
            sds.append(np.sqrt(side @ (values - means[-1]) ** 2 / total))
            densities.append(shares[-1] / sds[-1] * np.exp(-(((values - means[-1]) / sds[-1]) ** 2) / 2))
        clean = densities[1] / (densities[0] + densities[1])
        moved = np.array([shares[1], means[0], sds[0], means[1], sds[1]])
        still = np.abs(moved - state).max() < 1e-7
        state = moved
        if still:
            break
    return [float(value) for value in state]
