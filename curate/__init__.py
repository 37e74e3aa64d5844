"""Curate: streaming curation of image-text data, with a verdict for every row."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from curate.client import CuratedStore

__version__ = "0.1.0"


def open(  # noqa: A001  (read as `curate.open`)
    url: str | PathLike[str],
    *,
    decision: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    pool_options: Mapping[str, Any] | None = None,
) -> CuratedStore:
    """The store at this path or URL, opened to be asked from Python.

    decision: its name or its recipe's; the latest if not given.
    storage_options, pool_options: fsspec options of the store and of the pool's shards.
    Raises: StoreError where there is no finished run; QueryError for an unknown decision.
    """
    # The client takes a second to import, which `import curate` need not wait for.
    from curate.client import open_store  # noqa: PLC0415

    return open_store(str(url), decision, storage_options or {}, pool_options or {})
