"""What a continuous run has kept so far, sorted by key, for batches that come later.

    <memory>/memory.json                 identity, number of keys, last batch, and the files in order
    <memory>/<first>-<last>.npy          records of those batches, sorted by key
    <memory>/<first>-<last>.offsets.npy  where each key begins

It follows from the ledger alone and can be deleted: it is then made again. Neighbouring files of like
size are merged, so that n batches leave about log2(n) files and each record is copied as often.
`memory.json` is written before files are deleted and names every file that counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transforms.exchange import Records, gathered, write_sorted
from transforms.storage import Folder

ABOUT = "memory.json"
MERGED_RECORDS = 1_000_000  # larger files stay as they are: a merge must fit into memory


@dataclass(frozen=True)
class Memory:
    """Records that were kept, in a folder."""

    folder: Folder

    def begin(self, identity: str, keys: int, kind: np.dtype[Any]) -> int | None:
        """Makes ready for records of this identity; returns the last batch that is in, if any.

        What was remembered under another identity, such as other clusters, is forgotten.
        """
        if self.folder.exists(ABOUT):
            about = self._about()
            if (about["identity"], about["keys"]) == (identity, keys):
                return None if about["batch"] is None else int(about["batch"])
        dtype = [[name, kind[name].base.str, list(kind[name].shape)] for name in kind.names or ()]
        self._write({"identity": identity, "keys": keys, "dtype": dtype, "batch": None, "files": []})
        return None

    def add(self, batch: int, records: Records, keys: NDArray[np.int64]) -> None:
        """Adds what a batch has kept; equal keys stay in order, behind those of earlier batches."""
        about = self._about()
        files = list(about["files"])
        if len(records):
            name = f"{batch:08d}-{batch:08d}"
            write_sorted(self.folder, name, records, keys, about["keys"])
            files.append({"name": name, "rows": len(records)})
        while len(files) > 1 and _worth_merging(files[-2]["rows"], files[-1]["rows"]):
            files[-2:] = [self._merged(about, *files[-2:])]
        self._write({**about, "batch": batch, "files": files})

    @contextmanager
    def survivors(self, key: int) -> Iterator[Records]:
        """The records of one key, the earliest batch first."""
        about = self._about()
        names = [file["name"] for file in about["files"]]
        with gathered(self.folder, names, _dtype(about), key, key + 1) as (records, _):
            yield records

    @property
    def rows(self) -> int:
        """How many records there are."""
        return sum(int(file["rows"]) for file in self._about()["files"])

    def _about(self) -> dict[str, Any]:
        found: dict[str, Any] = self.folder.read_json(ABOUT)
        return found

    def _write(self, about: dict[str, Any]) -> None:
        self.folder.write_json(ABOUT, about)
        known = {f"{file['name']}{ending}" for file in about["files"] for ending in (".npy", ".offsets.npy")}
        for name in self.folder.names(""):
            if name.endswith(".npy") and name not in known:
                self.folder.remove(name)

    def _merged(self, about: dict[str, Any], older: dict[str, Any], newer: dict[str, Any]) -> dict[str, Any]:
        """Two neighbouring files as one."""
        names, keys = [older["name"], newer["name"]], about["keys"]
        name = f"{names[0].partition('-')[0]}-{names[1].rpartition('-')[2]}"
        with gathered(self.folder, names, _dtype(about), 0, keys) as (records, own):
            write_sorted(self.folder, name, records, own, keys)
        return {"name": name, "rows": older["rows"] + newer["rows"]}


def _worth_merging(older: int, newer: int) -> bool:
    return older <= 2 * newer and older + newer <= MERGED_RECORDS


def _dtype(about: dict[str, Any]) -> np.dtype[Any]:
    return np.dtype([(name, base, tuple(shape)) for name, base, shape in about["dtype"]])
