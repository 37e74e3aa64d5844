"""Prometheus metrics of a continuous run, and an endpoint that serves them.

Everything but the seconds of stages follows from the status, so counters go on where they were after
a restart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from prometheus_client import CollectorRegistry, core, start_http_server
from prometheus_client.registry import Collector

from filters.core.errors import RunnerError
from transforms.measuring import ShardReport

FAMILIES = {"counter": core.CounterMetricFamily, "gauge": core.GaugeMetricFamily}


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
    Metric("curate_model_seconds_total", "counter", "Seconds that models computed in this process's time."),
    Metric(
        "curate_model_wait_share", "gauge", "Share of the last batch's measuring without a model at work."
    ),
    Metric("curate_read_ahead_samples", "gauge", "Samples that wait for the model, mean of the last batch."),
)


@dataclass
class Process:
    """What the status does not know: what this process has done since it began."""

    looks: int = 0
    look_seconds: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)
    model_seconds: float = 0.0
    wait_share: float | None = None
    read_ahead: float | None = None

    def spent(self, stage: str, seconds: float) -> None:
        """Adds to the seconds of a stage."""
        self.stages[stage] = self.stages.get(stage, 0.0) + seconds

    def measured(self, reports: Sequence[ShardReport], seconds: float) -> None:
        """Takes what a batch's shards say; seconds: those of measuring, of all workers together."""
        models, rows = sum(one.model_seconds for one in reports), sum(one.rows for one in reports)
        self.model_seconds += models
        # Without a model at all there is nothing that waits.
        self.wait_share = max(0.0, 1 - models / seconds) if models and seconds else None
        self.read_ahead = sum(one.read_ahead for one in reports) / rows if rows else None


Samples = dict[str, dict[tuple[str, ...], float]]


class Page(Collector):
    """The metrics that the endpoint serves, each labelled with the run's name; replaced as a whole."""

    def __init__(self) -> None:
        self._ledger = ""
        self._found: Samples = {}

    def show(self, status: Mapping[str, Any], process: Process) -> None:
        """Takes what there is to say."""
        self._ledger, self._found = str(status["ledger"]), _values(status, process)

    def collect(self) -> Iterator[core.Metric]:
        """Every metric, once there is anything to say; one that has nothing to say has no sample."""
        ledger, values = self._ledger, self._found
        for metric in METRICS if values else ():
            labels = ("ledger", *metric.labels)
            family = FAMILIES[metric.kind](metric.name, metric.meaning, labels=labels)
            for found, value in sorted(values.get(metric.name, {}).items()):
                family.add_metric([ledger, *found], float(value))
            yield family


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
        "curate_model_seconds_total": _one(process.model_seconds),
        "curate_model_wait_share": _one(process.wait_share),
        "curate_read_ahead_samples": _one(process.read_ahead),
    }


def _one(value: float | None) -> dict[tuple[str, ...], float]:
    return {} if value is None else {(): value}


def _each(values: Mapping[str, float]) -> dict[tuple[str, ...], float]:
    return {(name,): value for name, value in values.items()}


@contextmanager
def serve_metrics(page: Page, port: int, host: str = "127.0.0.1") -> Iterator[int]:
    """Serves the page at /metrics while the block runs; yields the port (0 takes a free one).

    Raises: RunnerError where the port is taken.
    """
    registry = CollectorRegistry()
    registry.register(page)
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as cause:
        msg = f"can't serve metrics on port {port}: {cause.strerror}; choose another --metrics-port"
        raise RunnerError(msg) from cause
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
