"""The continuous run: look at the pool, take what is complete through one batch, look again.

Each batch is bounded pipelines over the shards that are new. The store's lock is held for a batch
alone, so `curate remove` and other runs get their turn between two of them.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from curate.engine import Engine
from curate.follow.arrivals import SHARDS_AT_ONCE, Arrivals, Waiting, in_order
from curate.follow.batch import run_batch
from curate.follow.calibration import Calibration
from curate.follow.continuing import calibrated_steps, refuse_continuous, require_calibration
from curate.follow.ledger import Ledger, committed_batches, done_shards
from curate.follow.metrics import Page, Process, serve_metrics
from curate.follow.status import SESSION, committed_calibration, decided_status, with_session
from curate.pipeline import Flow, Say
from curate.plan import Plan, plan_for
from curate.recipe import Recipe
from curate.run import RunOptions
from filters.core.errors import PoolError, RunnerError, StoreLocked
from transforms.pool import Shard
from transforms.removal import finish_removals
from transforms.store import Store
from transforms.subset import write_subset

logger = logging.getLogger("curate.follow")

SIGN_SECONDS = 10.0  # between two signs of life


@dataclass(frozen=True)
class FollowOptions:
    """How a pool is followed.

    Attributes:
        every: seconds between two looks.
        until_idle: end when every shard that is there is done.
        metrics_port: where Prometheus finds the metrics, 0 for a free port; None for nowhere.
        as_json: whether all that is said is logged as JSON.
        command: what makes a calibration, for the message.
        streaming: as one unbounded pipeline, in place of a loop of bounded ones.
    """

    every: float = 1.0
    until_idle: bool = False
    metrics_port: int | None = None
    as_json: bool = False
    command: str = "curate calibrate"
    streaming: bool = False


@dataclass
class Follower:
    """A continuous run of one recipe over one pool into one store."""

    recipe: Recipe
    store: Store
    pool: Sequence[str]
    run: RunOptions
    options: FollowOptions
    say: Say
    stop: threading.Event = field(default_factory=threading.Event)
    page: Page = field(default_factory=Page)
    process: Process = field(default_factory=Process)
    _plan: Plan | None = None
    _retried: set[str] = field(default_factory=set)
    _alarms: frozenset[str] = frozenset()
    _signed: tuple[float, dict[str, Any]] | None = None
    _tidy: bool = True
    _manifest: dict[str, Any] | None = None
    _known: set[str] = field(default_factory=set)
    _status: dict[str, Any] = field(default_factory=dict)

    # What runs it; checked before anything starts.
    engines: ClassVar[tuple[str, ...]] = ("local", "prism")
    refusal: ClassVar[str] = "--follow runs on this machine: use --runner local or prism"

    def follow(self) -> None:
        """Goes on until `stop` is set, or until idle where that is asked for.

        Raises: RecipeError where the recipe can't be continued, or needs a calibration that is not
        there; whatever a run raises. What was committed stays, and the next run goes on from there.
        """
        arrivals = Arrivals(self.pool or self.recipe.file.pool.uris, self.recipe.file.pool)
        if not arrivals.patterns:
            msg = "no pool given: use --pool 'shards/*.tar', or `pool: uri:` in the recipe"
            raise PoolError(msg)
        self.store.prepare()
        runner = self.run.where()
        if runner.name not in self.engines:
            msg = f"{self.refusal}, not {runner.name}"
            raise RunnerError(msg)
        with runner.start(self.recipe.name) as engine, self._metrics():
            waiting = self._go_on(engine, arrivals)
        self._end(waiting)

    def _go_on(self, engine: Engine, arrivals: Arrivals) -> list[Waiting]:
        """Follows until there is an end; returns what waits then."""
        waiting = self._look(arrivals)
        while not self.stop.is_set():
            if not self._advance(engine, waiting):
                if self.options.until_idle and not waiting:
                    break
                self.stop.wait(self.options.every)
            if not self.stop.is_set():
                waiting = self._look(arrivals)
        return waiting

    # --- looking

    def _look(self, arrivals: Arrivals) -> list[Waiting]:
        """What has arrived and is not done."""
        started = time.perf_counter()
        waiting = arrivals.look(self._done())
        self.process.looks += 1
        self.process.look_seconds = time.perf_counter() - started
        self._sign(waiting, busy=False)
        return waiting

    def _done(self) -> set[str]:
        """The shards that are left alone; those that failed are tried once more by each process."""
        failed = {lost["shard"] for lost in (self._manifest or {}).get("failed_shards", ())}
        return self._known - (failed - self._retried)

    # --- a batch

    def _advance(self, engine: Engine, waiting: Sequence[Waiting]) -> bool:
        """Takes a batch of complete shards to its commit; False where there was nothing to do."""
        if self._plan is None and not self._make_plan(waiting):
            return False
        plan = self._planned()
        ledger = Ledger(self.store.folder, plan.continuous_id)
        done = self._done()  # the first look was made before it was known
        shards = [shard for shard in in_order(waiting) if shard.uri not in done][:SHARDS_AT_ONCE]
        if not shards and ledger.begun() is None:
            return False
        self._sign(waiting, busy=True)
        calibration = require_calibration(plan, self.options.command)
        try:
            with self.store.lock(tidy=self._tidy):
                finish_removals(self.store)
                self._batch(Flow(plan, engine, self.say, self.run.decode_threads), calibration, shards)
        except StoreLocked as locked:
            logger.warning("%s; trying again", locked)
            return False
        self._tidy = False
        return True

    def _batch(self, flow: Flow, calibration: Calibration, shards: Sequence[Shard]) -> None:
        ledger = Ledger(self.store.folder, flow.plan.continuous_id)
        committed = ledger.manifest()
        if committed_batches(committed) != committed_batches(self._manifest):
            # Another process went on in between: look again at what is left.
            self._committed(committed)
            return
        started = time.perf_counter()
        self._retried |= {shard.uri for shard in shards}
        flow = replace(flow, laps={}, reports=[])
        self._committed(run_batch(flow, calibration, shards))
        seconds = time.perf_counter() - started
        self.process.spent("batch", seconds)
        for stage, spent in flow.laps.items():
            self.process.spent(stage, spent)
        self.process.measured(flow.reports, flow.laps.get("measure", 0.0) * flow.engine.workers)
        self._tell(committed_batches(self._manifest), f"{seconds:.1f} s")

    def _make_plan(self, waiting: Sequence[Waiting]) -> bool:
        """Plans once a first shard has arrived; refuses then what can't work."""
        if not waiting:
            return False
        runner = self.run.where()
        plan = plan_for(self.recipe, [waiting[0].shard], self.store)
        runner.check(plan)
        plan = runner.seen_by_workers(plan)
        refuse_continuous(plan)
        if calibrated_steps(plan):
            require_calibration(plan, self.options.command)
        self._plan = plan
        self._committed(Ledger(self.store.folder, plan.continuous_id).manifest())
        return True

    def _committed(self, manifest: dict[str, Any] | None) -> None:
        """Takes note of what is committed now, which questions are about unless they name another."""
        name, folder = self._planned().continuous_id, self.store.folder
        self._manifest = manifest
        self._known = done_shards(manifest)
        latest = folder.read_json("latest.json")["ledger"] if folder.exists("latest.json") else None
        if manifest is not None and latest != name:
            folder.write_json("latest.json", {"ledger": name})
        calibration = committed_calibration(self.store, name, manifest)
        self._status = decided_status(Ledger(self.store.folder, name), manifest, calibration)

    def _planned(self) -> Plan:
        if self._plan is None:
            raise TypeError(self.recipe.name)
        return self._plan

    # --- telling

    def _tell(self, batch: int, took: str) -> None:
        """Says what a batch came to, and each alarm when it begins and ends."""
        manifest = self._manifest or {}
        parts = [part for part in manifest["parts"] if part["batch"] == batch]
        for part in parts:
            extra = {"shard": part["uri"], "batch": batch, "verdicts": part["verdicts"]}
            logger.info("decided %s: %s", part["uri"], part["verdicts"], extra=extra)
        rows = sum(part["rows"] for part in parts)
        kept = sum(part["verdicts"].get("keep", 0) for part in parts)
        self.say(f"batch {batch}: {len(parts)} shards, {rows} samples, {kept} kept, {took}")
        drift = self._status["drift"]
        alarms = {} if drift is None else drift["alarms"]
        for name in sorted(alarms.keys() - self._alarms):
            logger.warning("drift: %s: %s", name, alarms[name], extra={"alarm": name, "batch": batch})
        for name in sorted(self._alarms - alarms.keys()):
            logger.warning("drift: %s is over", name, extra={"alarm": name, "batch": batch})
        self._alarms = frozenset(alarms)

    def _sign(self, waiting: Sequence[Waiting], *, busy: bool, ended: bool = False) -> None:
        """Leaves a sign of life for `curate status`, and renews the metrics."""
        if self._plan is None:
            return
        ledger = Ledger(self.store.folder, self._plan.continuous_id)
        oldest = min(waiting, key=lambda one: one.arrival) if waiting else None
        told = {
            "pid": os.getpid(),
            "every": self.options.every,
            "busy": busy,
            "ended": ended,
            "waiting": {
                "shards": len(waiting),
                "oldest": oldest and oldest.changed,
                "uri": oldest and oldest.shard.uri,
            },
        }
        now = time.time()
        since = time.monotonic()  # a clock that is set back would silence it for as long
        if self._signed is None or self._signed[1] != told or since - self._signed[0] > SIGN_SECONDS:
            self.store.folder.write_json(ledger.file(SESSION), {**told, "looked": now})
            self._signed = (since, told)
        if self.options.metrics_port is not None:
            status = with_session(self._status, {**told, "looked": now})
            self.page.show(status, self.process)

    @contextmanager
    def _metrics(self) -> Iterator[None]:
        port = self.options.metrics_port
        with nullcontext() if port is None else serve_metrics(self.page, port) as served:
            if served is not None:
                self.say(f"metrics at http://127.0.0.1:{served}/metrics")
            yield

    def _end(self, waiting: Sequence[Waiting]) -> None:
        """The subset of all that is kept, once at the end: it is sorted, so it can't grow."""
        if self._plan is None:
            return
        self._sign(waiting, busy=False, ended=True)
        if self._manifest is None or not self.recipe.file.output.subset:
            return
        ledger, parts = self._plan.continuous_id, [part["part"] for part in self._manifest["parts"]]
        kept = self._manifest["verdicts"].get("keep", 0)
        with self.store.lock(tidy=False):
            write_subset(self.store, f"ledger/{ledger}", parts, f"subsets/{ledger}.npy", kept)
