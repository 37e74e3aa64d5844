"""Whether like images have such captions, and like captions such images: LEMoN."""

from __future__ import annotations

import pyarrow as pa
from pydantic import Field

from transforms.measure import CollectiveMeasure, Column


class Neighbourhood(CollectiveMeasure):
    """Distance of image and caption, plus how far their neighbours' captions and images are. High is bad.

    LEMoN (Zhang et al. 2024, "LEMoN: Label Error Detection using Multimodal Neighbors", arXiv
    2407.18941) with its fixed parameters: to the distance of the pair come the distances of the
    caption to those of the nearest images, and of the image to those of the nearest captions,
    near and well-fitting neighbours counting most. Neighbours come from a reference set drawn from
    the pool by uid hash, without near copies, and a pair is never its own neighbour.
    """

    encoder_name: str = Field(
        default="clip", alias="encoder", description="The CLIP measure whose embeddings are compared."
    )
    reference: int = Field(default=50_000, ge=2, le=5_000_000, description="Pairs drawn for the reference.")
    neighbours: int = Field(default=30, ge=1, le=1000, description="Neighbours on each side (k).")
    beta: float = Field(default=5.0, ge=0, description="Weight of the captions of like images.")
    gamma: float = Field(default=5.0, ge=0, description="Weight of the images of like captions.")
    t1: float = Field(default=0.1, ge=0, description="How fast a neighbour's weight falls with its distance.")
    t2: float = Field(default=5.0, ge=0, description="How fast it falls where the neighbour fits badly.")
    exact: bool = Field(
        default=True,
        description="False: many times as fast from 40,000 references on, missing some neighbours.",
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="Seed of the draw.")

    @property
    def relation(self) -> str:
        return "neighbourhood"

    def columns(self, name: str) -> tuple[Column, ...]:
        return (Column(name, pa.float32(), "how badly pair and neighbours fit; high: mismatched", "0.."),)

    def embeddings(self) -> tuple[str, ...]:
        return (f"{self.encoder_name}_image", f"{self.encoder_name}_text")
