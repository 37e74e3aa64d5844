"""CLIP scores and embeddings through open_clip."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import pyarrow as pa
from pydantic import Field

from filters.core.errors import RecipeError
from transforms.decode import Picture
from transforms.encoders import LOCAL_DIR, ClipEncoder, check_model, load_encoder, weights_identity
from transforms.measure import Column, Measure, Measured, Meter, SampleMeasure, beside


class Clip(SampleMeasure):
    """Image and text embeddings of a CLIP model, and their cosine.

    Any open_clip model: a name with a `pretrained` tag or a checkpoint file, or
    `local-dir:/path` and `hf-hub:org/name`, which bring their own weights.
    """

    encodes: ClassVar[tuple[str, ...]] = ("img", "txt")

    model: str = Field(description="open_clip model name, local-dir:PATH or hf-hub:NAME.")
    pretrained: str | None = Field(
        default=None, description="open_clip tag, or path of a checkpoint; none for local-dir/hf-hub."
    )
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="auto takes the GPU if there is one; cuda without a GPU is an error.",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto", description="auto: bf16 on a GPU, fp32 on a CPU."
    )
    batch_size: int = Field(
        default=64, ge=1, le=65536, description="Pairs at once; halved when GPU memory runs out."
    )

    def columns(self, name: str) -> tuple[Column, ...]:
        return (Column(f"{name}_cosine", pa.float32(), "cosine of image and caption embedding", "-1..1"),)

    def identity(self) -> dict[str, object]:
        # The batch size is part of it: other matrix shapes round differently in the last bit.
        return {
            "weights": weights_identity(self.model, self.pretrained),
            "precision": self.precision,
            "batch_size": self.batch_size,
        }

    def located(self, folder: Path) -> Self:
        model = self.model
        if model.startswith(LOCAL_DIR):
            model = f"{LOCAL_DIR}{beside(folder, model.removeprefix(LOCAL_DIR))}"
        return self.model_copy(update={"model": model, "pretrained": beside(folder, self.pretrained)})

    def check(self) -> None:
        check_model(self.model, self.pretrained, self.device)

    def meter(self, name: str) -> Meter:
        encoder = load_encoder(self.model, self.pretrained, self.device, self.precision)
        return _Meter(encoder, f"{name}_cosine")


def as_clip(who: str, embedding: str, options: Measure | None) -> Clip:
    """The options of the measure behind some embeddings, where it can also embed prompts.

    who: the filter or measure that asks.
    Raises: RecipeError where it is no CLIP measure, such as a pool's ready embeddings.
    """
    if not isinstance(options, Clip):
        msg = (
            f"{who} embeds prompts with the model of {embedding!r}, which no clip measure of this recipe "
            "made: add one, and name its embeddings"
        )
        raise RecipeError(msg)
    return options


class _Meter:
    def __init__(self, encoder: ClipEncoder, column: str) -> None:
        self._encoder = encoder
        self._column = column

    def prepare(self, picture: Picture, caption: str) -> Any:
        return self._encoder.prepare(picture.rgb, caption)

    def measure(self, prepared: Sequence[Any]) -> Measured:
        cosine, image, text = self._encoder.encode(prepared)
        return Measured({self._column: cosine}, {"img": image, "txt": text})
