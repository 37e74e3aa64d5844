"""Object stores whose every tenth call fails: fsspec's file systems over real servers, with faults between.

Calls are counted over all instances in this process. `flaky://bucket/key` is s3fs's `s3://bucket/key`,
`flakygs://bucket/key` gcsfs's `gs://bucket/key`.
"""

from __future__ import annotations

import errno
from typing import Any, ClassVar

import s3fs
from fsspec.asyn import sync_wrapper
from gcsfs.core import GCSFileSystem
from gcsfs.retry import HttpError


class Faults:
    """Counts the calls of a file system to its store.

    Attributes:
        healthy: no call fails; it is counted all the same.
        away: a call about a path with this in its name fails always; empty for none.
    """

    calls: ClassVar[int] = 0
    failed: ClassVar[int] = 0
    healthy: ClassVar[bool] = False
    away: ClassVar[str] = ""

    @classmethod
    def fails(cls, what: str) -> bool:
        """Whether this call, told by what it is about, has to fail."""
        cls.calls += 1
        failing = bool(cls.away and cls.away in what) or (cls.calls % 10 == 0 and not cls.healthy)
        cls.failed += failing
        return failing


class FailingS3(Faults, s3fs.S3FileSystem):
    """S3 over a network that is down for every tenth call."""

    protocol = ("flaky", "s3")

    async def _call_s3(self, method: str, *parts: Any, **how: Any) -> Any:
        if type(self).fails(f"{method} {how.get('Key', '')}"):
            raise OSError(errno.EIO, f"{method}: the network is down for a moment")
        return await super()._call_s3(method, *parts, **how)

    call_s3 = sync_wrapper(_call_s3)


class FailingGcs(Faults, GCSFileSystem):
    """GCS that answers every tenth call as gcsfs does once it has given up on a server that is busy.

    This stands above gcsfs's own attempts, and the error is none of Python's OSErrors.
    """

    protocol = ("flakygs", "gs")

    async def _call(self, method: str, path: str, *parts: Any, **how: Any) -> Any:
        if type(self).fails(f"{method} {path} {parts} {how.get('data', b'')[:300]!r}"):
            raise HttpError({"code": 503, "message": "the server is busy"})
        return await super()._call(method, path, *parts, **how)

    call = sync_wrapper(_call)
