"""Which concepts of a user's vocabulary a picture shows, and which its caption only says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr, model_validator

from filters.core.paths import OneFile, beside
from transforms.clustering import unit_rows
from transforms.measure import Column, DerivedMeasure, Measure
from transforms.measures.clip import Clip, as_clip
from transforms.noise.zero_shot import concept_probabilities, leaf_directions, leaf_logits, softmax
from transforms.vocabulary import Vocabulary, class_embeddings, load_vocabulary, model_temperature

Mask = NDArray[np.bool_]
NAMES = pa.list_(pa.string())


class Concepts(DerivedMeasure):
    """Zero-shot tags: the concepts that are present, absent or unknown, and how they fit the caption.

    A probability for each concept of a vocabulary, from the picture's embedding and the mean of
    prompts; concepts with children as in CHiLS (Novack et al. 2023, arXiv 2302.02551): a child
    needs its parent's probability too, and a parent has that of its children together. The concepts
    compete for the picture, so name also what else the pool shows ("other": {names: [scene]}); a
    picture of two of them gives each about half. A caption names a concept by a whole word, also in
    the plural, and the longest name wins; a child's name is none of its parent. `_ungrounded` are
    those that the caption names and the picture lacks.
    """

    labels: OneFile = Field(description="YAML file of the vocabulary: `concepts`, and `templates` if wanted.")
    encoder_name: str = Field(
        default="clip", alias="encoder", description="The CLIP measure whose image embeddings are tagged."
    )
    present_above: float = Field(
        default=0.5, gt=0, le=1, description="A concept this probable, or more, is present."
    )
    absent_below: float = Field(default=0.05, ge=0, le=1, description="Below this probability it is absent.")
    temperature: Literal["model"] | float = Field(
        default="model", description="What cosines are divided by; model: as it was trained."
    )
    _clip: Clip | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.absent_below > self.present_above:
            msg = (
                f"absent_below {self.absent_below:g} is above present_above {self.present_above:g}: "
                "nothing would be unknown, and some concepts both"
            )
            raise ValueError(msg)
        if self.temperature != "model" and not 0 < self.temperature < np.inf:
            msg = f"temperature {self.temperature:g} must be above 0, or `model`"
            raise ValueError(msg)
        return self

    def columns(self, name: str) -> tuple[Column, ...]:
        return (
            Column(f"{name}_present", NAMES, "concepts that the picture shows"),
            Column(f"{name}_unknown", NAMES, "concepts that it may show; all others are absent"),
            Column(f"{name}_top", pa.string(), "the likeliest concept without children"),
            Column(f"{name}_top_p", pa.float32(), "its probability", "0..1"),
            Column(f"{name}_caption", NAMES, "concepts that the caption names"),
            Column(f"{name}_ungrounded", NAMES, "those of them that the picture lacks"),
            Column(
                f"{name}_alignment",
                pa.float32(),
                "lowest probability of a concept that the caption names",
                "0..1",
            ),
        )

    def identity(self) -> dict[str, object]:
        return {**self.model_dump(mode="json"), "labels": self._vocabulary().fingerprint}

    def located(self, folder: Path) -> Self:
        return self.model_copy(update={"labels": beside(folder, self.labels)})

    def check(self) -> None:
        self._vocabulary()

    def encoder(self) -> str | None:
        return self.encoder_name

    def bound(self, encoder: Measure) -> Self:
        found = self.model_copy()
        found._clip = as_clip("concepts", f"{self.encoder_name}_image", encoder)  # noqa: SLF001  (our own)
        return found

    def reads(self) -> tuple[str, ...]:
        return ("caption",)

    def derive(
        self, name: str, columns: Mapping[str, pa.Array], embeddings: NDArray[np.float16] | None
    ) -> Mapping[str, pa.Array]:
        if embeddings is None or self._clip is None:
            msg = "tags need embeddings, and the model that made them"
            raise ValueError(msg)
        vocabulary = self._vocabulary()
        captions = columns["caption"].to_pylist()
        named = vocabulary.named_in(captions)
        present, absent = np.zeros_like(named), np.zeros_like(named)
        top = np.zeros(len(named), np.int64)
        top_p, alignment = (np.full(len(named), np.nan, np.float32) for _ in range(2))
        vectors, usable = unit_rows(embeddings)
        if embeddings.shape[1]:  # else no row of the part could be encoded
            directions = leaf_directions(class_embeddings(vocabulary, self._clip), vocabulary)
            temperature = model_temperature(self._clip) if self.temperature == "model" else self.temperature
            for rows, logits in leaf_logits(vectors[usable], directions):
                some = np.flatnonzero(usable)[rows]
                shares = softmax(logits, temperature)
                top[some], top_p[some] = vocabulary.leaves[shares.argmax(axis=1)], shares.max(axis=1)
                found = concept_probabilities(shares, vocabulary)
                present[some], absent[some] = found >= self.present_above, found < self.absent_below
                lowest = np.where(named[some], found, np.inf).min(axis=1)
                alignment[some] = np.where(np.isinf(lowest), np.nan, lowest)
        said = np.array([caption is not None for caption in captions], np.bool_)
        names = pa.array(vocabulary.names, pa.string())
        found_columns = (
            _lists(names, present, usable),
            _lists(names, ~present & ~absent, usable),
            names.take(pa.array(top, mask=~usable)),
            pa.array(top_p, from_pandas=True),
            _lists(names, named, said),
            _lists(names, named & absent, said & usable),
            pa.array(alignment, from_pandas=True),
        )
        return {column.name: value for column, value in zip(self.columns(name), found_columns, strict=True)}

    def _vocabulary(self) -> Vocabulary:
        return load_vocabulary(self.labels)


def _lists(names: pa.Array, chosen: Mask, known: Mask) -> pa.Array:
    """The names chosen in each row; null where they are not known."""
    rows, places = np.nonzero(chosen & known[:, None])
    offsets = np.zeros(len(chosen) + 1, np.int32)
    np.cumsum(np.bincount(rows, minlength=len(chosen)), out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), names.take(pa.array(places)), mask=pa.array(~known))
