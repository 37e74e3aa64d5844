"""Runs recipes as the command line does, without its terminal, and looks at the stores they leave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curate.explain import Explanation, explain
from curate.plan import Plan, make_plan
from curate.query import connect, open_decision, run_sql
from curate.recipe import parse_recipe
from curate.run import RunOptions, RunResult, run_recipe
from curate.runner import Runner
from transforms.store import Store

# What a run records about itself: times, hosts, results on their way.
UNREPEATABLE = ("runs/", "run.lock")

EVERYDAY = """\
name: everyday
pool: {retry_seconds: []}
filters:
  - min_side_pixels: 30
  - caption_words: 3
  - drop_exact_duplicates: pixels
  - top_fraction: {by: luminance_entropy, keep: 0.5}
output: {samples_per_shard: 4, report: false}
max_failed_fraction: 1
"""


def plan_of(text: str, pool: str | Path | Sequence[str], store: str | Path) -> Plan:
    """The plan of this recipe text."""
    recipe = parse_recipe(text, "recipe.yaml")
    patterns = [str(pool)] if isinstance(pool, str | Path) else list(pool)
    return make_plan(recipe, patterns, Store.at(str(store), recipe.file.output.storage_options))


def curate(
    text: str,
    pool: str | Path | Sequence[str],
    store: str | Path,
    *,
    workers: int = 1,
    decode_threads: int = 2,
    said: list[str] | None = None,
    runner: Runner | None = None,
) -> RunResult:
    """Runs this recipe text; what it says goes to `said`."""
    heard: list[str] = [] if said is None else said
    return run_recipe(plan_of(text, pool, store), RunOptions(workers, decode_threads, runner), heard.append)


def files_of(store: Path) -> dict[str, bytes]:
    """Every file of a store with its bytes, without what differs from run to run."""
    found = {str(path.relative_to(store)): path for path in sorted(store.rglob("*")) if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not name.startswith(UNREPEATABLE)}


def unlike(found: Mapping[str, bytes], wanted: Mapping[str, bytes]) -> list[str]:
    """The names of files that are not the same bytes in both, or only in one."""
    return sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))


def ask(store: str | Path | Store, sql: str, ledger: str | None = None) -> list[dict[str, Any]]:
    """The rows that answer a question to a store."""
    opened = store if isinstance(store, Store) else Store.at(str(store))
    rows: list[dict[str, Any]] = run_sql(connect(open_decision(opened, ledger)), sql).to_pylist()
    return rows


def why(store: Path, name: str, ledger: str | None = None) -> Explanation:
    """The only explanation of the sample of this name."""
    (found,) = explain(open_decision(Store.at(str(store)), ledger), name)
    return found


def ledger_table(store: Path, result: RunResult) -> pa.Table:
    """The whole ledger of a run, in pool order."""
    folder = store / "ledger" / result.ledger
    return pa.concat_tables(
        pq.read_table(folder / f"{part['part']}.parquet") for part in result.manifest["parts"]
    )
