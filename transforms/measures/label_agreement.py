"""Whether like pictures have the same label: kNN agreement, and how credible a label is."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import pyarrow as pa
from pydantic import Field

from filters.core.paths import OneFile, beside
from transforms.measure import CollectiveMeasure, Column
from transforms.vocabulary import load_vocabulary


class LabelAgreement(CollectiveMeasure):
    """By how many votes the pictures most like this one speak for another label. High is bad.

    Zhu, Dong and Liu 2022, "Detecting corrupted labels without training a model to predict"
    (SimiFeat): the nearest pictures of a reference, drawn from the pool by uid hash, vote for their
    labels with weights 1 - distance; a picture is never its own neighbour, but has a vote. Stored
    are the margin of the vote (votes of the strongest other label less those of the own), the rank
    (-log of the own label's votes) and whether another label won. The authors' thresholds for each
    class, from a noise transition matrix estimated by consensus of neighbours (HOC), are not here:
    they fit a cut to a share of wrong labels, and `top_fraction` cuts at a share.

    The label is the concept of the vocabulary that the caption names, one without children; captions
    that name none or several are null. Without a vocabulary it is the caption itself, among captions
    that occur at least twice in the reference; all others are null. Where only one label is left,
    all rows are null, and the summary says so.

    The credibility, low for suspicious pairs, is 1 less the Jensen-Shannon divergence of the label
    and what the neighbours show: their zero-shot probabilities where there is a vocabulary, else
    their labels.

    Off by default: on 10,000 pairs with labels from people, 17 % wrong, the margin has AUROC .887 and
    average precision .621, less than plain `1 - clip_cosine` with .908 and .757. 1 - credibility with
    zero-shot probabilities has .911 and .756: a difference of .003 (.001 to .005), and none.
    """

    encoder_name: str = Field(
        default="clip", alias="encoder", description="The CLIP measure whose image embeddings are compared."
    )
    labels: OneFile | None = Field(
        default=None, description="YAML file of the vocabulary; none: equal captions are one label."
    )
    reference: int = Field(
        default=50_000, ge=2, le=5_000_000, description="Pictures drawn for the reference."
    )
    voters: int = Field(
        default=10, ge=2, le=100, description="Pictures that vote, the picture itself among them (k)."
    )
    exact: bool = Field(
        default=True,
        description="False: several times as fast from 40,000 references on, missing some neighbours.",
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="Seed of the draw.")

    @property
    def relation(self) -> str:
        return "label_agreement"

    @property
    def embedding(self) -> str:
        """The embeddings that are compared."""
        return f"{self.encoder_name}_image"

    def columns(self, name: str) -> tuple[Column, ...]:
        return (
            Column(name, pa.float32(), "votes of the strongest other label less those of the own", "-1..1"),
            Column(
                f"{name}_rank", pa.float32(), "-log of the votes for the own label; high: wrong", "0..18.5"
            ),
            Column(f"{name}_outvoted", pa.bool_(), "another label has more votes"),
            Column(
                f"{name}_credibility", pa.float32(), "how alike label and neighbours are; low: wrong", "0..1"
            ),
        )

    def identity(self) -> dict[str, object]:
        content = None if self.labels is None else load_vocabulary(self.labels).fingerprint
        return {**self.model_dump(mode="json"), "labels": content}

    def located(self, folder: Path) -> Self:
        labels = None if self.labels is None else beside(folder, self.labels)
        return self.model_copy(update={"labels": labels})

    def check(self) -> None:
        if self.labels is not None:
            load_vocabulary(self.labels)

    def reads(self) -> tuple[str, ...]:
        return ("caption",)

    def embeddings(self) -> tuple[str, ...]:
        return (self.embedding,)
