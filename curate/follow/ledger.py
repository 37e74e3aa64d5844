"""What a continuous run has committed, and where its files lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transforms.storage import Folder


@dataclass(frozen=True)
class Ledger:
    """A continuous decision in a store: what is committed, and where its files lie."""

    folder: Folder
    name: str

    def manifest(self) -> dict[str, Any] | None:
        """What is committed, None before the first batch."""
        name = f"ledger/{self.name}/manifest.json"
        found: dict[str, Any] | None = self.folder.read_json(name) if self.folder.exists(name) else None
        return found

    def file(self, name: str) -> str:
        """A file of the continuous run."""
        return f"follow/{self.name}/{name}"

    def begun(self) -> dict[str, Any] | None:
        """The batch that was begun and not committed: its shards and calibration; None for none."""
        if not self.folder.exists(self.file("batch.json")):
            return None
        found: dict[str, Any] = self.folder.read_json(self.file("batch.json"))
        return found if found["batch"] == committed_batches(self.manifest()) + 1 else None


def committed_batches(manifest: Mapping[str, Any] | None) -> int:
    """How many batches are committed."""
    return 0 if manifest is None else int(manifest["follow"]["batches"])


@dataclass
class Committed:
    """What is committed, read again only when it is another than at the reading before."""

    ledger: Ledger
    _stamp: str | None = None
    _found: dict[str, Any] | None = None

    def manifest(self) -> dict[str, Any] | None:
        """The manifest; None before the first batch."""
        # Asked before the content is read: at worst, what is new already is read once more.
        stamp = self.ledger.folder.stamp(f"ledger/{self.ledger.name}/manifest.json")
        if not stamp:
            return None
        if stamp != self._stamp:
            self._found, self._stamp = self.ledger.manifest(), stamp
        return self._found


def decided_shards(manifest: Mapping[str, Any] | None) -> set[str]:
    """The URIs of the shards that are decided."""
    return set() if manifest is None else {part["uri"] for part in manifest["parts"]}


def done_shards(manifest: Mapping[str, Any] | None) -> set[str]:
    """The URIs of the shards that are decided or recorded as failed."""
    if manifest is None:
        return set()
    return decided_shards(manifest) | {lost["shard"] for lost in manifest["failed_shards"]}
