"""Runs benchmarks and writes what they found to benchmarks/RESULTS.md."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.fresh import call_fresh
from benchmarks.photographs import CACHE
from benchmarks.runner import run_benchmark
from benchmarks.section import replace_section, section_of

NAMES = (
    "measure_vs_loop",
    "overlap",
    "beam_share",
    "memory_flat",
    "decide",
    "hamming",
    "resharding",
    "relate",
    "marking",
    "mixtures",
    "detectors",
    "search",
    "explore",
    "stored_bytes",
    "million_shards",
    "engines",
    "large_pictures",
    "follow",
    "gpu",
)
RESULTS = Path(__file__).with_name("RESULTS.md")
SMALL_RESULTS = CACHE / "RESULTS-small.md"


def main() -> int:
    """Runs the benchmarks that the command line names, or all; 1 where one of them broke."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="; ".join(map(_described, NAMES)))
    parser.add_argument(
        "--small", action="store_true", help="a smoke run of seconds; RESULTS.md is left alone"
    )
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(NAMES))
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}")
    results = SMALL_RESULTS if options.small else RESULTS
    broken = [name for name in options.names or NAMES if not _run(name, results, small=options.small)]
    if broken:
        print(f"broken: {', '.join(broken)}", file=sys.stderr)
    return 1 if broken else 0


def _run(name: str, results: Path, *, small: bool) -> bool:
    print(_described(name), flush=True)
    started = time.perf_counter()
    try:
        found = call_fresh(run_benchmark, name=name, small=small).value
    except subprocess.CalledProcessError:
        return False
    machine = found.pop("machine")
    markdown = section_of(found).markdown(machine)
    replace_section(results, name, markdown, NAMES)
    print(f"\n{markdown}\n({time.perf_counter() - started:.0f} s)\n", flush=True)
    return True


def _described(name: str) -> str:
    """The first line of the benchmark's docstring, read without importing what it imports."""
    text = Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
    return f"{name}: {text.split(chr(10), 1)[0].strip(chr(34))}"


if __name__ == "__main__":
    sys.exit(main())
