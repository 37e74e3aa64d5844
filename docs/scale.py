"""Writes docs/scale.md: what 12.8 billion pairs would take, from measured unit costs.

    python docs/scale.py                        # writes the page
    python docs/scale.py --price L4=0.70 --price A100=3.67 --price H100=11.06   # prints costs alone

Unit costs are read from benchmarks/RESULTS.md, so a new benchmark gives a new page. What was not
measured is a constant here, with its reason beside it.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from curate.runners.dataflow import GPUS

ROOT = Path(__file__).parents[1]
SAMPLES = 12_800_000_000
PER_SHARD = 10_000
WIDTH = 512  # numbers of ViT-B-32's embeddings
# Operations for an image and its caption, 2 for each multiplication: open_clip's own profile.
MODELS = {"ViT-B-32": 14.8e9, "ViT-L-14": 175.3e9}
# Dense bfloat16 operations per second by data sheet, and vCPUs of the machine that carries one GPU.
PEAK = {"L4": 121e12, "A100": 312e12, "A100-80GB": 312e12, "H100": 989e12}
VCPUS = {"L4": 8, "A100": 12, "A100-80GB": 12, "H100": 26}
REACHED = 0.35  # of that peak, which the models reach in practice: an assumption, not measured here
CORE_PER_VCPU = 0.6  # two vCPUs share a core: an assumption, not measured here
REDUCERS = 1_000  # cores that decide and compare
TRAINERS = 64  # cores of the one machine that trains centroids
TASK_BYTES = 100  # of a shard's descriptor as it is pickled through a shuffle
LISTED = 1_000  # names that an object store gives for one request


@dataclass(frozen=True)
class Units:
    """Measured unit costs, each from a line of benchmarks/RESULTS.md.

    Attributes:
        decoded: images per second and core, decoded and prepared for a 224 pixel model.
        decided: rows per second and core: ten row filters; with_top: the same and a top fraction.
        copied: bytes per second of one worker that writes curated shards.
        bytes_per_sample, files_per_shard: by folder of the store.
        related: core seconds for each row of drop_near_duplicates, by stage; related_rows: of how many.
        multiplied, marked: operations per second and core of centroids' products, and of marking
            near duplicates.
        launcher: what the launcher of so many shards has: bytes of a graph, bytes of memory at most, bytes
            of a manifest, and seconds of writing and reading one.
    """

    decoded: float
    decided: float
    with_top: float
    copied: float
    bytes_per_sample: Mapping[str, float]
    files_per_shard: Mapping[str, int]
    related: Mapping[str, float]
    related_rows: float
    multiplied: float
    marked: float
    launcher: Mapping[str, float]


def read_units(text: str) -> Units:
    """The unit costs of a file of results.

    Raises: ValueError where a section or line is not there.
    """
    balanced = _line(text, "overlap", "balanced")
    relate = _line(text, "relate", "drop_near_duplicates", last=True)
    rows = _number(relate[1])
    launcher = _line(text, "million_shards", "in files", last=True)
    stages = dict(re.findall(r"(\w+) ([\d.]+)", relate[-1]))
    stored = [_cells(line) for line in _section(text, "stored_bytes").splitlines() if line.startswith("| ")]
    return Units(
        decoded=_number(balanced[2]) / _number(balanced[3]),
        decided=_number(_line(text, "decide", "ten row filters, 1 worker")[-2]),
        with_top=_number(_line(text, "decide", "ten and top_fraction")[-2]),
        copied=_number(_line(text, "resharding", "curate, 1 worker")[2]) * 1e6,
        bytes_per_sample={cells[0]: _number(cells[2]) for cells in stored[2:]},
        files_per_shard={cells[0]: int(cells[3]) for cells in stored[2:]},
        related={stage: float(seconds) * 2 / rows for stage, seconds in stages.items()},  # two threads
        related_rows=rows,
        multiplied=_number(_line(text, "marking", "bare product")[3]) * 1e9,
        marked=_number(_line(text, "marking", "float32, all distinct")[3]) * 1e9,
        launcher={
            "shards": _number(launcher[1]),
            "graph": _number(launcher[3]),
            "memory": _number(launcher[-1]) * 2**20,
            "manifest": _number(launcher[6]) * 1e6,
            "seconds": _number(launcher[7]),
        },
    )


def _section(text: str, name: str) -> str:
    found = re.search(rf"(?ms)^## {name}\n(.*?)(?=^## |\Z)", text)
    if found is None:
        msg = f"benchmarks/RESULTS.md has no section {name}: run `python -m benchmarks {name}`"
        raise ValueError(msg)
    return found[1]


def _line(text: str, section: str, start: str, *, last: bool = False) -> list[str]:
    """The cells of the first, or the last, line of a section's table that starts so."""
    lines = [line for line in _section(text, section).splitlines() if line.startswith(f"| {start} |")]
    if not lines:
        msg = f"benchmarks/RESULTS.md, section {section}, has no line {start!r}"
        raise ValueError(msg)
    return _cells(lines[-1 if last else 0])


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("| \n").split("|")]


def _number(cell: str) -> float:
    """The number at a cell's start: of `8.49 (7.71 to 8.74)` the first."""
    return float(cell.split(" ", maxsplit=1)[0].replace(",", ""))


@dataclass(frozen=True)
class Rate:
    """How fast a machine with one GPU measures a model.

    Attributes:
        decode, model: samples per second that either allows.
    """

    decode: float
    model: float

    @property
    def samples_per_hour(self) -> float:
        """Samples per GPU-hour: the slower of the two."""
        return 3600 * min(self.decode, self.model)

    @property
    def limit(self) -> str:
        """What the other waits for."""
        return "decoding" if self.decode < self.model else "the GPU"


def rate(units: Units, gpu: str, model: str, vcpus: int | None = None) -> Rate:
    """The rate of a machine; vcpus: where it has others than the smallest with that GPU."""
    cores = (VCPUS[gpu] if vcpus is None else vcpus) * CORE_PER_VCPU
    return Rate(units.decoded * cores, PEAK[gpu] * REACHED / MODELS[model])


@dataclass(frozen=True)
class Estimate:
    """What one pool takes.

    Attributes:
        shuffle_bytes: what crosses Beam's shuffles; metadata_bytes: of the store, without
            embeddings; stages: hours of each global step on REDUCERS cores.
    """

    shards: int
    shuffle_bytes: float
    metadata_bytes: float
    embedding_bytes: float
    files: int
    stages: Mapping[str, float]

    @property
    def slowest(self) -> str:
        """The global step that takes longest."""
        return max(self.stages, key=lambda name: self.stages[name])


def estimate(units: Units, samples: int = SAMPLES) -> Estimate:
    """The estimate for ViT-B-32 and a recipe with drop_near_duplicates."""
    shards = -(-samples // PER_SHARD)
    per_hour = 3600 * REDUCERS
    clusters = samples**0.5  # so that assigning rows and comparing them cost about the same
    measured = units.related_rows**0.5
    assign = 2 * WIDTH * (clusters - measured) / units.multiplied  # beyond what was measured
    compare = WIDTH * clusters / units.marked  # half of a cluster's pairs for each row
    stages = {
        "decide": samples / units.decided / per_hour,
        "top_fraction": samples * (1 / units.with_top - 1 / units.decided) / per_hour,
        "near duplicates: assign and sort": samples * (units.related["sort"] + assign) / per_hour,
        "near duplicates: compare": samples * compare / per_hour,
        # Clusters times a sample for each: grows with the square of clusters, so with rows.
        f"near duplicates: train, {TRAINERS} cores": samples * units.related["train"] / 3600 / TRAINERS,
    }
    return Estimate(
        shards=shards,
        shuffle_bytes=float(TASK_BYTES * shards * (1 + len(stages))),
        metadata_bytes=samples * sum(units.bytes_per_sample.values()),
        embedding_bytes=float(samples * WIDTH * 2 * 2),
        files=shards * (sum(units.files_per_shard.values()) + 3),  # and two of embeddings with a marker
        stages=stages,
    )


def cost_table(units: Units, prices: Mapping[str, float]) -> str:
    """Samples per GPU-hour and, where a price is given, dollars for a billion samples."""
    lines = [
        "| GPU | machine | model | samples per GPU-hour | limited by | GPU hours for all | $ per billion |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for gpu, (_, machine) in GPUS.items():
        for model in MODELS:
            found = rate(units, gpu, model)
            hours = SAMPLES / found.samples_per_hour
            price = f"{prices[gpu] * 1e9 / found.samples_per_hour:,.0f}" if gpu in prices else "-"
            cells = (
                gpu,
                machine,
                model,
                f"{found.samples_per_hour:,.0f}",
                found.limit,
                f"{hours:,.0f}",
                price,
            )
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def page(units: Units) -> str:
    """The page, as it stands in docs/scale.md."""
    found = estimate(units)
    stages = "\n".join(f"| {name} | {hours:,.2g} |" for name, hours in found.stages.items())
    launcher = units.launcher
    stored = ", ".join(f"{name} {size:,.0f}" for name, size in units.bytes_per_sample.items())
    return f"""\
# 12.8 billion pairs: an estimate

Written by `python docs/scale.py` from benchmarks/RESULTS.md. No pool of this size was ever run: these are
unit costs of a small machine, multiplied. Decoding scales with cores and was measured; GPU rates are
**computed** (data sheet, {REACHED:.0%} of peak), since no GPU was measured yet.

## The GPU part

{cost_table(units, {})}

`python docs/scale.py --price L4=0.70` fills the last column with your price of a machine-hour. One core
decodes {units.decoded:,.0f} images per second; a vCPU counts as {CORE_PER_VCPU} of a core.

With ViT-B-32 the GPU waits for decoding on every machine here: take the machine with more vCPUs per GPU
(an L4 with 32 vCPUs: {rate(units, "L4", "ViT-B-32", 32).samples_per_hour:,.0f} samples per hour).

## The rest

| what | estimate | from |
| --- | --- | --- |
| shards of {PER_SHARD:,} | {found.shards:,} | |
| files of the store | {found.files:,} | files per shard, measured |
| metadata | {found.metadata_bytes / 1e12:.1f} TB | bytes per sample, measured: {stored} |
| embeddings | {found.embedding_bytes / 1e12:.1f} TB | {WIDTH} numbers of 2 bytes, image and text |
| through Beam's shuffles | {found.shuffle_bytes / 1e9:.1f} GB | {TASK_BYTES} bytes for each task, no sample |

| global step, {REDUCERS:,} cores | hours |
| --- | --- |
{stages}

The slowest is **{found.slowest}**. Clusters: the square root of the rows, {SAMPLES**0.5:,.0f}.

## What would break first, and the fix

1. **The manifest** of a decision names each of its shards: one JSON file of
   {launcher["manifest"] / 1e6:,.0f} MB, which whatever opens the store reads; writing and reading it take
   {launcher["seconds"]:.0f} s together, measured. The fix: the shards in a Parquet file beside it.
2. **{found.files / 1e6:,.0f} million files.** A listing gives 1,000 names for each request, so
   {found.files / LISTED:,.0f} requests for a whole store. The fix: larger shards, or parts of several shards.
3. **The launcher** is one process that holds a descriptor and a report of each shard: for
   {launcher["shards"]:,.0f} it takes {launcher["memory"] / 1e9:.1f} GB, measured. Stages take their tasks
   from files of the store and report to files of it, so the graph of a stage has
   {launcher["graph"] / 1e3:.0f} KB; Dataflow documents a limit of 20 MB (not tried there).
4. **Training centroids** in one process: hours, and memory for its sample. The default of one cluster for
   1,000 samples would be {SAMPLES / 1000:,.0f}: set `clusters:` to what is estimated here, or fewer.

A step that compares reads the embeddings of all survivors once: `curate plan` prints its requests.
"""


def main(arguments: list[str]) -> None:
    """Writes the page, or with prices prints the table of costs."""
    parser = argparse.ArgumentParser(prog="docs/scale.py")
    parser.add_argument(
        "--price", action="append", default=[], metavar="GPU=DOLLARS", help=f"of: {', '.join(GPUS)}"
    )
    given = [text.partition("=") for text in parser.parse_args(arguments).price]
    if unknown := [gpu for gpu, _, _ in given if gpu not in GPUS]:
        parser.error(f"no GPU {', '.join(unknown)}; there are {', '.join(GPUS)}")
    units = read_units((ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8"))
    if given:
        try:
            prices = {gpu: float(price) for gpu, _, price in given}
        except ValueError:
            parser.error("a price is a number of dollars for an hour: --price L4=0.70")
        sys.stdout.write(cost_table(units, prices) + "\n")
        return
    (ROOT / "docs" / "scale.md").write_text(page(units), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
