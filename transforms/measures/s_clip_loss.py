"""How well image and caption fit, less how well they fit others: s-CLIPLoss."""

from __future__ import annotations

from typing import Literal

import pyarrow as pa
from pydantic import Field

from transforms.measure import CollectiveMeasure, Column


class SClipLoss(CollectiveMeasure):
    """The cosine of a pair, less the softmax-weighted cosines that image and caption reach with others.

    Wang et al. 2024, "CLIPLoss and Norm-Based Data Selection Methods for Multimodal Contrastive
    Learning", arXiv 2405.19547 (negCLIPLoss there): a caption that fits every picture scores low
    however high its cosine. `exact` is the mean over random batches, drawn by uid hash, with the
    published faults put right (short batches, overflow, NaN); `bank` compares each pair with one
    frozen batch instead, which reads the pool once.
    """

    encoder_name: str = Field(
        default="clip", alias="encoder", description="The CLIP measure whose embeddings are compared."
    )
    form: Literal["exact", "bank"] = Field(default="exact", description="Random batches, or one frozen one.")
    temperature: float = Field(default=0.01, gt=0, description="Of the softmax: 0.01 for OpenAI's models.")
    batch: int = Field(default=32_768, ge=2, description="Pairs in a batch, or in the bank.")
    repetitions: int = Field(
        default=10, ge=1, le=100, description="Exact: random partitions to average over."
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="Bank: seed of the draw.")

    @property
    def relation(self) -> str:
        return "s_clip_loss" if self.form == "exact" else "s_clip_loss_bank"

    def columns(self, name: str) -> tuple[Column, ...]:
        return (Column(name, pa.float32(), "cosine less what image and caption reach with others"),)

    def embeddings(self) -> tuple[str, ...]:
        return (f"{self.encoder_name}_image", f"{self.encoder_name}_text")
