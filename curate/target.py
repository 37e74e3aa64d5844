"""Where a command's results go, as the command line says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from transforms.store import Store


@dataclass(frozen=True)
class Target:
    """The URL of a store, and fsspec options that win over the recipe's."""

    url: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def store(self, defaults: Mapping[str, Any] | None = None) -> Store:
        """The store; defaults: storage options of a recipe."""
        return Store.at(self.url, {**(defaults or {}), **self.options})
