"""Whether a caption names what the picture shows, by confident learning over the pool."""

from __future__ import annotations

import pyarrow as pa

from filters.core.label_options import LabelOptions
from transforms.labelling import check_labels, labels_identity
from transforms.measure import CollectiveMeasure, Column


class LabelErrors(LabelOptions, CollectiveMeasure):
    """How sure the label in a caption is, what it may be instead, and whether it is called an error.

    Confident learning (Northcutt, Jiang and Chuang 2021, arXiv 1911.00068) over the readable rows of
    the pool; see the filter `drop_label_errors`, which has the same options and also drops. Where
    nothing can be said the numbers are null, and `_reason` says why.
    """

    @property
    def relation(self) -> str:
        return "label_errors_multi" if self.multi_label else "label_errors"

    def identity(self) -> dict[str, object]:
        return {**self.model_dump(mode="json"), **labels_identity(self)}

    def check(self) -> None:
        check_labels(self)

    def columns(self, name: str) -> tuple[Column, ...]:
        several = "; of several labels the exponential mean" if self.multi_label else ""
        return (
            Column(f"{name}_label", pa.string(), "the concept that the caption names; several: all"),
            Column(f"{name}_suggested", pa.string(), "the likeliest concept"),
            Column(f"{name}_self_confidence", pa.float32(), f"probability of the label{several}", "0..1"),
            Column(f"{name}_margin", pa.float32(), "how far the label leads; below .5 another does", "0..1"),
            Column(f"{name}_p_mislabelled", pa.float32(), "probability that the label is wrong", "0..1"),
            Column(f"{name}_issue", pa.bool_(), "whether the method calls it an error"),
            Column(f"{name}_reason", pa.string(), "why nothing is said of the label"),
        )

    def reads(self) -> tuple[str, ...]:
        return ("uid", "caption")
