"""An object store whose every tenth call fails: fsspec over a real S3 server, with faults between.

Calls are counted over all instances in this process. `flaky://bucket/key` is s3fs's `s3://bucket/key`.
"""

from __future__ import annotations
