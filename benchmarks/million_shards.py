"""A run of a million shards in the launcher: its plan, a stage's graph, what workers report, the manifest."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.fresh import call_fresh, resident_bytes
from benchmarks.photographs import photograph_pool, scratch
from benchmarks.product import image_plan, silent
from benchmarks.section import Section
from benchmarks.timing import stopwatch

SHARDS, FEW, LANE = 1_280_000, 10_000, 100
GRAPH_LIMIT = 20_000_000  # of a job that Dataflow documents


def run(*, small: bool) -> Section:
    """The same launcher with the tasks in the graph and in files, few shards and many."""
    sizes = (200, 2000) if small else (FEW, SHARDS)
    rows: list[list[str]] = []
    graphs: list[int] = []
    for in_files in (False, True):
        for shards in sizes:
            print(f"  {shards:,} shards, {'files' if in_files else 'graph'}", flush=True)
            with scratch("million-shards") as folder:
                found = call_fresh(launch, store=str(folder), shards=shards, in_files=in_files)
            rows.append(_row(shards, found.value, found.peak_bytes, in_files=in_files))
            graphs.append(found.value["graph"] if in_files else 0)
    return Section(
        name="million_shards",
        measured=(
            "what one process holds and does for all shards of a run: descriptors of the plan, the graph of "
            f"the measuring stage (lanes of {LANE} shards) and the tasks it stands for, the reading of what "
            "workers report, the manifest of a decision"
        ),
        against="the same with all tasks in the graph, as engines on one machine have it",
        columns=(
            "tasks",
            "shards",
            "plan MiB",
            "graph bytes",
            "laid out s",
            "reports read s",
            "manifest MB",
            "manifest written and read s",
            "peak MiB",
        ),
        rows=rows,
        met=[(f"a graph with tasks in files < {GRAPH_LIMIT:,} bytes", max(graphs) < GRAPH_LIMIT)],
        remarks=[
            "No shard is read: descriptors, reports and counts are made up. The store is a local folder."
        ],
    )


def _row(shards: int, found: dict[str, Any], peak: int, *, in_files: bool) -> list[str]:
    return [
        "in files" if in_files else "in the graph",
        f"{shards:,}",
        f"{found['plan'] / 2**20:.0f}",
        f"{found['graph']:,}",
        f"{found['laid_out']:.1f}",
        f"{found['reports']:.1f}",
        f"{found['manifest'] / 1e6:.0f}",
        f"{found['manifest_seconds']:.1f}",
        f"{peak / 2**20:,.0f}",
    ]


def launch(store: str, shards: int, in_files: bool) -> dict[str, float]:  # noqa: FBT001
    """Does the launcher's part of a run over made-up shards; bytes and seconds of its pieces."""
    import apache_beam as beam

    from curate.engine import GRAPH_BYTES, Engine
    from curate.pipeline import Flow, split_evenly
    from curate.run import decide_config, make_manifest
    from transforms.beam_steps import read_reports
    from transforms.deciding import PartCounts
    from transforms.measuring import ShardReport

    class InFiles(Engine):
        graph_bytes = GRAPH_BYTES

    plan = image_plan(Path(store), photograph_pool(1, 8), None)
    before = resident_bytes()
    plan = replace(plan, shards=tuple(_shard(plan.shards[0], number) for number in range(shards)))
    taken = resident_bytes() - before

    flow = Flow(plan, InFiles() if in_files else Engine(), silent)
    with stopwatch() as laying:
        pipeline = beam.Pipeline()
        name = flow.add_measure(pipeline, split_evenly(plan.shards, -(-shards // LANE)))
        graph = len(pipeline.to_runner_api().SerializeToString())

    folder = plan.store.folder
    for first in range(0, shards, 10_000):
        some = plan.shards[first : first + 10_000]
        written = [vars(ShardReport(shard.part, shard.uri, 10_000, 17, ("image_facts",))) for shard in some]
        folder.write_json(f"{name}/{first:08d}.json", written)
    with stopwatch() as reading:
        reports = [ShardReport(**report) for report in read_reports(plan.store, name)]

    verdicts = {"keep": 4000, "drop": 5983, "failed": 17}
    counts = [PartCounts(one.part, number, one.rows, verdicts, {}, []) for number, one in enumerate(reports)]
    with stopwatch() as manifest:
        folder.write_json("manifest.json", make_manifest(plan, decide_config(plan, "ledger/l"), counts, []))
        read = json.loads(folder.read_bytes("manifest.json"))
    if len(read["parts"]) != shards:
        raise ValueError(read["rows"])
    return {
        "plan": taken,
        "graph": graph,
        "laid_out": laying.wall,
        "reports": reading.wall,
        "manifest": len(folder.read_bytes("manifest.json")),
        "manifest_seconds": manifest.wall,
    }


def _shard(one: Any, number: int) -> Any:
    part = f"{number:08d}-{number * 2654435761 % 2**64:016x}"
    return replace(one, uri=f"gs://some-bucket/crawl/{number:08d}.tar", number=number, part=part)
