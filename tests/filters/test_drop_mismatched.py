"""The mixture's own arithmetic is tested with the mixtures; here what the filter makes of it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from filters.core.catalogue import filter_kind
from filters.core.decide import Step, decide
from filters.core.declaration import Columns
from filters.drop_mismatched import DropMismatched
from tests.filters.examples import fit, take, uids
from tests.filters.judging import answers

ROWS = 4000
NOISY, CLEAN = np.arange(ROWS) < 1200, np.arange(ROWS) >= 1200
WITHIN = DropMismatched(within="clip_image", clusters=4, at_least_rows=500)


def scores(noisy: float = 0.12, clean: float = 0.28, rows: int = ROWS, seed: int = 0) -> Any:
    """Three in ten around the one, the others around the other: (rows,) float32."""
    generator = np.random.default_rng(seed)
    centres = np.where(np.arange(rows) < 0.3 * rows, noisy, clean)
    return generator.normal(centres, 0.035).astype(np.float32)


def step(rule: DropMismatched, *batches: Columns) -> Step:
    return Step("step", rule, fit(rule, batches))


def column(values: Any) -> Columns:
    return {"clip_cosine": pa.array(values, pa.float32(), from_pandas=True)}


def two_concepts() -> tuple[Columns, Any]:
    """Two clusters, where the clean of the one score as the noisy of the other, and who is clean."""
    low, high = scores(0.1, 0.25), scores(0.25, 0.4, seed=1)
    columns = {
        "clip_cosine": pa.array(np.concatenate([low, high])),
        "step/cluster_id": pa.array(np.repeat([0, 2], ROWS).astype(np.int32)),
    }
    return columns, np.concatenate([CLEAN, CLEAN])


# --- one mixture


@pytest.mark.parametrize("model", ["gaussian", "beta"])
def test_the_mismatched_go_and_the_others_stay(model: str) -> None:
    columns = column(scores())
    judgement = step(DropMismatched(model=model), columns).judge(columns)  # type: ignore[arg-type]
    assert not judgement.null.any()
    assert np.mean(judgement.passes[NOISY]) < 0.03
    assert np.mean(judgement.passes[CLEAN]) > 0.98
    assert np.array_equal(judgement.passes, judgement.value >= 0.5)
    assert judgement.bound.startswith("p_clean at least 0.5 (clip_cosine 0.1")


def test_a_stricter_bound_keeps_fewer_and_says_the_score() -> None:
    columns = column(scores())
    kept = [step(DropMismatched(p_clean_below=p), columns).judge(columns) for p in (0.1, 0.5, 0.99)]
    counts = [np.count_nonzero(judgement.passes) for judgement in kept]
    assert counts == sorted(counts, reverse=True)
    assert len(set(counts)) == 3
    for judgement in kept:
        bound = float(judgement.bound.split("clip_cosine ")[1].rstrip(")"))
        lowest = columns["clip_cosine"].to_numpy()[judgement.passes].min()
        assert lowest == pytest.approx(bound, abs=2e-3)


def test_a_better_score_is_never_dropped_for_a_worse_one() -> None:
    """Without the correction a wide group of noise would claim the best scores of all."""
    generator = np.random.default_rng(0)
    noise = generator.normal(0.12, 0.08, 1500)
    values = np.concatenate([noise, generator.normal(0.28, 0.03, 3500), [0.6, 0.9]])
    columns = column(values)
    passes = step(DropMismatched(), columns).judge(columns).passes
    assert passes[np.argsort(values)].tolist() == sorted(passes.tolist())
    assert passes[-2:].all()


def test_any_signal_can_be_split() -> None:
    columns = {"dfn_cosine": pa.array(scores())}
    rule = DropMismatched(by="dfn_cosine")
    assert rule.reads() == ("dfn_cosine",)
    assert 0.6 < np.mean(step(rule, columns).judge(columns).passes) < 0.8
    with pytest.raises(ValueError, match="needs numbers"):
        rule.check({"dfn_cosine": pa.string()})


def test_a_sample_without_a_score_is_null_and_counts_nowhere() -> None:
    values = scores()
    with_gaps = np.where(np.arange(ROWS) % 10 == 0, np.nan, values)
    judgement = step(DropMismatched(), column(with_gaps)).judge(column(with_gaps))
    assert judgement.null.tolist() == np.isnan(with_gaps).tolist()
    whole = fit(DropMismatched(), [column(with_gaps)])
    assert (whole["rows"], whole["scored"]) == (ROWS, ROWS * 9 // 10)
    assert whole["mixture"] == fit(DropMismatched(), [column(values[~np.isnan(with_gaps)])])["mixture"]


# --- no answer


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.random.default_rng(0).normal(0.25, 0.05, 5000), "one group: the two means lie"),
        (np.full(5000, 0.25), "the scores are all equal, or nearly"),
        (np.full(5000, np.nan), "no sample has a clip_cosine"),
        (np.array([]), "no sample has a clip_cosine"),
        (scores(rows=999), "999 scores are too few to fit, below at_least_rows 1,000"),
    ],
)
@pytest.mark.parametrize("model", ["gaussian", "beta"])
def test_where_there_are_no_two_groups_every_sample_is_null(values: Any, reason: str, model: str) -> None:
    rule = DropMismatched(model=model)  # type: ignore[arg-type]
    fitted = step(rule, column(values))
    judgement = fitted.judge(column([0.1, 0.5]))
    assert answers(judgement) == [None, None]
    assert judgement.bound.startswith(f"no answer from clip_cosine: {reason}")
    assert np.isnan(judgement.value).all()
    assert fitted.artefact is not None
    assert fitted.artefact["mixture"] is None


@pytest.mark.parametrize(
    ("on_null", "verdict"), [("quarantine", "quarantine"), ("keep", "keep"), ("drop", "drop")]
)
def test_without_an_answer_on_null_decides_and_the_ledger_says_why(on_null: Any, verdict: str) -> None:
    values = np.random.default_rng(0).normal(0.25, 0.05, 2000)
    columns = {**column(values), "uid": uids(2000), "failure": pa.nulls(2000, pa.string())}
    rows = decide(columns, [step(DropMismatched(on_null=on_null), columns)]).to_pylist()
    assert {row["verdict"] for row in rows} == {verdict}
    if on_null != "keep":
        assert all("no answer from clip_cosine: one group" in row["bound"] for row in rows)


# --- the tag


def test_p_clean_stands_in_the_ledger_whatever_the_verdict_and_null_where_there_is_none() -> None:
    values = np.append(scores(), [np.nan, 0.28])
    rows = len(values)
    failure = pa.array([None] * (rows - 1) + ["timeout"], pa.string())
    columns = {**column(values), "uid": uids(rows), "failure": failure}
    fitted = step(DropMismatched(), columns)
    table = decide(columns, [fitted])
    assert table.schema.field("p_clean").type == pa.float32()
    stated = fitted.judge(columns).value.astype(np.float32)
    assert np.array_equal(table["p_clean"].to_numpy(), stated, equal_nan=True)
    assert table["p_clean"][ROWS].as_py() is None
    assert set(table["verdict"].to_pylist()) == {"keep", "drop", "quarantine", "failed"}


def test_of_two_mixtures_the_lower_p_clean_counts() -> None:
    columns = {**column(scores()), "uid": uids(ROWS), "failure": pa.nulls(ROWS, pa.string())}
    one, other = (step(DropMismatched(model=model), columns) for model in ("gaussian", "beta"))
    table = decide(columns, [one, Step("again", other.rule, other.artefact)])
    lowest = np.minimum(one.judge(columns).value, other.judge(columns).value)
    assert np.array_equal(table["p_clean"].to_numpy(), lowest.astype(np.float32))


# --- the artefact


def test_the_artefact_is_small_and_shows_the_fit() -> None:
    artefact = fit(DropMismatched(), [column(scores())])
    assert len(json.dumps(artefact)) < 2000
    assert artefact["reason"] is None
    assert artefact["mixture"]["clean_share"] == pytest.approx(0.7, abs=0.02)
    assert artefact["mixture"]["noisy_mean"] == pytest.approx(0.12, abs=0.005)
    assert [row["quantile"] for row in artefact["quantiles"]] == [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99]


# --- a mixture for each cluster


def test_each_concept_is_split_where_its_own_groups_part() -> None:
    columns, clean = two_concepts()
    fitted = step(WITHIN, columns)
    judgement = fitted.judge(columns)
    assert np.mean(judgement.passes == clean) > 0.97
    whole = step(DropMismatched(), columns).judge(columns)
    assert np.mean((whole.passes & ~whole.null) == clean) < 0.9
    assert fitted.artefact is not None
    assert [one["rows"] for one in fitted.artefact["clusters"]] == [ROWS, 0, ROWS]
    assert "2 clusters" in judgement.bound


def test_a_small_cluster_and_one_of_one_group_are_judged_by_the_mixture_of_all() -> None:
    generator = np.random.default_rng(3)
    values = np.concatenate([scores(), generator.normal(0.3, 0.03, 900), scores()[::10]])
    number = np.repeat([0, 1, 3], [ROWS, 900, ROWS // 10])
    columns = {**column(values), "step/cluster_id": pa.array(number.astype(np.int32))}
    fitted = step(WITHIN, columns)
    assert fitted.artefact is not None
    reasons = [one["reason"] for one in fitted.artefact["clusters"]]
    assert reasons[0] is None
    assert reasons[1].startswith("one group")
    assert "too few" in reasons[3]
    judgement = fitted.judge(columns)
    elsewhere = take(columns, np.arange(ROWS, len(values)))
    whole = step(DropMismatched(at_least_rows=500), columns).judge(elsewhere)
    assert judgement.value[ROWS:] == pytest.approx(whole.value)
    # A cluster that the fit never saw, too.
    unseen = {**elsewhere, "step/cluster_id": pa.array(np.full(len(whole.value), 9, np.int32))}
    assert fitted.judge(unseen).value == pytest.approx(whole.value)


def test_where_only_clusters_show_two_groups_the_others_are_null() -> None:
    values = np.concatenate([scores(0.1, 0.24), np.random.default_rng(0).normal(0.2, 0.06, 40_000)])
    number = np.repeat([0, 1], [ROWS, 40_000])
    columns = {**column(values), "step/cluster_id": pa.array(number.astype(np.int32))}
    judgement = step(WITHIN, columns).judge(columns)
    assert not judgement.null[:ROWS].any()
    assert judgement.null[ROWS:].all()
    assert "in 1 clusters; elsewhere no answer from clip_cosine: one group" in judgement.bound


def test_a_sample_without_a_cluster_is_null_and_counts_nowhere() -> None:
    columns, _ = two_concepts()
    hidden = np.arange(2 * ROWS) % 4 == 0
    number = pa.array(columns["step/cluster_id"].to_numpy(), mask=hidden)
    partly = {**columns, "step/cluster_id": number}
    fitted = step(WITHIN, partly)
    assert fitted.judge(partly).null.tolist() == hidden.tolist()
    assert fitted.artefact == fit(WITHIN, [take(columns, np.flatnonzero(~hidden))]) | {"rows": 2 * ROWS}


def test_clusters_are_counted_in_any_number_of_parts() -> None:
    columns, _ = two_concepts()
    order = np.random.default_rng(0).permutation(2 * ROWS)
    batches = [take(columns, part) for part in np.array_split(order, 9)]
    assert fit(WITHIN, batches) == fit(WITHIN, [columns])


# --- what the planner sees


def test_only_a_rule_with_within_compares_survivors() -> None:
    assert DropMismatched().relation is None
    assert DropMismatched().relation_reads == ()
    assert DropMismatched().embeddings() == ()
    assert (WITHIN.relation, WITHIN.relation_reads) == ("clusters", ("cluster_id",))
    assert WITHIN.embeddings() == ("clip_image",)
    assert WITHIN.embedding == "clip_image"
    assert filter_kind(DropMismatched) == "relational"
    assert DropMismatched(of="pool").population() == "pool"


def test_bounds_and_models_cluster_nothing_anew() -> None:
    free = set(DropMismatched.model_fields) - set(DropMismatched.relation_options)
    assert free == {"p_clean_below", "by", "model", "at_least_rows", "of", "on_null", "only_tag"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"p_clean_below": 0}, "greater than 0"),
        ({"p_clean_below": 1.1}, "less than or equal to 1"),
        ({"model": "poisson"}, "gaussian"),
        ({"at_least_rows": 1}, "greater than or equal to 2"),
        ({"within": "clip_image", "of": "pool"}, "within compares survivors"),
        ({"within": "clip_image", "clusters": 20_001}, "less than or equal to 20000"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DropMismatched.model_validate(options)
