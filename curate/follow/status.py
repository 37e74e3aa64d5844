"""How a continuous run stands: what is done, waiting and failed, how far behind, and drift."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from curate.follow.calibration import Calibration, read_calibration
from curate.follow.drift import find_drift, find_windows, window_json
from curate.follow.ledger import Ledger, committed_batches
from curate.recipe import DriftSection
from filters.core.catalogue import nearest
from filters.core.errors import QueryError
from transforms.storage import redact
from transforms.store import Store

SESSION = "session.json"
FAILED_SHOWN = 20
STOPPED_AFTER = 30.0  # seconds without a sign of life, beyond the time between two looks


def read_status(store: Store, name: str | None = None) -> dict[str, Any]:
    """The status of the continuous run of this name, of its recipe, or of the only one; JSON values.

    Raises: QueryError where there is none, or several and none is named.
    """
    store.check()
    known = store.folder.names("follow")
    chosen = [one for one in known if name is None or name in (one, one.rpartition("-")[0])]
    if len(chosen) != 1:
        where = redact(store.folder.url)
        fix = nearest(name or "", known) if known else "begin with `curate run RECIPE --follow`"
        msg = f"{where} has no single continuous run{f' {name!r}' if name else ''}; {fix}"
        raise QueryError(msg)
    ledger = Ledger(store.folder, chosen[0])
    session = store.folder.read_json(ledger.file(SESSION)) if _has(ledger, SESSION) else {}
    manifest = ledger.manifest()
    calibration = committed_calibration(store, ledger.name, manifest)
    return with_session(decided_status(ledger, manifest, calibration), session)


def decided_status(
    ledger: Ledger, manifest: Mapping[str, Any] | None, calibration: Calibration | None
) -> dict[str, Any]:
    """What is committed, and drift."""
    status: dict[str, Any] = {
        "ledger": ledger.name,
        "batches": committed_batches(manifest),
        "calibration": None if calibration is None else calibration.number,
        "shards": {"done": 0, "waiting": 0, "failed": 0},
        "rows": 0,
        "verdicts": {},
        "dropped_by": {},
        "failed_shards": [],
        "failures": {},
        "windows": [],
        "drift": None,
    }
    if manifest is None:
        return status
    recipe = manifest["recipe"]
    section = DriftSection.model_validate(recipe["drift"])
    reference = None if calibration is None else calibration.reference
    drift = find_drift(ledger, manifest, reference, section, recipe["max_failed_fraction"])
    lost = manifest["failed_shards"]
    return status | {
        "shards": {"done": len(manifest["parts"]), "waiting": 0, "failed": len(lost)},
        "rows": manifest["rows"],
        "verdicts": manifest["verdicts"],
        "dropped_by": manifest["dropped_by"],
        "failed_shards": lost[-FAILED_SHOWN:],
        "failures": _failures(ledger, manifest, section),
        "windows": [window_json(one) for one in find_windows(manifest, reference, section)],
        "drift": None if drift is None else drift.as_json(),
    }


def with_session(status: Mapping[str, Any], session: Mapping[str, Any]) -> dict[str, Any]:
    """The status with what the run said last of itself: what waits, and whether it runs."""
    waiting = session.get("waiting", {"shards": 0, "oldest": None, "uri": None})
    now = time.time()
    oldest = waiting["oldest"]
    return {
        **status,
        "shards": {**status["shards"], "waiting": waiting["shards"]},
        "running": _running(session, now),
        "looked": session.get("looked"),
        "lag_seconds": 0.0 if oldest is None else max(0.0, now - oldest),
        "oldest_waiting": waiting["uri"],
    }


def committed_calibration(store: Store, name: str, manifest: Mapping[str, Any] | None) -> Calibration | None:
    """The calibration that the last batch was decided by; None for none."""
    number = 0 if manifest is None else int(manifest["follow"]["calibration"])
    return read_calibration(store, name, number) if number else None


def _failures(ledger: Ledger, manifest: Mapping[str, Any], section: DriftSection) -> dict[str, int]:
    """Code -> failed samples of the latest window."""
    first = (len(manifest["parts"]) - 1) // section.window_shards * section.window_shards
    total: Counter[str] = Counter()
    for part in manifest["parts"][max(0, first) :]:
        total.update(ledger.folder.read_json(ledger.file(f"facts/{part['part']}.json"))["failures"])
    return dict(sorted(total.items()))


def _running(session: Mapping[str, Any], now: float) -> bool:
    if not session or session["ended"]:
        return False
    # From the future is what was said before a clock was set back: one that lives says it anew.
    return bool(session["busy"] or abs(now - session["looked"]) < session["every"] + STOPPED_AFTER)


def _has(ledger: Ledger, name: str) -> bool:
    return ledger.folder.exists(ledger.file(name))
