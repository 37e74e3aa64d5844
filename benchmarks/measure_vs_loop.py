"""End to end measure beside a bare loop of tarfile, PIL and open_clip, same model and threads."""

from __future__ import annotations

import io
import statistics
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.checkpoints import Checkpoint, random_weights, trained_tiny
from benchmarks.fresh import call_fresh
from benchmarks.machine import cores
from benchmarks.photographs import photograph_pool, scratch
from benchmarks.product import BATCH, image_plan, measure_seconds
from benchmarks.section import Section
from benchmarks.timing import median_ratio, spread, stopwatch, take_turns

PER_SHARD = 256
TARGET = "at least as fast end to end as the bare loop (loop / product >= 1)"


def run(*, small: bool) -> Section:
    """Both models, with one torch thread and with one for each core."""
    settings = [(trained_tiny(), 1, 1)] if small else _settings()
    rows, ratios = [], []
    for checkpoint, shards, threads in settings:
        per_shard = 64 if small else PER_SHARD
        print(f"  {checkpoint.title}, {threads} torch threads", flush=True)
        found = call_fresh(
            compare,
            torch_threads=threads,
            checkpoint=checkpoint.plain(),
            tars=[str(tar) for tar in photograph_pool(shards, per_shard)],
            rounds=1 if small else 3,
        ).value
        ratios.append(median_ratio(found["loop"], found["product"]))
        rows.append(_row(checkpoint, threads, found, ratios[-1]))
    return Section(
        name="measure_vs_loop",
        measured=(
            "seconds from tar to columns on disk through the product (Flow.measure on Beam: image "
            "facts, content hashes, caption facts, CLIP cosine and embeddings, checksums and commits), "
            "2 decode threads as by default"
        ),
        against=(
            "a bare loop in one Python thread: tarfile, PIL, open_clip transform, batches of "
            f"{BATCH}, encode_image, encode_text, cosine; it keeps nothing but the cosines. Same tars, "
            "weights, batch size and torch threads; both models loaded before; by turns; median of "
            "the rounds' ratios"
        ),
        columns=(
            "model",
            "torch threads",
            "images",
            "product s",
            "loop s",
            "product images/s",
            "loop / product",
            "cosines differ by",
        ),
        rows=rows,
        met=[(TARGET, all(ratio >= 1 for ratio in ratios))],
        remarks=["Seconds: median (least to greatest). ViT-B-32 has random weights."],
    )


def _settings() -> list[tuple[Checkpoint, int, int]]:
    """(model, shards, torch threads): with one thread, and with one for each core."""
    tiny, large = trained_tiny(), random_weights("ViT-B-32")
    return [
        setting for threads in sorted({1, cores()}) for setting in ((large, 1, threads), (tiny, 12, threads))
    ]


def _row(checkpoint: Checkpoint, threads: int, found: dict[str, Any], ratio: float) -> list[str]:
    rate = found["images"] / statistics.median(found["product"])
    seconds = [spread(found["product"]), spread(found["loop"])]
    counts = [str(threads), str(found["images"])]
    return [checkpoint.title, *counts, *seconds, f"{rate:.1f}", f"{ratio:.2f}", f"{found['difference']:.1e}"]


def compare(checkpoint: dict[str, Any], tars: list[str], rounds: int) -> dict[str, Any]:
    """Seconds of both sides by rounds, and how far their cosines are apart."""
    model = Checkpoint(**checkpoint)
    paths = [Path(tar) for tar in tars]
    loop = BareLoop.load(model)
    # Loads both models and reads every file once.
    reference, _ = loop.cosines(paths)
    found, _ = measure(model, paths)
    seconds = take_turns(
        {"product": lambda: measure(model, paths)[1], "loop": lambda: loop.cosines(paths)[1]}, rounds
    )
    difference = float(np.abs(np.asarray(found) - np.asarray(reference)).max())
    return {**seconds, "images": len(found), "difference": difference}


def measure(checkpoint: Checkpoint, tars: Sequence[Path]) -> tuple[list[float], float]:
    """The cosines that the product wrote, in order, and its seconds."""
    with scratch("measure") as folder:
        plan = image_plan(folder / "store", tars, checkpoint)
        seconds = measure_seconds(plan, 2)
        group = plan.writers["clip_cosine"]
        files = [folder / "store" / group / f"{shard.part}.parquet" for shard in plan.shards]
        cosines = [value for file in files for value in pq.read_table(file)["clip_cosine"].to_pylist()]
    return cosines, seconds


@dataclass(frozen=True)
class BareLoop:
    """What a person would write in twenty lines."""

    model: Any
    transform: Any
    tokenizer: Any

    @classmethod
    def load(cls, checkpoint: Checkpoint) -> BareLoop:
        """The same weights, loaded by open_clip alone."""
        import open_clip

        made = open_clip.create_model_and_transforms(checkpoint.model, pretrained=checkpoint.pretrained)
        return cls(made[0].eval(), made[2], open_clip.get_tokenizer(checkpoint.model))

    def cosines(self, tars: Sequence[Path]) -> tuple[list[float], float]:
        """One cosine for each image, and the seconds."""
        from PIL import Image

        found: list[float] = []
        images: list[Any] = []
        captions: list[str] = []
        with stopwatch() as watch:
            for tar in tars:
                with tarfile.open(tar) as opened:
                    for member in opened:
                        content = opened.extractfile(member).read()  # type: ignore[union-attr]
                        if member.name.endswith(".jpg"):
                            images.append(self.transform(Image.open(io.BytesIO(content)).convert("RGB")))
                        elif member.name.endswith(".txt"):
                            captions.append(content.decode())
                        if len(images) == len(captions) == BATCH:
                            found += self._encode(images, captions)
                            images, captions = [], []
            if images:
                found += self._encode(images, captions)
        return found, watch.wall

    def _encode(self, images: list[Any], captions: list[str]) -> list[float]:
        import torch

        with torch.inference_mode():
            image = self.model.encode_image(torch.stack(images), normalize=True)
            text = self.model.encode_text(self.tokenizer(captions), normalize=True)
            cosines: list[float] = (image * text).sum(dim=1).tolist()
        return cosines
