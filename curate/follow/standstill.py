"""A stream in which nothing moves although shards wait: an engine that lost work does not say so."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from filters.core.errors import WorkerLost


@dataclass
class Standstill:
    """Watches one stream.

    Attributes:
        seconds: how long it may have work and do none.
        clock: seconds that never go back.
    """

    seconds: float
    clock: Callable[[], float] = time.monotonic
    _since: float = field(init=False)
    _committed: int = -1

    def __post_init__(self) -> None:
        self._since = self.clock()

    def check(self, waiting: int, committed: int, busy: Callable[[], bool]) -> None:
        """Raises WorkerLost where it has stood still for too long.

        waiting: shards. committed: batches. busy: whether a worker is measuring or committing just now;
            asked only once nothing was committed for half of the time.
        """
        now = self.clock()
        if not waiting or committed != self._committed:
            self._since, self._committed = now, committed
        elif now - self._since > self.seconds / 2:
            if busy():
                self._since = now
            elif now - self._since > self.seconds:
                msg = (
                    f"{waiting} shards wait, and for {now - self._since:.0f} s nothing was measured or "
                    "committed: the engine has lost work"
                )
                raise WorkerLost(msg)
