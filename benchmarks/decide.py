"""Decide over a store like DataComp small's: rows per second and core, seconds, memory."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.fresh import call_fresh
from benchmarks.photographs import scratch
from benchmarks.section import Section
from benchmarks.timing import spread, stopwatch

ROWS, PARTS = 12_800_000, 26
CORE_ROWS_PER_SECOND, SECONDS, MEMORY_BYTES = 1_000_000, 15.0, 2 * 2**30
TEN: tuple[dict[str, Any], ...] = (
    {"language": "en"},
    {"caption_words": 3},
    {"caption_words": {"at_most": 75}},
    {"caption_characters": 6},
    {"caption_characters": {"at_most": 500}},
    {"min_side_pixels": 200},
    {"max_aspect_ratio": 3},
    {"min_clip_cosine": {"encoder": "clip_b32", "at_least": 0.2}},
    {"min_clip_cosine": {"encoder": "clip_l14", "at_least": 0.15}},
    {"random_fraction": 0.95},
)
STRICTER = (*TEN[:7], {"min_clip_cosine": {"encoder": "clip_b32", "at_least": 0.21}}, *TEN[8:])
SEARCHING = (
    *TEN[:8],
    {"caption_blocklist": ["stock photo", "click here", "broken painted open"]},
    {"caption_matches": "[a-z]{3}"},
)
BEST = (*TEN, {"top_fraction": {"by": "clip_l14_cosine", "keep": 0.3}})


@dataclass(frozen=True)
class Setting:
    """One recipe on so many parts with so many workers, and how often to run it."""

    title: str
    filters: Sequence[Any]
    parts: int
    workers: int
    runs: int = 1
    subset: bool = False


def run(*, small: bool) -> Section:
    """One core, two workers, with a subset, a changed threshold, a fitted filter, text searches."""
    parts, rows = (2, 100_000) if small else (PARTS, ROWS)
    settings = [Setting("ten row filters, 1 worker", TEN, parts, 1, 1 if small else 3)]
    settings += [Setting("ten row filters", TEN, parts, 2, 1 if small else 3)]
    if not small:
        settings += [
            Setting("the same and the subset file", TEN, parts, 2, subset=True),
            Setting("a threshold changed", STRICTER, parts, 2),
            Setting("ten and top_fraction", BEST, parts, 2),
            Setting("ten, two of them search the caption", SEARCHING, parts, 2),
        ]
    with scratch("decide") as store:
        # A process of its own, so that what it reserves is not counted below.
        call_fresh(fill, store=str(store), parts=parts, rows=rows)
        found = [_run_setting(store, setting) for setting in settings]
    return _section(found, small=small)


@dataclass(frozen=True)
class Found:
    """What the runs of one setting took."""

    setting: Setting
    rows: int
    wall: list[float]
    processor: list[float]
    process: list[float]
    peak_bytes: int

    @property
    def core_rate(self) -> float:
        """Rows for each second of processor time, whatever ran beside; median of the runs."""
        return self.rows / statistics.median(self.processor)

    def row(self) -> list[str]:
        """The setting as a row of the table."""
        setting = self.setting
        return [
            setting.title,
            f"{self.rows:,}",
            str(setting.parts),
            str(setting.workers),
            spread(self.wall),
            f"{statistics.median(self.processor):.2f}",
            f"{statistics.median(self.process):.2f}",
            f"{self.rows / statistics.median(self.wall):,.0f}",
            f"{self.core_rate:,.0f}",
            f"{self.peak_bytes / 2**20:.0f}",
        ]


def _section(found: Sequence[Found], *, small: bool) -> Section:
    one, whole = found[0], found[1]
    rate = one.rows / min(one.wall)
    met: list[tuple[str, bool | None]] = [
        (
            f"at least {CORE_ROWS_PER_SECOND:,} rows per second and core (best of the runs with 1 worker)",
            rate >= CORE_ROWS_PER_SECOND,
        )
    ]
    at_scale = (
        f"{ROWS:,} rows in under {SECONDS:g} s on two cores",
        f"memory below {MEMORY_BYTES / 2**30:g} GiB",
    )
    met.append((at_scale[0], None if small else statistics.median(whole.wall) < SECONDS))
    met.append((at_scale[1], None if small else max(each.peak_bytes for each in found) < MEMORY_BYTES))
    return Section(
        name="decide",
        measured=(
            "make_plan + run_recipe over a measured store: plan, decide, ledger (uid, verdict, "
            "value, votes) with checksums and fsync; no curated shards; the subset file only where it is said"
        ),
        against="the targets; rows per processor second is what a core does when nothing else disturbs it",
        columns=(
            "recipe",
            "rows",
            "parts",
            "workers",
            "wall s",
            "processor s",
            "whole process s",
            "rows / wall s",
            "rows / processor s",
            "peak MiB",
        ),
        rows=[each.row() for each in found],
        met=met,
        remarks=[
            "Wall: median (least to greatest), each run decided anew in a fresh process.",
            "Whole process: with Python's start and imports. Peak: VmHWM of the whole process.",
            "Made up: random uids, captions of 60 characters, float16 cosines; files in the page cache.",
        ],
    )


def _run_setting(store: Path, setting: Setting) -> Found:
    walls, processors, processes, peaks, rows = [], [], [], [], 0
    for number in range(setting.runs):
        started = time.perf_counter()
        answer = call_fresh(
            decide,
            torch_threads=1,
            store=str(store),
            parts=setting.parts,
            filters=list(setting.filters),
            workers=setting.workers,
            subset=setting.subset,
        )
        processes.append(time.perf_counter() - started)
        walls.append(answer.value["wall"])
        processors.append(answer.value["processor"])
        peaks.append(answer.peak_bytes)
        rows = answer.value["rows"]
        print(f"  {setting.title}, run {number + 1} of {setting.runs}: {walls[-1]:.2f} s", flush=True)
        for made in ("ledger", "artefacts", "subsets"):
            shutil.rmtree(store / made, ignore_errors=True)
    return Found(setting, rows, walls, processors, processes, max(peaks))


def fill(store: str, parts: int, rows: int) -> None:
    """Makes the store."""
    from benchmarks.metadata_store import fill_store

    fill_store(Path(store), parts, rows)


def decide(store: str, parts: int, filters: list[Any], workers: int, subset: bool) -> dict[str, float]:  # noqa: FBT001
    """Plans and decides; returns rows, and seconds on the wall and of the processor."""
    from benchmarks.metadata_store import metadata_plan
    from benchmarks.product import silent
    from curate.run import RunOptions, run_recipe

    with stopwatch() as watch:
        plan = metadata_plan(Path(store), parts, filters, subset=subset)
        result = run_recipe(plan, RunOptions(workers), silent)
    return {"rows": result.manifest["rows"], "wall": watch.wall, "processor": watch.processor}
