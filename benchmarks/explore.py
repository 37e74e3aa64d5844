"""The explorer over 12.8 million rows: how fast it answers, and 32 people at once."""

from __future__ import annotations

import os
import random
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from benchmarks.decide import BEST, PARTS, ROWS, decide, fill
from benchmarks.fresh import call_fresh
from benchmarks.photographs import scratch
from benchmarks.section import Section

QUICK, EXPLAINED, START, MEMORY = 0.3, 0.05, 5.0, 4 * 2**30
CLIENTS, LOAD_SECONDS = 32, 60
_NUMBERS = {
    "clip_b32_cosine": (0.1, 0.4),
    "clip_l14_cosine": (0.05, 0.35),
    "width": (100, 1500),
    "height": (100, 1500),
    "caption_characters": (10, 100),
    "caption_words": (2, 18),
}
Ask = Callable[[Any, str, random.Random], Any]


def run(*, small: bool) -> Section:
    """One store, one service: each question alone, then many people."""
    parts, rows = (2, 100_000) if small else (PARTS, ROWS)
    with scratch("explore") as store:
        call_fresh(fill, store=str(store), parts=parts, rows=rows)
        call_fresh(
            decide,
            store=str(store),
            parts=parts,
            filters=list(BEST),
            workers=2,
            subset=False,
            torch_threads=1,
        )
        with Served(store) as served:
            found = _alone(served, 10 if small else 60)
            load = _together(served, 3 if small else LOAD_SECONDS)
            whole = {"start": served.started, "peak": served.peak_bytes()}
    return _section(rows, found, load, whole, small=small)


def _alone(served: Served, times: int) -> dict[str, list[float]]:
    """Seconds of each kind of question, the first of which loads its columns and is not counted."""
    import httpx

    found: dict[str, list[float]] = {}
    chance = random.Random(0)  # noqa: S311  (no secrets here)
    with httpx.Client(base_url=served.address, timeout=120) as client:
        for name, ask in QUESTIONS.items():
            for _ in range(3):
                ask(client, served.path, chance)
            found[name] = []
            for _ in range(times):
                started = time.perf_counter()
                ask(client, served.path, chance)
                found[name].append(time.perf_counter() - started)
            print(f"  {name}: p95 {1000 * percentile(found[name], 95):.0f} ms", flush=True)
    return found


@dataclass
class Load:
    """What many people at once saw."""

    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    wall: float = 0.0


def _together(served: Served, seconds: float) -> Load:
    """Thirty-two clients ask in turns of every kind, as fast as they are answered."""
    import httpx

    found, lock = Load(), threading.Lock()
    until = time.perf_counter() + seconds

    def person(number: int) -> None:
        chance = random.Random(number)  # noqa: S311
        with httpx.Client(base_url=served.address, timeout=120) as client:
            while time.perf_counter() < until:
                name = chance.choice(list(QUESTIONS))
                started = time.perf_counter()
                try:
                    QUESTIONS[name](client, served.path, chance)
                except (httpx.HTTPError, ValueError) as error:
                    with lock:
                        found.errors.append(f"{name}: {error}")
                    continue
                with lock:
                    found.seconds.append(time.perf_counter() - started)

    people = [threading.Thread(target=person, args=(number,)) for number in range(CLIENTS)]
    started = time.perf_counter()
    for one in people:
        one.start()
    for one in people:
        one.join()
    found.wall = time.perf_counter() - started
    print(f"  {CLIENTS} clients: {len(found.seconds)} answers, {len(found.errors)} errors", flush=True)
    return found


# --- questions


def _condition(chance: random.Random, column: str) -> dict[str, Any]:
    low, high = _NUMBERS[column]
    return {"column": column, "at_least": round(chance.uniform(low, (low + high) / 2), 4)}


def _conditions(chance: random.Random, many: int) -> list[dict[str, Any]]:
    return [_condition(chance, column) for column in chance.sample(list(_NUMBERS), many)]


def _posted(client: Any, path: str, body: dict[str, Any]) -> Any:
    answer = client.post(path, json=body)
    answer.raise_for_status()
    return answer.json()


def histogram(client: Any, path: str, chance: random.Random) -> None:
    column = chance.choice(list(_NUMBERS))
    body = {"columns": [column], "conditions": _conditions(chance, 3)}
    found = _posted(client, f"{path}/histograms", body)
    if found["total"] == 0:
        raise ValueError(found)


def page(client: Any, path: str, chance: random.Random) -> None:
    body = {
        "conditions": [
            *_conditions(chance, 1),
            {"column": "verdict", "one_of": [chance.choice(["keep", "drop"])]},
        ],
        "sort": chance.choice(list(_NUMBERS)),
        "descending": chance.random() < 0.5,
        "limit": 60,
    }
    found = _posted(client, f"{path}/samples", body)
    if len(found["samples"]) != 60:
        raise ValueError(found["matching"])


def threshold(client: Any, path: str, chance: random.Random) -> None:
    body = {
        "bound": _condition(chance, "clip_b32_cosine"),
        "step": "min_clip_cosine",
        "conditions": [],
        "examples": 8,
    }
    _posted(client, f"{path}/cut", body)


UIDS: list[str] = []


def explained(client: Any, path: str, chance: random.Random) -> None:
    if not UIDS:
        body = {"conditions": [], "offset": 12345, "limit": 200}
        UIDS.extend(sample["uid"] for sample in _posted(client, f"{path}/samples", body)["samples"])
    client.get(f"{path}/samples/{chance.choice(UIDS)}").raise_for_status()


QUESTIONS: dict[str, Ask] = {
    "a histogram with three conditions": histogram,
    "a page of 60 samples, filtered and sorted": page,
    "a threshold dragged": threshold,
    "one uid explained": explained,
}


# --- the service


class Served:
    """The service as a user starts it, on a free port of this machine."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self.started = 0.0
        self.address = self.path = ""

    def __enter__(self) -> Self:
        import httpx

        began = time.perf_counter()
        command = [str(Path(sys.executable).with_name("curate")), "serve", str(self._store), "--port", "0"]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        said = ""
        while not (found := re.search(r"http://[0-9.:]+", said)):
            line = self._process.stderr.readline() if self._process.stderr else ""
            if not line:
                raise ValueError(said)
            said += line
        self.address = found[0]
        while True:
            try:
                decisions = httpx.get(f"{self.address}/api/store", timeout=30).json()["decisions"]
                break
            except httpx.TransportError:
                time.sleep(0.02)
        self.started = time.perf_counter() - began
        self.path = f"/api/decisions/{decisions[0]['ledger']}"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(30)

    def peak_bytes(self) -> int:
        """The most memory that the service has held."""
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
        return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) * 1024


def percentile(seconds: list[float], percent: int) -> float:
    return statistics.quantiles(seconds, n=100, method="inclusive")[percent - 1]


def _section(
    rows: int, found: dict[str, list[float]], load: Load, whole: dict[str, Any], *, small: bool
) -> Section:
    started, peak = whole["start"], whole["peak"]
    lines = [
        [
            name,
            f"{1000 * statistics.median(one):.0f}",
            f"{1000 * percentile(one, 95):.0f}",
            str(len(one)),
            "0",
        ]
        for name, one in found.items()
    ]
    lines.append(
        [
            f"{CLIENTS} clients for {load.wall:.0f} s, every kind",
            f"{1000 * statistics.median(load.seconds):.0f}",
            f"{1000 * percentile(load.seconds, 95):.0f}",
            str(len(load.seconds)),
            str(len(load.errors)),
        ]
    )
    bounds = dict.fromkeys(found, QUICK) | {"one uid explained": EXPLAINED}
    met: list[tuple[str, bool | None]] = [
        (
            f"{name}: p95 under {1000 * bounds[name]:.0f} ms",
            None if small else percentile(one, 95) < bounds[name],
        )
        for name, one in found.items()
    ]
    met += [
        (f"start under {START:g} s ({started:.1f} s)", None if small else started < START),
        (f"memory under {MEMORY / 2**30:g} GiB ({peak / 2**20:,.0f} MiB)", None if small else peak < MEMORY),
        (f"{CLIENTS} clients: no errors", not load.errors),
    ]
    return Section(
        name="explore",
        measured=(
            f"`curate serve` over {rows:,} rows in a fresh process, asked over HTTP on loopback; bounds "
            "and columns change with every question, so that no answer is a remembered one"
        ),
        against="the targets",
        columns=("question", "p50 ms", "p95 ms", "answers", "errors"),
        rows=lines,
        met=met,
        remarks=[
            "The first three questions of each kind load columns and are not counted.",
            f"The service and its clients share {os.cpu_count()} cores.",
            *sorted(set(load.errors))[:3],
        ],
    )
