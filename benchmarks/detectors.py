"""s-CLIPLoss beside its own matrix product; pairs per second of kNN and of LEMoN, exact and fast."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.fresh import call_fresh
from benchmarks.machine import cores
from benchmarks.section import Section
from benchmarks.timing import median_ratio, spread, stopwatch, take_turns

BATCH, WIDTH = 32_768, 512
REFERENCE, EXACT_PAIRS, FAST_PAIRS = 50_000, 4096, 32_768
CONCEPTS, LATENT = 2000, 48
POOL, REPETITIONS = 1_000_000, 10
TIMES, PAIRS_PER_SECOND = 1.5, 20_000


def run(*, small: bool) -> Section:
    """Both with one thread for each core."""
    batch, rounds = (2048, 1) if small else (BATCH, 5)
    reference, exact, fast = (40_000, 1024, 2048) if small else (REFERENCE, EXACT_PAIRS, FAST_PAIRS)
    loss = call_fresh(compare, torch_threads=cores(), batch=batch, rounds=rounds)
    near = call_fresh(
        neighbourhoods,
        torch_threads=cores(),
        reference=reference,
        pairs={"exact": exact, "fast": fast},
        rounds=rounds,
    )
    seconds, taken = loss.value, near.value["seconds"]
    times = median_ratio(seconds["s-CLIPLoss"], seconds["its product"])
    pace = fast / statistics.median(taken["fast"])
    hours = statistics.median(seconds["s-CLIPLoss"]) * POOL / batch * REPETITIONS / 3600
    lines = [
        [f"{side}, {batch:,} pairs", spread(found), f"{batch / statistics.median(found):,.0f}"]
        for side, found in seconds.items()
    ]
    lines += [
        [
            f"LEMoN {side}, {pairs:,} pairs",
            spread(taken[side]),
            f"{pairs / statistics.median(taken[side]):,.0f}",
        ]
        for side, pairs in (("exact", exact), ("fast", fast))
    ]
    found = taken["search"]
    knn = fast / statistics.median(found)
    lines.append([f"kNN fast (one side), {fast:,} vectors", spread(found), f"{knn:,.0f}"])
    return Section(
        name="detectors",
        measured=(
            f"batch_scores on {batch:,} x {WIDTH} float32; lemon at its defaults against {reference:,} "
            f"reference pairs of made-up concepts, {WIDTH} wide"
        ),
        against="the batch's product alone, float32, in the same tiles; by turns, median ratio over rounds",
        columns=("work", "seconds", "pairs per second"),
        rows=lines,
        met=[
            (f"s-CLIPLoss within {TIMES:g} times its product: {times:.2f}", times <= TIMES),
            (f"kNN, fast, on {PAIRS_PER_SECOND:,} pairs per second", knn >= PAIRS_PER_SECOND),
            (f"LEMoN, fast, on {PAIRS_PER_SECOND:,} pairs per second", pace >= PAIRS_PER_SECOND),
        ],
        remarks=[
            "Seconds: median (least to greatest).",
            (
                f"A pool of {POOL:,} pairs in {REPETITIONS} repetitions: {hours:.1f} hours, extrapolated "
                f"from one batch of {batch:,} and not run."
            ),
            (
                f"Peaks of the processes: s-CLIPLoss {loss.peak_bytes / 2**20:,.0f} MiB, "
                f"LEMoN {near.peak_bytes / 2**20:,.0f} MiB."
            ),
            (
                f"Fast against exact on {exact:,} pairs: {near.value['recall']:.1%} of the neighbours, "
                f"Spearman {near.value['spearman']:.4f} of the scores. The fast indexes of both sides took "
                f"{near.value['built']:.0f} s to make."
            ),
            (
                "LEMoN asks for neighbours twice, of image and of caption, which is most of its time; its "
                "blocks are searched side by side, one on each core."
            ),
        ],
    )


def compare(batch: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of the scores of one batch and of its product alone, by rounds."""
    import numpy as np
    import torch

    from transforms.clustering import unit_rows
    from transforms.noise.clip_loss import TILE_COLUMNS, TILE_ROWS, batch_scores

    generator = np.random.default_rng(0)
    image, text = (
        unit_rows(generator.standard_normal((batch, WIDTH), dtype=np.float32))[0] for _ in range(2)
    )
    rows, columns = torch.from_numpy(image), torch.from_numpy(text)
    tile = torch.empty((TILE_ROWS, TILE_COLUMNS))

    def scores() -> float:
        with stopwatch() as watch:
            batch_scores(image, text, device="cpu")
        return watch.wall

    def product() -> float:
        with stopwatch() as watch:
            for top in range(0, batch, TILE_ROWS):
                for left in range(0, batch, TILE_COLUMNS):
                    torch.mm(rows[top : top + TILE_ROWS], columns[left : left + TILE_COLUMNS].T, out=tile)
        return watch.wall

    sides = {"its product": product, "s-CLIPLoss": scores}
    for side in sides.values():
        side()
    return take_turns(sides, rounds)


def neighbourhoods(reference: int, pairs: dict[str, int], rounds: int) -> dict[str, Any]:
    """Seconds of LEMoN by rounds, exact and fast, and how well the two agree."""
    import numpy as np

    from benchmarks.noise import rank_correlation
    from transforms.noise.neighbourhood import NEIGHBOURS, lemon, pair_reference

    generator = np.random.default_rng(0)
    known = _concept_pairs(reference, generator)
    asked = _concept_pairs(max(pairs.values()), generator)
    uids = generator.integers(0, 2**64, (reference, 2), dtype=np.uint64)
    sets = {
        side: pair_reference(*known, uids, copy_cosine=None, exact=side == "exact", device="cpu")
        for side in pairs
    }
    with stopwatch() as building:
        _ = sets["fast"].by_image, sets["fast"].by_text

    def search() -> float:
        with stopwatch() as watch:
            sets["fast"].by_image.search(asked[0][: pairs["fast"]], NEIGHBOURS)
        return watch.wall

    def score(side: str) -> float:
        image, text = (rows[: pairs[side]] for rows in asked)
        with stopwatch() as watch:
            lemon(image, text, sets[side])
        return watch.wall

    both = [rows[: pairs["exact"]] for rows in asked]
    exact, fast = (lemon(*both, sets[side]).score for side in ("exact", "fast"))
    places = [sets[side].by_image.search(both[0], NEIGHBOURS).place for side in ("exact", "fast")]
    found = [np.isin(one, other).mean() for one, other in zip(*places, strict=True)]
    return {
        "seconds": take_turns(
            {"search": search, **{side: lambda side=side: score(side) for side in pairs}}, rounds
        ),
        "recall": float(np.mean(found)),
        "spearman": rank_correlation(exact, fast),
        "built": building.wall,
    }


def _concept_pairs(count: int, generator: Any) -> list[Any]:
    """Unit images and texts of concepts that spread in few directions, as those of real models do."""
    import numpy as np

    from transforms.clustering import unit_rows

    fixed = np.random.default_rng(1)
    concepts = fixed.standard_normal((CONCEPTS, LATENT))
    into = fixed.standard_normal((LATENT, WIDTH)) / np.sqrt(LATENT)
    chosen = concepts[generator.integers(0, CONCEPTS, count)]
    sides = []
    for _ in range(2):
        inside = (chosen + 0.6 * generator.standard_normal((count, LATENT))) @ into
        rows = inside + 0.25 * generator.standard_normal((count, WIDTH))
        sides.append(unit_rows(rows.astype(np.float32))[0])
    return sides
