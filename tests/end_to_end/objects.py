"""Buckets of the servers that the tests run, and results on them against those of local folders."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path

import gcsfs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.run import RunResult
from tests.end_to_end.conftest import GcsServer


@dataclass(frozen=True)
class GcsBucket:
    """A bucket, and the file system to look into it with, which no run uses."""

    name: str
    fs: gcsfs.core.GCSFileSystem

    def fetch(self, below: str, target: Path) -> Path:
        """A local copy of the files under this name."""
        self.fs.invalidate_cache()
        self.fs.get(f"{self.name}/{below}/", str(target), recursive=True)
        return target


def gcs_bucket(server: GcsServer, pool: Path) -> GcsBucket:
    """A new bucket with this pool under `pool/`."""
    options = {"project": "tests", **server.options}
    fs = gcsfs.core.GCSFileSystem(**options, skip_instance_cache=True)
    bucket = GcsBucket(f"bucket-{uuid.uuid4().hex[:8]}", fs)
    fs.mkdir(bucket.name)
    for path in sorted(pool.iterdir()):
        fs.put_file(str(path), f"{bucket.name}/pool/{path.name}")
    return bucket


def assert_same_results(local: Path, local_run: RunResult, remote: Path, remote_run: RunResult) -> None:
    """Everything but addresses is the same: part names hold a hash of the shard's."""
    pairs = list(zip(local_run.manifest["parts"], remote_run.manifest["parts"], strict=True))
    for ours, theirs in pairs:
        groups = [item["group"] for item in local_run.manifest["measures"]]
        for group in [local_run.manifest["samples"], *groups]:
            one = pq.read_table(local / group / f"{ours['part']}.parquet")
            other = pq.read_table(remote / group / f"{theirs['part']}.parquet")
            assert _without_address(one).equals(_without_address(other))
        one = pq.read_table(local / "ledger" / local_run.ledger / f"{ours['part']}.parquet")
        other = pq.read_table(remote / "ledger" / remote_run.ledger / f"{theirs['part']}.parquet")
        assert one.equals(other)
    subsets = [
        np.load(store / "subsets" / f"{run.ledger}.npy")
        for store, run in ((local, local_run), (remote, remote_run))
    ]
    assert np.array_equal(*subsets)
    here = sorted((local / "curated" / local_run.ledger).glob("*.tar"))
    there = sorted((remote / "curated" / remote_run.ledger).glob("*.tar"))
    renamed = [
        path.read_bytes().replace(local_run.ledger.encode(), remote_run.ledger.encode()) for path in here
    ]
    assert renamed == [path.read_bytes() for path in there]
    assert here


def _without_address(table: pa.Table) -> pa.Table:
    return table.drop_columns([name for name in ("shard",) if name in table.column_names])
