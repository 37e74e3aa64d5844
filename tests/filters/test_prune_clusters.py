"""Quotas by density, ranks by distance; the arithmetic is tested with the quotas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from filters.core.decide import Step
from filters.prune_clusters import PruneClusters
from tests.filters.examples import fit
from tests.filters.judging import answers

# ALGORITHMS 3.3 of the design notes: sizes, intra and inter distances of four clusters.
SIZES, INTRA, INTER = (100, 40, 300, 10), (0.4, 0.6, 0.1, 0.5), (0.3, 0.5, 0.2, 0.8)
QUOTAS = (37, 40, 33, 10)


def clusters(sizes: tuple[int, ...] = SIZES) -> dict[str, pa.Array]:
    """Rows of clusters with these mean distances; all of a cluster at the same distance."""
    number = np.repeat(np.arange(len(sizes)), sizes)
    return {
        "step/cluster_id": pa.array(number.astype(np.int32)),
        "step/centroid_cosine": pa.array((1 - np.repeat(INTRA[: len(sizes)], sizes)).astype(np.float32)),
        "step/cluster_rank": pa.array(np.concatenate([np.arange(size) for size in sizes])),
        "step/inter_distance": pa.array(np.repeat(INTER[: len(sizes)], sizes).astype(np.float32)),
    }


def judged(rule: PruneClusters, columns: dict[str, pa.Array]) -> list[bool | None]:
    return answers(Step("step", rule, fit(rule, [columns])).judge(columns))


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_the_published_quotas_and_the_first_of_each_cluster(temperature: float) -> None:
    columns = clusters()
    rule = PruneClusters(samples=120, temperature=temperature)
    assert tuple(fit(rule, [columns])["quotas"]) == QUOTAS
    kept = judged(rule, columns)
    number = columns["step/cluster_id"].to_numpy()
    rank = columns["step/cluster_rank"].to_numpy()
    assert kept == (rank < np.array(QUOTAS)[number]).tolist()
    assert judged(PruneClusters(keep=0.2667, temperature=temperature), columns).count(True) == 120


@pytest.mark.parametrize(
    ("options", "kept"),
    [({"keep": 0}, 0), ({"keep": 1}, 450), ({"samples": 10**9}, 450), ({"samples": 3}, 3)],
)
def test_nothing_everything_more_than_there_is_and_fewer_than_clusters(
    options: dict[str, Any], kept: int
) -> None:
    assert judged(PruneClusters(**options), clusters()).count(True) == kept


def test_the_total_is_exact_for_every_share() -> None:
    for hundredths in range(0, 101, 7):
        share = hundredths / 100
        assert judged(PruneClusters(keep=share), clusters()).count(True) == hundredths * 450 // 100


def test_rows_that_were_not_compared_count_nowhere() -> None:
    columns = clusters()
    gaps = np.zeros(450, bool)
    gaps[[0, 120, 449]] = True
    partly = {name: pa.array(column.to_numpy(), mask=gaps) for name, column in columns.items()}
    rule = PruneClusters(keep=1)
    assert fit(rule, [partly])["rows"] == 447
    assert judged(rule, partly).count(None) == 3


def test_a_single_cluster_and_empty_ones() -> None:
    columns = clusters((50,))
    assert judged(PruneClusters(keep=0.5), columns).count(True) == 25
    far = {**columns, "step/cluster_id": pa.array(np.full(50, 7, np.int32))}
    artefact = fit(PruneClusters(keep=0.5), [far])
    assert artefact["quotas"] == [0] * 7 + [25]
    assert artefact["intra_distance"][0] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either keep"),
        ({"keep": 0.5, "samples": 3}, "either keep"),
        ({"keep": 1.2}, "less than or equal to 1"),
        ({"keep": 0.5, "temperature": 0}, "greater than 0"),
        ({"keep": 0.5, "balance": 2}, "less than or equal to 1"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PruneClusters(**options)


def test_shares_and_temperatures_cluster_nothing_anew() -> None:
    free = set(PruneClusters.model_fields) - set(PruneClusters.relation_options)
    assert free == {"keep", "samples", "temperature", "balance", "on_null", "only_tag"}
