"""What the routes need: the library, the limits, and how many may ask at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, TypeAlias, cast

from fastapi import Depends, Path, Request

from curate.console import Bounds
from curate.explore.explorer import Explorer
from curate.serve.errors import AbsentError, BusyError
from curate.serve.library import Library
from curate.serve.searching import Searchers
from curate.serve.sql_process import Place, SqlProcess
from filters.core.errors import QueryError

HEAVY_AT_ONCE = 4
_WAIT_SECONDS = 20.0


@dataclass(frozen=True)
class Service:
    """One running service."""

    library: Library
    bounds: Bounds = field(default_factory=Bounds)
    _heavy: threading.BoundedSemaphore = field(
        default_factory=lambda: threading.BoundedSemaphore(HEAVY_AT_ONCE), repr=False
    )

    def __post_init__(self) -> None:
        folder = self.library.store.folder
        object.__setattr__(self, "sql", SqlProcess(Place(folder.url, folder.options), self.bounds))
        object.__setattr__(self, "searchers", Searchers(self.library))

    sql: SqlProcess = field(init=False, repr=False)
    searchers: Searchers = field(init=False, repr=False)

    @contextmanager
    def heavy(self) -> Iterator[None]:
        """Room for an answer that takes the processor for a while.

        Raises: BusyError where there was none for 20 s.
        """
        if not self._heavy.acquire(timeout=_WAIT_SECONDS):
            msg = "too many people are asking at once: try again in a moment"
            raise BusyError(msg)
        try:
            yield
        finally:
            self._heavy.release()

    def explorer(self, ledger: str) -> Explorer:
        """The decision of this name.

        Raises: AbsentError.
        """
        try:
            return self.library.explorer(ledger)
        except QueryError as cause:
            raise AbsentError(str(cause)) from cause


def service_of(request: Request) -> Service:
    """The service that a request came to."""
    return cast("Service", request.app.state.service)


def explorer_of(
    request: Request, ledger: Annotated[str, Path(max_length=100, description="A decision.")]
) -> Explorer:
    """The decision that a request is about."""
    return service_of(request).explorer(ledger)


WithService: TypeAlias = Annotated[Service, Depends(service_of)]
WithExplorer: TypeAlias = Annotated[Explorer, Depends(explorer_of)]
