"""s-CLIPLoss as a measure of the pool: what the batches and the bank say, whatever the partition."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from filters.core.uids import format_uids, parse_uids
from tests.relating import compared, cut
from transforms.measures.s_clip_loss import SClipLoss
from transforms.noise.clip_loss import bank_scores, pool_scores


def pool(count: int, seed: int = 0) -> dict[str, Any]:
    """Pairs whose captions fit more or less; some rows failed, some have no direction."""
    generator = np.random.default_rng(seed)
    image = generator.normal(size=(count, 16))
    text = image + generator.uniform(0.2, 2, (count, 1)) * generator.normal(size=(count, 16))
    image[3] = 0
    text[5, 2] = np.nan
    return {
        "uid": format_uids(generator.integers(0, 2**64, (count, 2), dtype=np.uint64)),
        "image": image.astype(np.float16),
        "text": text.astype(np.float16),
        "failure": [None if good else "timeout" for good in generator.random(count) < 0.95],
    }


def usable(rows: dict[str, Any]) -> np.ndarray[Any, Any]:
    good = np.array([failure is None for failure in rows["failure"]])
    good[[3, 5]] = False
    return good


def test_the_exact_form_is_that_of_a_pool_in_memory(tmp_path: Path) -> None:
    rows = pool(300)
    rows["failure"] = [None] * 300
    rule = SClipLoss(batch=64, repetitions=3)
    found = np.array(compared(tmp_path / "one", rule, [rows])[0]["step"], np.float32)
    good = usable(rows)
    assert np.isnan(found[~good]).all()
    import pyarrow as pa

    uids = parse_uids(pa.array(rows["uid"]))
    expected = pool_scores(
        rows["image"], rows["text"], uids, temperature=0.01, reference_batch=64, repetitions=3
    )
    assert np.allclose(found[good], expected[good], atol=2e-6)
    parts = compared(tmp_path / "three", rule, cut(rows, [range(100, 300), range(0), range(100)]), workers=3)
    assert parts[0]["step"] + parts[2]["step"] == [
        None if np.isnan(value) else value for value in [*found[100:], *found[:100]]
    ]


def test_the_bank_form_compares_with_the_pairs_of_the_smallest_hash(tmp_path: Path) -> None:
    rows = pool(200, seed=2)
    rule = SClipLoss(form="bank", batch=50)
    found = np.array(compared(tmp_path / "one", rule, [rows])[0]["step"], np.float32)
    assert np.isnan(found).tolist() == (~usable(rows)).tolist()
    bank = np.load(tmp_path / "one/artefacts/r-reference.npy")
    assert len(bank) == 50
    uids = np.array([[int(uid[:16], 16), int(uid[16:], 16)] for uid in rows["uid"]], np.uint64)
    places = [int(np.flatnonzero((uids == uid).all(axis=1))[0]) for uid in bank["uid"]]
    own = np.full(200, -1, np.int64)
    own[places] = np.arange(50)
    expected = bank_scores(
        rows["image"], rows["text"], bank["image"], bank["text"], own=own, reference_batch=50
    )
    assert np.allclose(found[usable(rows)], expected[usable(rows)], atol=1e-6)
    parts = compared(tmp_path / "two", rule, cut(rows, [range(120, 200), range(120)]), workers=2)
    assert parts[0]["step"] + parts[1]["step"] == [
        None if np.isnan(value) else value for value in [*found[120:], *found[:120]]
    ]


def test_nothing_to_compare_is_null(tmp_path: Path) -> None:
    dead = {**pool(8), "failure": ["timeout"] * 8}
    for form in ("exact", "bank"):
        rule = SClipLoss(form=form, batch=4, repetitions=2)
        assert compared(tmp_path / form, rule, [dead])[0]["step"] == [None] * 8


@pytest.mark.parametrize("form", ["exact", "bank"])
def test_a_measure_names_its_column_after_itself(form: Any) -> None:
    rule = SClipLoss(form=form, encoder="dfn")
    assert [column.name for column in rule.columns("misfit")] == ["misfit"]
    assert rule.embeddings() == ("dfn_image", "dfn_text")
