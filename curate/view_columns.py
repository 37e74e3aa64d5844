"""What the columns of every view of `curate query` mean; the reference is written from this."""

from __future__ import annotations

import pyarrow as pa

from filters.core.tags import TAGS
from transforms.measure import Column

# Tags are columns of those decisions only in which a filter states them.
LEDGER_MEANING: dict[str, str] = {
    "verdict": "keep, drop, quarantine or failed",
    "dropped_by": "the first filter that dropped or quarantined the sample",
    "value": "the number that this filter compared with its bound",
    "value_text": "the text that this filter compared with its bound",
    "bound": "the bound of this filter, in words",
    "votes": "one bool for each filter: true keeps, false drops, null could not be evaluated",
    "weight": "how often the sample stands in the subset",
    "duplicate_of": "uid of the sample that this one is a copy of, where that is why it was dropped",
    **{name: tag.meaning for name, tag in TAGS.items()},
}
DROPS_MEANING: dict[str, str] = {
    "place": "the filter's place in the recipe, from 1; 0 for failed rows",
    "filter": "a filter of the recipe, or failed",
    "dropped": "samples that it dropped or quarantined, after those before it",
    "alone": "samples that it would drop if it were the only filter, or votes against where it only tags; "
    "null for failed",
}
RUNS_MEANING: dict[str, str] = {
    "started": "UTC time",
    "recipe": "name of the recipe",
    "ledger": "name of the decision that the run took or found",
    "measure_seconds": "time of the measure stage",
    "decide_seconds": "time of the decide stage",
    "write_seconds": "time of the write stage",
}
FAILURES_MEANING: dict[str, str] = {
    "shard": "path or URL of the shard",
    "row": "row in the shard; null where the shard itself failed",
    "key": "key of the sample",
    "member": "name of the member",
    "offset": "where in the shard, in bytes (Parquet: the row)",
    "code": "failure code, see docs/failures.md",
    "detail": "more about it",
}
# Every view of a filter that compares samples begins with these.
COMPARED_SAMPLE: tuple[Column, ...] = (
    Column("uid", pa.string(), "32 hex digits, names the content"),
    Column("key", pa.string(), "key of the sample"),
    Column("caption", pa.string(), "its caption"),
    Column("shard", pa.string(), "path or URL of the shard"),
    Column("row", pa.int32(), "row in the shard"),
    Column("verdict", pa.string(), "keep, drop, quarantine or failed: of the whole recipe"),
    Column("dropped_by", pa.string(), "the first filter that dropped or quarantined the sample"),
)
# What a comparison found; each filter's view has those that its comparison writes. Null in all of
# them: the sample was not compared, since an earlier filter took it or it has no embedding.
RELATION_COLUMNS: tuple[Column, ...] = (
    Column("compared", pa.bool_(), "whether the sample had reached this filter and could be compared"),
    Column(
        "duplicate_of",
        pa.string(),
        "uid of the earlier sample that it is a copy of; in drop_near_duplicates the most similar one, "
        "however similar",
    ),
    Column("nearest_cosine", pa.float32(), "cosine to that sample; 0 where none is earlier", "-1..1"),
    Column(
        "distance", pa.float32(), "how far that copy is, by the method of drop_copies; infinite: none is near"
    ),
    Column(
        "duplicate_kind",
        pa.string(),
        "what kind of copy: exact, re-encoded, edited, …; none where it is none",
    ),
    Column("cluster_id", pa.int32(), "cluster of the sample, from 0"),
    Column("centroid_cosine", pa.float32(), "cosine to the centroid of its cluster", "-1..1"),
    Column("centroid_product", pa.float32(), "inner product with the centroid of its cluster"),
    Column("in_target", pa.bool_(), "whether its cluster holds one of the examples"),
    Column("caption_jaccard", pa.float32(), "similarity of its caption to that sample's", "0..1"),
    Column("leaked_item", pa.string(), "the nearest item of the evaluation set"),
    Column("leaked_bits", pa.int16(), "bits of PDQ that differ from it; 32: that many or more", "0..32"),
    Column("leaked_cosine", pa.float32(), "cosine to it", "-1..1"),
    Column("cluster_rank", pa.int64(), "place in its cluster, from 0; the first ones stay"),
    Column("inter_distance", pa.float32(), "mean distance of its centroid to the nearest others", "0..2"),
    Column("label", pa.string(), "the class that its caption names, or the file gives it; several: all"),
    Column("suggested", pa.string(), "the likeliest class; with several labels those above .5"),
    Column(
        "self_confidence",
        pa.float32(),
        "probability of the label; of several labels the exponential mean of all verdicts",
        "0..1",
    ),
    Column("margin", pa.float32(), "how far the label leads the others; below .5 another does", "0..1"),
    Column("p_mislabelled", pa.float32(), "probability that the label is wrong", "0..1"),
    Column("issue", pa.bool_(), "whether the method calls it a label error; null for p_mislabelled"),
    Column("reason", pa.string(), "why nothing is said of the label"),
)
CLUSTER_COLUMNS: tuple[Column, ...] = (
    Column("step", pa.string(), "the filter that made the clusters"),
    Column("cluster_id", pa.int32(), "number of the cluster in this step, from 0; only those with samples"),
    Column("samples", pa.int64(), "samples of the cluster: those that reached the step"),
    Column("passed", pa.int64(), "those of them that the step let through"),
    Column("kept", pa.int64(), "those of them that the whole recipe keeps"),
    Column("kept_share", pa.float64(), "kept / samples", "0..1"),
    Column(
        "mean_distance", pa.float64(), "mean of 1 - centroid_cosine: how dense (d_intra of pruning)", "0..2"
    ),
    Column("greatest_distance", pa.float64(), "greatest 1 - centroid_cosine", "0..2"),
    Column("inter_distance", pa.float64(), "mean distance of its centroid to the nearest others", "0..2"),
    Column("complexity", pa.float64(), "intra x inter distance, as the quota was computed from it"),
    Column("quota", pa.int64(), "how many samples of the cluster prune_clusters keeps"),
)

# Copies by any filter that compares samples; likeness is null where the filter measures none.
DUPLICATE_COLUMNS: tuple[Column, ...] = (
    Column("uid", pa.string(), "uid of a sample that was dropped as a copy"),
    Column("key", pa.string(), "its key"),
    Column("shard", pa.string(), "path or URL of its shard"),
    Column("row", pa.int32(), "its row in the shard"),
    Column("duplicate_of", pa.string(), "uid of the sample that it is a copy of"),
    Column("step", pa.string(), "the filter that dropped it"),
    Column("nearest_cosine", pa.float32(), "cosine of the two, where embeddings were compared", "-1..1"),
    Column("distance", pa.float32(), "how far apart they are, by the method of drop_copies"),
    Column("caption_jaccard", pa.float32(), "similarity of the captions, where these were compared", "0..1"),
    Column(
        "duplicate_kind", pa.string(), "what kind of copy, where drop_copies tells: re-encoded, edited, …"
    ),
)

# What the views of concepts and sources say of each filter, and of the whole recipe.
_PLACE: tuple[Column, ...] = (
    Column("place", pa.int32(), "the filter's place in the recipe, from 1; 0 where it has no filters"),
    Column("step", pa.string(), "the filter"),
)
_TAKEN: tuple[Column, ...] = (
    Column("reached", pa.int64(), "samples of it that reached the filter"),
    Column("stopped", pa.int64(), "those that the filter dropped or quarantined"),
    Column("quarantined", pa.int64(), "those of them that it quarantined"),
    Column("stopped_share", pa.float64(), "stopped / reached", "0..1"),
)
_KEPT: tuple[Column, ...] = (
    Column("kept", pa.int64(), "those of them that the whole recipe keeps"),
    Column("kept_share", pa.float64(), "kept / pool", "0..1"),
)
# The concept is the top tag of the first measure `concepts`, else the cluster of the first filter
# that has clusters: then only samples that reached that filter have one.
CONCEPT_COLUMNS: tuple[Column, ...] = (
    *_PLACE,
    Column("concept", pa.string(), "tag of a `concepts` measure; else a cluster_id of the first clusters"),
    Column("words", pa.string(), "words of the cluster, once the report is written; null for a tag"),
    *_TAKEN,
    Column("pool", pa.int64(), "samples with this concept"),
    *_KEPT,
)
SOURCE_COLUMNS: tuple[Column, ...] = (
    *_PLACE,
    Column("source", pa.string(), "host of the sample's url without www., else its shard"),
    Column("kind", pa.string(), "host or shard"),
    *_TAKEN,
    Column("pool", pa.int64(), "samples of it in the pool, failed ones included"),
    Column("failed", pa.int64(), "those of them that could not be read"),
    *_KEPT,
)


def relation_column(name: str) -> Column:
    """The declaration of a relation's column; its meaning points to the filter where it has none here."""
    for column in RELATION_COLUMNS:
        if column.name == name:
            return column
    return Column(name, pa.string(), "written by this filter's comparison")
