"""LEMoN as a measure of the pool: every pair against a reference drawn from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from filters.core.uids import parse_uids
from tests.relating import compared, cut
from tests.transforms.relations.test_s_clip_loss import pool, usable
from transforms.measures.neighbourhood import Neighbourhood
from transforms.noise import nearest
from transforms.noise.neighbourhood import lemon, pair_reference


@pytest.mark.parametrize("reference", [60, 1000])
def test_every_pair_is_scored_against_the_drawn_reference(tmp_path: Path, reference: int) -> None:
    rows = pool(150, seed=4)
    rule = Neighbourhood(reference=reference, neighbours=5)
    found = np.array(compared(tmp_path / "one", rule, [rows])[0]["step"], np.float32)
    good = usable(rows)
    assert np.isnan(found).tolist() == (~good).tolist()
    drawn = np.load(tmp_path / "one/artefacts/r-reference.npy")
    assert len(drawn) == min(reference, int(good.sum()))
    pairs = pair_reference(drawn["image"], drawn["text"], drawn["uid"])
    uids = parse_uids(pa.array(rows["uid"]))
    expected = lemon(rows["image"][good], rows["text"][good], pairs, uids=uids[good], k=5).score
    assert np.allclose(found[good], expected, atol=1e-6)
    parts = compared(tmp_path / "two", rule, cut(rows, [range(70, 150), range(70)]), workers=2)
    again = np.array(parts[1]["step"] + parts[0]["step"], np.float32)
    assert np.array_equal(again, found, equal_nan=True)


def test_nothing_to_compare_is_null(tmp_path: Path) -> None:
    dead = {**pool(8), "failure": ["timeout"] * 8}
    assert compared(tmp_path, Neighbourhood(), [dead])[0]["step"] == [None] * 8


def test_a_swapped_caption_scores_higher(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(5, 16))
    concept = generator.integers(0, 5, 200)
    rows = pool(200, seed=1)
    rows["failure"] = [None] * 200
    rows["image"] = (centres[concept] + 0.3 * generator.normal(size=(200, 16))).astype(np.float16)
    wrong = np.arange(200) < 20
    said = np.where(wrong, (concept + 1) % 5, concept)
    rows["text"] = (centres[said] + 0.3 * generator.normal(size=(200, 16))).astype(np.float16)
    found = np.array(compared(tmp_path, Neighbourhood(neighbours=10), [rows])[0]["step"])
    assert found[wrong].min() > np.quantile(found[~wrong], 0.95)


def test_the_fast_search_is_asked_for_by_an_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = pool(900, seed=4)
    monkeypatch.setattr(nearest, "FAST_FROM", 500)
    monkeypatch.setattr(nearest, "LISTS", 8)
    monkeypatch.setattr(nearest, "PROBED", 6)
    found = [
        np.array(compared(tmp_path / str(exact), Neighbourhood(neighbours=5, exact=exact), [rows])[0]["step"])
        for exact in (True, False)
    ]
    exactly, fast = (one.astype(np.float64) for one in found)
    good = ~np.isnan(exactly)
    assert np.array_equal(good, ~np.isnan(fast))
    assert not np.array_equal(exactly[good], fast[good]), "six lists of eight miss neighbours"
    assert np.corrcoef(exactly[good], fast[good])[0, 1] > 0.6
