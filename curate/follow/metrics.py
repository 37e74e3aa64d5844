"""Prometheus metrics of a continuous run: the text format, and an endpoint that serves it.

Everything but the seconds of stages follows from the status, so counters go on where they were after
a restart. The format is that of https://prometheus.io/docs/instrumenting/exposition_formats (0.0.4).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

from filters.core.errors import RunnerError

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True)
class Metric:
    """A metric; labels: their names."""

    name: str
    kind: Literal["counter", "gauge"]
    meaning: str
    labels: tuple[str, ...] = ()


METRICS = (
    Metric("curate_shards_done_total", "counter", "Shards that are decided."),
    Metric("curate_shards_failed", "gauge", "Shards that could not be read at all."),
    Metric("curate_shards_waiting", "gauge", "Shards that have arrived and are not decided."),
    Metric("curate_lag_seconds", "gauge", "Age of the oldest shard that waits; 0 for none."),
    Metric("curate_batches_total", "counter", "Batches of shards that are committed."),
    Metric("curate_samples_total", "counter", "Decided samples by verdict.", ("verdict",)),
    Metric("curate_dropped_total", "counter", "Samples that a filter stopped.", ("filter",)),
    Metric("curate_window_failures", "gauge", "Failed samples of the window by code.", ("code",)),
    Metric("curate_window_kept_rate", "gauge", "Kept share of the samples of the window."),
    Metric("curate_window_kept_low", "gauge", "Lower end of the kept rate's interval."),
    Metric("curate_window_kept_high", "gauge", "Upper end of the kept rate's interval."),
    Metric("curate_drift_distance", "gauge", "Distance of a signal to the calibration.", ("signal",)),
    Metric("curate_drift_far_share", "gauge", "Share of samples far from all centroids.", ("filter",)),
    Metric("curate_drift_alarm", "gauge", "1 for each alarm, by what it is about.", ("about",)),
    Metric("curate_looks_total", "counter", "Looks at the pool since this process began."),
    Metric("curate_look_seconds", "gauge", "Duration of the last look at the pool."),
    Metric("curate_stage_seconds_total", "counter", "Seconds since this process began.", ("stage",)),
)


@dataclass
class Process:
    """What the status does not know: what this process has done since it began."""

    looks: int = 0
    look_seconds: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)

    def spent(self, stage: str, seconds: float) -> None:
        """Adds to the seconds of a stage."""
        self.stages[stage] = self.stages.get(stage, 0.0) + seconds


Samples = dict[str, dict[tuple[str, ...], float]]


def render(status: Mapping[str, Any], process: Process) -> str:
    """The metrics in Prometheus' text format, each labelled with the run's name."""
    values = _values(status, process)
    lines = []
    for metric in METRICS:
        lines += [f"# HELP {metric.name} {metric.meaning}", f"# TYPE {metric.name} {metric.kind}"]
        for found, value in sorted(values[metric.name].items()):
            labels = zip(("ledger", *metric.labels), (status["ledger"], *found), strict=True)
            shown = ",".join(f'{name}="{_escaped(label)}"' for name, label in labels)
            lines.append(f"{metric.name}{{{shown}}} {float(value)!r}")
    return "\n".join(lines) + "\n"


def _values(status: Mapping[str, Any], process: Process) -> Samples:
    shards, drift = status["shards"], status["drift"] or {"distances": {}, "far": {}, "alarms": {}}
    window = status["windows"][-1] if status["windows"] else None
    low, high = (window and window["interval"]) or (None, None)
    return {
        "curate_shards_done_total": _one(shards["done"]),
        "curate_shards_failed": _one(shards["failed"]),
        "curate_shards_waiting": _one(shards["waiting"]),
        "curate_lag_seconds": _one(status["lag_seconds"]),
        "curate_batches_total": _one(status["batches"]),
        "curate_samples_total": _each(status["verdicts"]),
        "curate_dropped_total": _each(status["dropped_by"]),
        "curate_window_failures": _each(status["failures"]),
        "curate_window_kept_rate": _one(window and window["kept_rate"]),
        "curate_window_kept_low": _one(low),
        "curate_window_kept_high": _one(high),
        "curate_drift_distance": _each(drift["distances"]),
        "curate_drift_far_share": _each(drift["far"]),
        "curate_drift_alarm": _each(dict.fromkeys(drift["alarms"], 1)),
        "curate_looks_total": _one(process.looks),
        "curate_look_seconds": _one(process.look_seconds),
        "curate_stage_seconds_total": _each(process.stages),
    }


def _one(value: float | None) -> dict[tuple[str, ...], float]:
    return {} if value is None else {(): value}


def _each(values: Mapping[str, float]) -> dict[tuple[str, ...], float]:
    return {(name,): value for name, value in values.items()}


def _escaped(label: str) -> str:
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


@dataclass
class Page:
    """The text that the endpoint serves; replaced as a whole."""

    text: str = ""


@contextmanager
def serve_metrics(page: Page, port: int, host: str = "127.0.0.1") -> Iterator[int]:
    """Serves the page at /metrics while the block runs; yields the port (0 takes a free one).

    Raises: RunnerError where the port is taken.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path.partition("?")[0] == "/metrics"
            content = page.text.encode() if known else b"the metrics are at /metrics\n"
            self.send_response(200 if known else 404)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (its name in the base class)
            """Requests are not logged."""

    try:
        server = ThreadingHTTPServer((host, port), Handler)
    except OSError as cause:
        msg = f"can't serve metrics on port {port}: {cause.strerror}; choose another --metrics-port"
        raise RunnerError(msg) from cause
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
