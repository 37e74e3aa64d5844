"""Near pairs of PDQ hashes at radius 31: seconds, growth, memory, and faiss beside it."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.fresh import call_fresh, peak_bytes, resident_bytes
from benchmarks.section import Section
from benchmarks.timing import spread, stopwatch

BYTES, RADIUS = 32, 31
SIZES, SMALL_SIZES = (100_000, 1_000_000), (10_000, 50_000)
SECONDS, THREADS, SAMPLE = 60.0, 2, 1000
NEAR_SHARE = 20  # one code in so many is a copy of another with some bits flipped


def run(*, small: bool) -> Section:
    """One and two threads at both sizes; a sample of rows by faiss's comparison with all."""
    sizes = SMALL_SIZES if small else SIZES
    settings = [(sizes[0], 1), (sizes[0], THREADS), (sizes[1], 1), (sizes[1], THREADS)]
    found = [_measured(count, threads, 1 if small else 3) for count, threads in settings]
    beside = {count: _beside(count, SAMPLE // 10 if small else SAMPLE) for count in sizes}
    return _section(found, beside, small=small)


@dataclass(frozen=True)
class Found:
    """What the runs of one setting took; recall is of a sample of rows."""

    count: int
    threads: int
    wall: list[float]
    processor: list[float]
    pairs: int
    comparisons: int
    expecting: float
    grown_bytes: int
    peak_bytes: int


@dataclass(frozen=True)
class Beside:
    """Comparing all with all, from a sample of rows.

    Attributes:
        flat: seconds for all rows, extrapolated.
        multi: the same with faiss's multi-index hashing.
        missed, invented: pairs that only faiss, or only we, found among the rows of the sample.
    """

    rows: int
    flat: float
    multi: float
    pairs: int
    missed: int
    invented: int
    multi_missed: int


def _measured(count: int, threads: int, runs: int) -> Found:
    answers = []
    for number in range(runs):
        answers.append(call_fresh(search, torch_threads=1, count=count, threads=threads).value)
        print(f"  {count:,}, {threads} threads, run {number + 1}: {answers[-1]['wall']:.2f} s", flush=True)
    last = answers[-1]
    return Found(
        count,
        threads,
        [answer["wall"] for answer in answers],
        [answer["processor"] for answer in answers],
        last["pairs"],
        last["comparisons"],
        last["expecting"],
        max(answer["grown"] for answer in answers),
        max(answer["peak"] for answer in answers),
    )


def _beside(count: int, rows: int) -> Beside:
    value = call_fresh(compare, torch_threads=THREADS, count=count, rows=rows).value
    print(f"  {count:,} by faiss: {value['flat']:.0f} s extrapolated", flush=True)
    return Beside(rows=rows, **value)


def _section(found: Sequence[Found], beside: dict[int, Beside], *, small: bool) -> Section:
    small_one, large = found[1], found[3]
    growth = min(large.wall) / min(small_one.wall)
    exact = all(each.missed == each.invented == 0 for each in beside.values())
    most = max(each.grown_bytes for each in found)
    met: list[tuple[str, bool | None]] = [
        (
            f"1,000,000 codes against themselves in under {SECONDS:g} s on two cores (median)",
            None if small else sorted(large.wall)[len(large.wall) // 2] < SECONDS,
        ),
        ("every pair of the sampled rows found, and no other (recall and precision 1.0)", exact),
    ]
    ratios = [
        f"{each.count:,} codes: {beside[each.count].flat / min(each.wall):,.0f} times as fast as "
        f"IndexBinaryFlat, {beside[each.count].multi / min(each.wall):,.0f} times as IndexBinaryMultiHash "
        f"(16 x 16 bits, nflip 1; it missed {beside[each.count].multi_missed} of the sample's "
        f"{beside[each.count].pairs} pairs)."
        for each in (small_one, large)
    ]
    return Section(
        name="hamming",
        measured="pairs_within + gathered: all pairs of 256-bit codes at most 31 bits apart, sorted",
        against=(
            "faiss range_search with two threads, of a sample of rows and extrapolated to all of them; "
            "it finds each pair twice and each row itself, which is not taken off"
        ),
        columns=(
            *("codes", "threads", "wall s", "processor s", "pairs", "comparisons", "expected_work s"),
            *("search MiB", "peak MiB", "faiss flat s", "faiss multi s"),
        ),
        rows=[_row(each, beside[each.count]) for each in found],
        met=met,
        remarks=[
            *ratios,
            f"{growth:.1f} times the seconds for {large.count // small_one.count} times the codes.",
            f"Memory of the search beside codes, imports and answer: at most {most / 2**20:.0f} MiB.",
            f"Made up: random bits; one code in {NEAR_SHARE} is a copy with 0 to {RADIUS + 2} bits flipped.",
        ],
    )


def _row(found: Found, beside: Beside) -> list[str]:
    return [
        f"{found.count:,}",
        str(found.threads),
        spread(found.wall),
        f"{min(found.processor):.2f}",
        f"{found.pairs:,}",
        f"{found.comparisons:,}",
        f"{found.expecting:.2f}",
        f"{found.grown_bytes / 2**20:.0f}",
        f"{found.peak_bytes / 2**20:.0f}",
        f"{beside.flat:,.0f}",
        f"{beside.multi:,.0f}",
    ]


def made_up(count: int) -> NDArray[np.uint8]:
    """Random codes, some of them near copies of others; (count, 32) uint8, the same every time."""
    random = np.random.default_rng(count)
    codes = random.integers(0, 256, (count, BYTES), dtype=np.uint8)
    near = count // NEAR_SHARE
    for row in range(near):
        bits = np.unpackbits(codes[random.integers(near, count)])
        bits[random.permutation(8 * BYTES)[: random.integers(0, RADIUS + 3)]] ^= 1
        codes[row] = np.packbits(bits)
    return codes


def search(count: int, threads: int) -> dict[str, float]:
    """Seconds of one search, and the memory it added to that of the codes."""
    from transforms.hamming import expected_work, gathered, pairs_within

    codes = made_up(count)
    gc.collect()
    before = resident_bytes()
    with stopwatch() as watch:
        pairs = gathered(pairs_within(codes, RADIUS, threads=threads))
    peak = peak_bytes()
    started = time.perf_counter()
    work = expected_work(codes, RADIUS)
    return {
        "wall": watch.wall,
        "processor": watch.processor,
        "pairs": len(pairs),
        "comparisons": work.comparisons,
        "expecting": time.perf_counter() - started,
        "grown": peak - before,
        "peak": peak,
    }


def compare(count: int, rows: int) -> dict[str, Any]:
    """Answers of faiss for some rows, compared with ours; seconds extrapolated to all rows."""
    import faiss

    from transforms.hamming import pairs_within

    codes = made_up(count)
    sample = np.linspace(0, count - 1, rows).astype(np.int64)
    sample[: rows // 2] = np.arange(rows // 2)  # rows that are copies, for there to be pairs
    sample = np.unique(sample)
    ours: set[tuple[int, int]] = set()
    for batch in pairs_within(codes, RADIUS, threads=THREADS):
        for one, other in ((batch.query, batch.code), (batch.code, batch.query)):
            asked = np.isin(one, sample)
            ours.update(zip(one[asked].tolist(), other[asked].tolist(), strict=True))
    multi = faiss.IndexBinaryMultiHash(8 * BYTES, 16, 16)
    multi.nflip = 1
    flat_found, flat = _timed(faiss.IndexBinaryFlat(8 * BYTES), codes, sample)
    multi_found, hashed = _timed(multi, codes, sample)
    return {
        "flat": flat * count / len(sample),
        "multi": hashed * count / len(sample),
        "pairs": len(flat_found),
        "missed": len(flat_found - ours),
        "invented": len(ours - flat_found),
        "multi_missed": len(flat_found - multi_found),
    }


def _timed(
    index: Any, codes: NDArray[np.uint8], sample: NDArray[np.int64]
) -> tuple[set[tuple[int, int]], float]:
    """The pairs (row of the sample, other row) that the index finds, and the seconds of searching."""
    index.add(codes)
    started = time.perf_counter()
    # faiss leaves out what lies exactly at its radius.
    limits, _, found = index.range_search(codes[sample], RADIUS + 1)
    seconds = time.perf_counter() - started
    asked = np.repeat(sample, np.diff(limits.astype(np.int64)))
    other = asked != found
    return set(zip(asked[other].tolist(), found[other].tolist(), strict=True)), seconds
