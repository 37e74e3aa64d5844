"""Drift: what the last window of shards says against the calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from curate.follow.ledger import Ledger
from curate.recipe import DriftSection
from filters.core.binomial import binomial_tail
from filters.core.drift import KeptRate, accidental_distance, add_counts, distance

WINDOWS_SHOWN = 10


@dataclass(frozen=True)
class Window:
    """Consecutive shards in order of arrival.

    Attributes:
        first, shards: the number of its first shard, and how many there are so far.
        interval: where its kept rate lies, if nothing has changed; None without a calibration.
    """

    first: int
    shards: int
    rows: int
    kept: int
    failed: int
    interval: tuple[float, float] | None

    @property
    def kept_rate(self) -> float:
        """Kept rows over all rows; 0 where there are none."""
        return self.kept / self.rows if self.rows else 0.0


@dataclass(frozen=True)
class Drift:
    """What the last window says.

    Attributes:
        distances: signal -> Kolmogorov-Smirnov distance to the calibration.
        far: step -> share of the compared rows that lie far from all of its centroids.
        alarms: in words, by what they are about: kept_rate, failures, far or the signal's name.
    """

    window: Window
    distances: Mapping[str, float] = field(default_factory=dict)
    far: Mapping[str, float] = field(default_factory=dict)
    alarms: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "window": window_json(self.window)}


def window_json(window: Window) -> dict[str, Any]:
    """The window as JSON values, with its kept rate."""
    return {**asdict(window), "kept_rate": window.kept_rate}


def find_windows(
    manifest: Mapping[str, Any], reference: Mapping[str, Any] | None, section: DriftSection
) -> list[Window]:
    """The last windows, the latest, which may not be full yet, at the end."""
    parts = manifest["parts"]
    size = section.window_shards
    firsts = range(0, len(parts), size)
    return [
        _window(parts[first : first + size], first, reference, section) for first in firsts[-WINDOWS_SHOWN:]
    ]


def find_drift(
    ledger: Ledger,
    manifest: Mapping[str, Any],
    reference: Mapping[str, Any] | None,
    section: DriftSection,
    max_failed_fraction: float,
) -> Drift | None:
    """What the latest window says; None where nothing is decided yet."""
    windows = find_windows(manifest, reference, section)
    if not windows:
        return None
    window = windows[-1]
    alarms: dict[str, str] = {}
    if window.rows and window.failed / window.rows > max_failed_fraction:
        share = f"{window.failed / window.rows:.1%}"
        alarms["failures"] = f"{share} of the samples failed, more than max_failed_fraction"
    if reference is None:
        return Drift(window, alarms=alarms)
    number = manifest["follow"]["calibration"]
    here = manifest["parts"][window.first :]
    names = [part["part"] for part in here if part["calibration"] == number]
    facts = [ledger.folder.read_json(ledger.file(f"facts/{name}.json")) for name in names]
    distances = _distances(facts, reference, section, alarms)
    far = _far(facts, section, alarms)
    if section.kept_rate and window.interval is not None and window.rows:
        low, high = window.interval
        if not low <= window.kept_rate <= high:
            alarms["kept_rate"] = (
                f"{window.kept_rate:.1%} are kept; the calibration says {low:.1%} to {high:.1%}"
            )
    return Drift(window, distances, far, alarms)


def _window(
    parts: Sequence[Mapping[str, Any]],
    first: int,
    reference: Mapping[str, Any] | None,
    section: DriftSection,
) -> Window:
    rows = sum(part["rows"] for part in parts)
    kept, failed = (sum(part["verdicts"].get(name, 0) for part in parts) for name in ("keep", "failed"))
    interval = None
    if reference is not None:
        interval = KeptRate(**reference["kept"]).interval(rows, section.confidence)
    return Window(first, len(parts), rows, kept, failed, interval)


def _distances(
    facts: Sequence[Mapping[str, Any]],
    reference: Mapping[str, Any],
    section: DriftSection,
    alarms: dict[str, str],
) -> dict[str, float]:
    found = {}
    for name, calibrated in reference["signals"].items():
        counted = [one["signals"][name] for one in facts if name in one.get("signals", {})]
        if not counted:
            continue
        seen = add_counts(counted)
        found[name] = distance(calibrated["counts"], seen)
        noise = accidental_distance(sum(calibrated["counts"]), sum(seen), section.confidence)
        if found[name] > max(section.distance_above, noise):
            alarms[name] = f"its distribution is {found[name]:.2f} from the calibration's"
    return found


def _far(
    facts: Sequence[Mapping[str, Any]], section: DriftSection, alarms: dict[str, str]
) -> dict[str, float]:
    found = {}
    for step in sorted({name for one in facts for name in one.get("far", {})}):
        far, compared = add_counts([one["far"][step] for one in facts if step in one.get("far", {})])
        if not compared:
            continue
        found[step] = far / compared
        chance = binomial_tail(compared, far, section.far_share_above)
        if found[step] > section.far_share_above and chance < 1 - section.confidence:
            alarms[f"far from {step}"] = f"{found[step]:.1%} lie far from all of its centroids"
    return found
