"""What a measure is: facts about samples, written once and never rewritten.

A measure is one module in `transforms.measures`, a frozen pydantic model that declares its
columns. Its `version` rises when the meaning or the value of a column changes, which gives its
files a new name. Four kinds:
* `SampleMeasure` looks at pictures and captions while shards stream by;
* `DerivedMeasure` computes from stored captions or embeddings, without the shard;
* `PoolMeasure` takes columns that a metadata pool already has;
* `CollectiveMeasure` compares the pool's rows with one another, once all shards are measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any, ClassVar, Protocol, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from filters.core.catalogue import declared_in, names_in
from transforms.decode import Picture
from transforms.fingerprints import fingerprint


@dataclass(frozen=True)
class Column:
    """One signal column: its name, Arrow type, meaning, and unit or range.

    Attributes:
        carried: whether kept samples take it with them, in the json member of a curated shard.
    """

    name: str
    type: pa.DataType
    meaning: str
    unit: str = ""
    carried: bool = True


@dataclass(frozen=True)
class Measured:
    """What a measure says of some rows, in their order.

    Attributes:
        columns: name -> (n,) values; numpy, or a list with None for nulls.
        embeddings: "img" or "txt" -> (n, d) float16, unit rows.
    """

    columns: Mapping[str, NDArray[Any] | Sequence[Any]]
    embeddings: Mapping[str, NDArray[np.float16]]


class Meter(Protocol):
    """A measure at work in one worker."""

    def prepare(self, picture: Picture, caption: str) -> Any:
        """What the batch step needs of one sample; runs in the decode threads."""

    def measure(self, prepared: Sequence[Any]) -> Measured:
        """The measure of a batch of prepared samples."""


class Measure(BaseModel):
    """The declaration and options of a measure."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: ClassVar[int] = 1

    def columns(self, name: str) -> tuple[Column, ...]:
        """The columns written when the recipe calls this measure `name`."""
        raise NotImplementedError

    def identity(self) -> dict[str, object]:
        """What makes results differ: options and weights, but not speed (batch, device)."""
        return dict(self.model_dump(mode="json"))

    def check(self) -> None:
        """Raises RecipeError or ModelError where the measure can't work here."""

    def located(self, folder: Path) -> Self:  # noqa: ARG002  (most measures name no file)
        """The measure with relative paths of local files made relative to the recipe's folder."""
        return self


class SampleMeasure(Measure):
    """Looks at decoded pictures and captions."""

    # Whether the recipe gets this measure without asking: cheap facts, worth keeping.
    automatic: ClassVar[bool] = False
    # "img" and "txt" where the measure stores embeddings.
    encodes: ClassVar[tuple[str, ...]] = ()

    def meter(self, name: str) -> Meter:
        """The measure made ready in a worker; costly things are built here, once."""
        raise NotImplementedError


class DerivedMeasure(Measure):
    """Computes from columns or embeddings that are in the store."""

    automatic: ClassVar[bool] = False

    def reads(self) -> tuple[str, ...]:
        """Columns it reads."""
        return ()

    def encoder(self) -> str | None:
        """The name of the measure whose image embeddings it reads, if it does."""
        return None

    def bound(self, encoder: Measure) -> Self:  # noqa: ARG002  (most compare stored embeddings alone)
        """The measure, knowing the options of the one whose embeddings it reads.

        Raises: RecipeError where it also needs embeddings that this encoder can't make.
        """
        return self

    def derive(
        self, name: str, columns: Mapping[str, pa.Array], embeddings: NDArray[np.float16] | None
    ) -> Mapping[str, pa.Array]:
        """The columns, one value for each row; null where an input is null or NaN."""
        raise NotImplementedError


class PoolMeasure(Measure):
    """Takes over columns of a DataComp metadata shard."""

    def take(
        self, name: str, table: pa.Table, arrays: IO[bytes] | None
    ) -> tuple[Mapping[str, pa.Array], Mapping[str, NDArray[np.float16]]]:
        """The columns, and embeddings by kind; table: the Parquet file, arrays: its npz."""
        raise NotImplementedError


class CollectiveMeasure(Measure):
    """Compares rows with one another; a relation of `transforms.relations` does the work.

    It sees every readable row of the pool, so its columns are those of this pool: with another
    shard they are computed anew.
    """

    @property
    def relation(self) -> str:
        """The module of `transforms.relations` that computes the columns."""
        raise NotImplementedError

    def reads(self) -> tuple[str, ...]:
        """Columns it reads."""
        return ()

    def embeddings(self) -> tuple[str, ...]:
        """Embeddings it compares, such as clip_image."""
        return ()


@dataclass(frozen=True)
class NamedMeasure:
    """A measure under the name the recipe gives it.

    Attributes:
        name: prefix of its columns where it may occur more than once.
        kind: the measure's own name, that of its module.
        depends: identities of what it is computed from (the samples, an encoder).
    """

    name: str
    kind: str
    options: Measure
    depends: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """`<name>-<fp>`: the same for the same meaning, never for another."""
        content = [self.kind, self.options.version, self.options.identity(), self.depends, self.name]
        return f"{self.name}-{fingerprint(content)[:8]}"

    @property
    def group(self) -> str:
        """Where its columns lie in the store."""
        return f"signals/{self.folder}"

    def embeddings(self, kind: str, part: str) -> str:
        """Where its embeddings of one part lie; kind: img or txt."""
        return f"embeddings/{self.folder}/{kind}/{part}.npy"

    def columns(self) -> tuple[Column, ...]:
        """Its columns under this name."""
        return self.options.columns(self.name)


def beside(folder: Path, path: str | None) -> str | None:
    """The path, relative to the folder where it is relative and a file is there."""
    if path is None or Path(path).is_absolute():
        return path
    there = folder / path
    return str(there) if there.exists() else path


def measure_names() -> list[str]:
    """Every measure's name, sorted."""
    return names_in("transforms.measures")


@cache
def find_measure(kind: str) -> type[Measure]:
    """The measure's class.

    Raises: RecipeError for an unknown name, with the nearest known ones.
    """
    return declared_in("transforms.measures", kind, Measure)
