"""Bytes that a store holds for each sample: what a pool of billions is multiplied with."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from benchmarks.photographs import photograph_pool, scratch
from benchmarks.product import image_plan, silent
from benchmarks.section import Section
from curate.run import RunOptions, run_recipe

FILTERS = (
    {"min_side_pixels": 16},
    {"caption_words": 1},
    {"drop_exact_duplicates": "pixels"},
    {"top_fraction": {"by": "luminance_entropy", "keep": 0.5}},
)


def run(*, small: bool) -> Section:
    """One shard of many samples: what a file costs by itself is spread over them."""
    images = 64 if small else 2048
    (tar,) = photograph_pool(1, images)
    with scratch("stored-bytes") as folder:
        plan = image_plan(folder / "store", [tar], None, filters=FILTERS)
        run_recipe(plan, RunOptions(), silent)
        sizes = _sizes(folder / "store")
    return Section(
        name="stored_bytes",
        measured=f"bytes of a store over one shard of {images} photographs, after all automatic measures",
        against="nothing: the figures that docs/scale.md multiplies",
        columns=("folder", "bytes", "bytes per sample", "files per shard"),
        rows=[
            [name, f"{size:,}", f"{size / images:.1f}", str(files)] for name, (size, files) in sizes.items()
        ],
        met=[],
        remarks=["Embeddings are not among them: 2 bytes for each number, two kinds for each encoder."],
    )


def _sizes(store: Path) -> dict[str, tuple[int, int]]:
    """Bytes and files below each folder of the store, but what a run records of itself."""
    sizes: Counter[str] = Counter()
    files: Counter[str] = Counter()
    for path in store.rglob("*"):
        top = path.relative_to(store).parts[0]
        if path.is_file() and top in ("signals", "ledger", "relations", "failures"):
            sizes[top] += path.stat().st_size
            files[top] += 1
    return {name: (sizes[name], files[name]) for name in sorted(sizes)}
