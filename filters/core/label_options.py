"""What the measure and the filter of label errors are told alike: where labels come from, and the rule."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, Field, model_validator

from filters.core.paths import Files, OneFile, beside

Method = Literal["prune_by_noise_rate", "prune_by_class", "both", "confident_learning", "p_mislabelled"]
MULTI_LABEL_METHODS: tuple[Method, ...] = ("confident_learning", "p_mislabelled")


class LabelOptions(BaseModel):
    """Options of `label_errors` and `drop_label_errors`."""

    labels: OneFile | None = Field(
        default=None,
        description="YAML file of a vocabulary; the label is the one concept without children that the "
        "caption names.",
    )
    probabilities: Files | None = Field(
        default=None,
        description="Parquet files with uid, p (a list that sums to 1) and label (a number, or a name of "
        "`labels`; without it the caption's), in place of zero-shot probabilities.",
    )
    encoder: str = Field(
        default="clip", description="The CLIP measure whose image embeddings and model are used."
    )
    method: Method = Field(default="prune_by_noise_rate", description="Which labels are called wrong.")
    p_above: float = Field(
        default=0.5, ge=0, lt=1, description="For p_mislabelled: wrong above this probability."
    )
    multi_label: bool = Field(
        default=False, description="Every concept that the caption names is a label, each on its own."
    )
    temperature: Literal["calibrated", "model"] | float = Field(
        default="calibrated",
        description="What cosines are divided by; calibrated: what makes the given labels likeliest.",
    )

    @model_validator(mode="after")
    def _can_label(self) -> Self:
        if self.labels is None and self.probabilities is None:
            msg = "give labels (a vocabulary), probabilities (Parquet files), or both"
            raise ValueError(msg)
        if not isinstance(self.temperature, str) and not 0 < self.temperature < float("inf"):
            msg = f"temperature {self.temperature:g} must be above 0, or calibrated, or model"
            raise ValueError(msg)
        if self.probabilities is not None and self.temperature != "calibrated":
            msg = "temperature is for zero-shot probabilities: leave it out, or probabilities"
            raise ValueError(msg)
        if self.multi_label and self.probabilities is not None:
            msg = "multi_label takes zero-shot probabilities: leave out probabilities"
            raise ValueError(msg)
        if self.multi_label and self.method not in MULTI_LABEL_METHODS:
            msg = f"with multi_label the method is one of {', '.join(MULTI_LABEL_METHODS)}"
            raise ValueError(msg)
        return self

    def located(self, folder: Path) -> Self:
        """The options with relative paths made relative to the recipe's folder."""
        files = {
            name: beside(folder, given)
            for name in ("labels", "probabilities")
            if (given := getattr(self, name)) is not None
        }
        return self.model_copy(update=files)

    def embeddings(self) -> tuple[str, ...]:
        """The embeddings that zero-shot probabilities are made of."""
        return () if self.probabilities is not None else (f"{self.encoder}_image",)
