"""What the contract is checked with: options for every filter, and columns for what they read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from filters.core.catalogue import find_filter
from filters.core.decide import Step
from filters.core.declaration import (
    Accumulator,
    Artefact,
    Columns,
    Filter,
    FittedFilter,
)
from filters.core.uids import format_uids

VOTES = [{"by": f"{name}_vote", "high": "noise", "noise_share": 0.3, "clean_share": 0.7} for name in "abc"]
# A new filter adds a line here; `test_every_filter_has_examples` says so when it is forgotten.
EXAMPLES: dict[str, tuple[dict[str, Any], ...]] = {
    "alignment_levels": (
        {"by": "clip_cosine"},
        {"by": "pair_agreement", "levels": 3, "outside": 0.05, "of": "survivors"},
    ),
    "caption_blocklist": (
        {"terms": ["stock photo", "image"]},
        {"terms": ["image"], "whole_caption": True},
    ),
    "caption_characters": ({"at_least": 6}, {"at_least": 3, "at_most": 30}, {"at_most": 12}),
    "caption_matches": ({"pattern": "photo"}, {"pattern": "^A", "ignore_case": False}),
    "caption_words": ({"at_least": 3}, {"at_least": 1, "at_most": 5}),
    "drop_copies": (
        {"method": "pdq"},
        {"method": "phash", "at_most_bits": 8, "flips": True, "by": "clip_cosine"},
        {"method": "verified", "within": "clip_image", "kinds": ["exact", "edited"], "at_least_score": 0.7},
    ),
    "drop_exact_duplicates": ({"by": "bytes"}, {"by": "pixels", "same_caption": True}),
    "drop_label_errors": (
        {"labels": "concepts.yaml"},
        {"labels": "concepts.yaml", "method": "p_mislabelled", "p_above": 0.3, "encoder": "dfn"},
        {"labels": "a.yaml", "multi_label": True, "method": "confident_learning", "temperature": 0.1},
        {"probabilities": ["p/*.parquet"], "method": "both", "on_null": "quarantine"},
    ),
    "drop_leaked": (
        {"against": "evaluation/*.tar", "set_name": "the test set", "at_most_bits": 15},
        {"against": ["a.npy"], "set_name": "b", "method": "embedding", "cosine_above": 0.25, "array": "img"},
    ),
    "drop_mismatched": (
        {"by": "pair_agreement", "at_least_rows": 20},
        {"by": "pair_agreement", "p_clean_below": 0.9, "model": "beta", "at_least_rows": 20, "of": "pool"},
        {"by": "pair_agreement", "within": "clip_image", "clusters": 6, "at_least_rows": 20},
    ),
    "drop_near_duplicates": (
        {"cosine_above": 0.25},
        {"target_keep": 0.4, "keep": "nearest", "embedding": "clip_text"},
        {"cosine_above": 0.28, "keep": "best", "by": "clip_cosine", "probe": 2},
    ),
    "fuse": (
        {"votes": VOTES, "drop_if_p_noise_above": 0.5, "at_least_votes": 3},
        {
            "votes": [*VOTES, {"by": "d_vote", "high": "noise", "noise_share": 0.3, "clean_share": 0.6}],
            "drop_if_p_noise_above": 0.7,
            "keep_if_p_noise_below": 0.4,
            "at_least_votes": 4,
            "of": "pool",
        },
    ),
    "keep_target_clusters": (
        {"examples": "in1k/*.npy", "clusters": 6},
        {"examples": ["a.npy", "b.npz"], "centroids": "c.npy", "array": "l14_img"},
    ),
    "drop_similar_captions": ({"jaccard_above": 0.7}, {"by": "clip_cosine", "jaccard_above": 0.8}),
    "language": ({"any_of": "en"}, {"any_of": ["en", "de"], "min_probability": 0.5}),
    "max_aspect_ratio": ({"at_most": 1.5},),
    "min_clip_cosine": ({"at_least": 0.28}, {"at_least": 0.25, "encoder": "dfn"}),
    "min_entropy": ({"at_least": 4},),
    "min_head_score": ({"head": "aesthetic", "at_least": 5},),
    "min_side_pixels": ({"at_least": 200},),
    "prune_clusters": (
        {"keep": 0.4, "clusters": 6},
        {"samples": 20, "temperature": 0.5, "balance": 0.5, "order": "random"},
    ),
    "random_fraction": ({"keep": 0.5}, {"keep": 0.3, "seed": 7}),
    "signal_between": (
        {"by": "clip_cosine", "at_least": 0.25},
        {"by": "width", "at_least": 150, "at_most": 300},
    ),
    "top_fraction": (
        {"by": "clip_cosine", "keep": 0.3},
        {"by": "width", "samples": 5},
        {"by": "clip_cosine", "keep": {"for_samples_seen": 100}},
        {"by": "clip_cosine", "keep": 0.5, "of": "pool"},
        {"by": "clip_cosine", "of_pool": 0.2},
        {"by": "norm_sim", "of_pool": 0.3, "target": "target.npy"},
        {"by": "clip_cosine", "keep": 0.3, "datacomp_compat": True},
    ),
}
CAPTIONS = ("a Stock Photo of a dog", "image", "A café at noon, photo", "imagery", "", "Haus", "  image ")
# Columns that name a row; a fitted filter reads them to break ties only, and they are never null.
IDENTITY = frozenset({"uid", "shard_number", "row"})


def rules() -> list[Any]:
    """Every filter with each of its examples, as pytest parameters."""
    return [
        pytest.param(find_filter(name).model_validate(options), id=f"{name}-{number}")
        for name, examples in sorted(EXAMPLES.items())
        for number, options in enumerate(examples)
    ]


def uids(count: int, seed: int = 0) -> pa.Array:
    """`count` random uids as text."""
    words = np.random.default_rng(seed).integers(0, 2**64, (count, 2), dtype=np.uint64)
    return pa.array(format_uids(words), pa.string())


def columns_for(rule: Filter, count: int, seed: int = 0) -> Columns:
    """Everything that a step named "step" with this rule needs, with nulls, and `uid`, `failure`."""
    generator = np.random.default_rng(seed)
    missing = generator.random(count) < 0.15
    found: Columns = {"uid": uids(count, seed), "failure": pa.nulls(count, pa.string())}
    for name in rule.reads():
        if name not in found:
            column = column_named(name, count, generator)
            hidden = missing & (name not in IDENTITY)
            found[name] = column.take(pa.array(np.arange(count), mask=hidden))
    for name in rule.relation_reads:
        found[f"step/{name}"] = column_named(name, count, generator)
    return found


def column_named(name: str, count: int, generator: np.random.Generator) -> pa.Array:
    """A column of plausible values without nulls (`duplicate_of` is null where it is no copy)."""
    for end, make in MAKERS.items():
        if name == end or name.endswith("_" + end):
            return make(count, generator)
    msg = f"add {name!r} to MAKERS in {__name__}: the contract needs values of every column a filter reads"
    raise KeyError(msg)


def _chosen(values: Sequence[str]) -> Callable[[int, np.random.Generator], pa.Array]:
    return lambda count, generator: pa.array(
        [values[at] for at in generator.integers(0, len(values), count)], pa.string()
    )


def _integers(low: int, high: int) -> Callable[[int, np.random.Generator], pa.Array]:
    return lambda count, generator: pa.array(generator.integers(low, high, count).astype(np.int32))


def _floats(low: float, high: float) -> Callable[[int, np.random.Generator], pa.Array]:
    return lambda count, generator: pa.array(
        generator.uniform(low, high, count).astype(np.float16).astype(np.float32)
    )


def _two_groups(count: int, generator: np.random.Generator) -> pa.Array:
    centres = np.where(generator.random(count) < 0.4, 0.1, 0.3)
    return pa.array(generator.normal(centres, 0.03).astype(np.float32))


def _detector(count: int, generator: np.random.Generator) -> pa.Array:
    """High for the same three in ten of every column: detectors that agree, each with errors of its own."""
    noise = np.random.default_rng(count).random(count) < 0.3
    return pa.array(generator.normal(np.where(noise, 2.0, 0.0), 0.7).astype(np.float32))


def _copies(count: int, generator: np.random.Generator) -> pa.Array:
    return pa.array(["0" * 32 if copy else None for copy in generator.random(count) < 0.3], pa.string())


MAKERS: dict[str, Callable[[int, np.random.Generator], pa.Array]] = {
    "width": _integers(100, 400),
    "height": _integers(100, 400),
    "caption": _chosen(CAPTIONS),
    "caption_words": _integers(0, 8),
    "caption_characters": _integers(0, 40),
    "language": _chosen(("en", "de", "fr")),
    "language_probability": _floats(0, 1),
    "cosine": _floats(0.2, 0.3),
    "luminance_entropy": _floats(0, 8),
    "score": _floats(1, 10),
    "duplicate_kind": _chosen(("none", "copy", "exact", "re-encoded", "edited", "similar")),
    "pdq_quality": _integers(0, 101),
    "pdq_flips": _chosen(("0" * 512,)),
    "phash": _chosen(("0" * 16, "1" * 16)),
    "phash_flips": _chosen(("0" * 128,)),
    "grey_variance": _floats(0, 1000),
    "thumbnail": _chosen(("",)),
    "hash": _chosen(("0" * 32, "1" * 32)),
    "shard_number": lambda count, _: pa.array(np.arange(count, dtype=np.int32) % 3),
    "row": lambda count, _: pa.array(np.arange(count, dtype=np.int32)),
    "duplicate_of": _copies,
    "caption_jaccard": _floats(0.5, 1),
    "cluster_id": _integers(0, 6),
    "cluster_rank": _integers(0, 15),
    "inter_distance": _floats(0, 1),
    # Bits of hashes, and 1 - score of verified copies.
    "distance": lambda count, generator: pa.array(
        generator.choice(np.array([0, 0.02, 0.3, 9, 25, 50, np.inf], np.float32), count)
    ),
    "compared": lambda count, _: pa.array(np.ones(count, bool)),
    "in_target": lambda count, generator: pa.array(generator.random(count) < 0.5),
    "leaked_bits": _integers(0, 33),
    "p_mislabelled": _floats(0, 1),
    "issue": lambda count, generator: pa.array(generator.random(count) < 0.3),
    "agreement": _two_groups,
    "vote": _detector,
    "norm_sim": _floats(0, 20),
}


def fit(rule: FittedFilter, batches: Sequence[Columns]) -> Artefact:
    """The finished artefact, as an engine would make it from these batches in this order."""
    artefact = rule.start_on(sum(len(next(iter(batch.values()))) for batch in batches))
    for _ in range(64):
        if rule.complete(artefact):
            return artefact
        total: Accumulator | None = None
        for batch in batches:
            one = rule.accumulate(artefact, Step("step", rule).view(batch))
            total = one if total is None else rule.merge(total, one)
        artefact = rule.advance(artefact, total)
    msg = f"{rule!r} does not finish"
    raise AssertionError(msg)


def fitted_step(rule: Filter, columns: Columns) -> Step:
    """The rule as a step named "step", fitted on these columns where it must be."""
    artefact = fit(rule, [columns]) if isinstance(rule, FittedFilter) else None
    return Step("step", rule, artefact)


def take(columns: Columns, rows: Sequence[int] | np.ndarray[Any, Any]) -> Columns:
    """These rows, in this order."""
    return {name: column.take(pa.array(rows, pa.int64())) for name, column in columns.items()}


def cut(columns: Columns, start: int, count: int) -> Columns:
    """A slice that shares memory with the whole, as Arrow's slices do."""
    return {name: column.slice(start, count) for name, column in columns.items()}
