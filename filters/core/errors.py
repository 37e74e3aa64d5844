"""Every error that Curate raises on purpose.

CurateError
├── StopRun                  nothing more can be done: exit with `exit_code`
│   ├── RecipeError          the recipe is wrong                               2
│   │   └── MissingSignal    a filter reads a column that nothing writes       2
│   ├── PoolError            no such shards, or not in a format we read        2
│   │   └── NoShards         a pattern matches none, or a folder holds none   2
│   ├── QueryError           SQL, key or uid that can't be answered            2
│   ├── ModelError           checkpoint or device is not usable                2
│   ├── RunnerError          the runner or its options can't work              2
│   ├── TooManyFailures      more broken rows than the recipe allows           3
│   ├── StoreError           the store can't be read or written                4
│   │   └── StoreLocked      another run holds the store                       4
│   ├── InvariantBroken      counts do not add up: a fault of ours             5
│   └── WorkerLost           a worker or an engine's server ended in between   6
│       └── KillerShards     one shard after another ended whoever read it     6
├── RetryShard               try this shard again (network, time-out)
└── SkipShard                record this shard as failed and go on
"""

from __future__ import annotations

from typing import ClassVar


class CurateError(Exception):
    """Something Curate can name; the message says what is wrong, where, and what to do."""


class StopRun(CurateError):  # noqa: N818  (the name says what the runner must do)
    """The run can't go on."""

    exit_code: ClassVar[int] = 1


class RecipeError(StopRun):
    """The recipe can't work; raised before any work starts."""

    exit_code: ClassVar[int] = 2


class MissingSignal(RecipeError):  # noqa: N818  (names what is wrong)
    """A filter reads a column that no measure of this recipe and pool writes."""


class PoolError(StopRun):
    """The pool holds no shards, or none in a format that we read."""

    exit_code: ClassVar[int] = 2


class NoShards(PoolError):  # noqa: N818  (names what is wrong)
    """A pattern matches no shard, or a folder holds none; there may be some later."""


class QueryError(StopRun):
    """The question can't be answered: wrong SQL, or an unknown key or uid."""

    exit_code: ClassVar[int] = 2


class ModelError(StopRun):
    """A checkpoint can't be loaded, or a device was asked for and is absent."""

    exit_code: ClassVar[int] = 2


class RunnerError(StopRun):
    """The runner can't work with its options, this recipe and this store; raised before any work."""

    exit_code: ClassVar[int] = 2


class TooManyFailures(StopRun):
    """More rows or shards failed than the recipe's `max_failed_fraction`."""

    exit_code: ClassVar[int] = 3


class StoreError(StopRun):
    """The store can't be read or written."""

    exit_code: ClassVar[int] = 4


class StoreLocked(StoreError):  # noqa: N818  (names what is wrong)
    """Another run is writing to this store."""


class InvariantBroken(StopRun):
    """Counts that must add up do not."""

    exit_code: ClassVar[int] = 5


class WorkerLost(StopRun):
    """A worker or an engine's server ended before its work was done; another run goes on from there."""

    exit_code: ClassVar[int] = 6


class KillerShards(WorkerLost):
    """One shard after another ends whoever reads it, so it is hardly the shards."""


class RetryShard(CurateError):  # noqa: N818  (the name says what the runner must do)
    """Reading the shard failed in a way that may pass: try again."""


class SkipShard(CurateError):  # noqa: N818  (the name says what the runner must do)
    """The shard can't be read: record it and go on.

    Attributes:
        code: the failure code that is recorded, see `transforms.failures`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple[type[SkipShard], tuple[str, str]]:
        """Both arguments: an exception pickles its message alone, and workers send errors back."""
        return type(self), (self.code, str(self))
