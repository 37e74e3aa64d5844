"""How near images are to a target set: NormSim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from filters.core.errors import RecipeError
from filters.core.paths import Files, beside, listed
from transforms.measure import Column, DerivedMeasure
from transforms.noise.norm_sim import norm_sim_2, norm_sim_inf, target_gram
from transforms.references import EmbeddingFile, content_fingerprint, find_embeddings, find_files

TARGET = "target"


class NormSim(DerivedMeasure):
    """The norm of an image's cosines to the images of a target, such as a benchmark's training set.

    Wang et al. 2024, arXiv 2405.19547: p = 2 is the root of the sum of squares and needs only a
    matrix of d x d numbers; p = inf is the greatest absolute cosine and compares with every image
    of the target. Kept after a score of the pair, it leaves what the target is about.
    """

    target: Files = Field(description="npy or npz files of the target's image embeddings, same encoder.")
    array: str | None = Field(default=None, description="Which array, of npz files that hold several.")
    p: Literal["2", "inf"] = Field(default="2", description="The norm.")
    encoder_name: str = Field(
        default="clip", alias="encoder", description="The measure whose image embeddings are compared."
    )

    def columns(self, name: str) -> tuple[Column, ...]:
        unit = "0..1" if self.p == "inf" else "0..root of the target's size"
        return (Column(name, pa.float32(), "norm of the cosines to a target's images", unit),)

    def identity(self) -> dict[str, object]:
        contents = sorted(content_fingerprint(uri) for uri in find_files(listed(self.target), TARGET))
        return {"target": contents, "array": self.array, "p": self.p, "encoder": self.encoder_name}

    def located(self, folder: Path) -> Self:
        return self.model_copy(update={"target": beside(folder, self.target)})

    def check(self) -> None:
        self._files()

    def encoder(self) -> str | None:
        return self.encoder_name

    def _files(self) -> list[EmbeddingFile]:
        return find_embeddings(listed(self.target), self.array, TARGET)

    def derive(
        self,
        name: str,
        columns: Mapping[str, pa.Array],  # noqa: ARG002
        embeddings: NDArray[np.float16] | None,
    ) -> Mapping[str, pa.Array]:
        if embeddings is None:
            msg = "NormSim needs embeddings"
            raise ValueError(msg)
        if embeddings.shape[1] == 0:  # no row of the part could be encoded
            return {name: pa.nulls(len(embeddings), pa.float32())}
        files = tuple(self._files())
        if embeddings.shape[1] != files[0].width:
            msg = (
                f"{TARGET} is {files[0].width} wide, the embeddings of {self.encoder_name} "
                f"{embeddings.shape[1]}: give a target of the same encoder"
            )
            raise RecipeError(msg)
        values = norm_sim_2(embeddings, _gram(files)) if self.p == "2" else _greatest(embeddings, files)
        return {name: pa.array(values, pa.float32(), from_pandas=True)}


@lru_cache(maxsize=2)
def _gram(files: tuple[EmbeddingFile, ...]) -> NDArray[np.float64]:
    """The target's Gram matrix: (d, d)."""
    total: NDArray[np.float64] = np.sum(
        [target_gram(file.read(start, end)) for file in files for start, end in file.pieces()], axis=0
    )
    return total


def _greatest(embeddings: NDArray[np.float16], files: Sequence[EmbeddingFile]) -> NDArray[np.float32]:
    """(n,) the greatest absolute cosine with any target."""
    pieces = [
        norm_sim_inf(embeddings, file.read(start, end)) for file in files for start, end in file.pieces()
    ]
    greatest: NDArray[np.float32] = np.max(pieces, axis=0)
    return greatest
