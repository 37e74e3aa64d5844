"""Linear separation as a measure of the pool: what the core says, whatever the partition."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from filters.core.errors import RecipeError, StoreError
from filters.core.separation import Alternation, pair_features, separate, uid_folds
from filters.core.uids import format_uids, parse_uids, uid_fraction
from tests.relating import compared, cut, relate, scope_of
from transforms.clustering import unit_rows
from transforms.measures.separation import Separation

WIDTH = 12


def pool(count: int = 1200, seed: int = 0) -> dict[str, Any]:
    """Pairs of which a fifth are noise: captions of nothing, and pictures of a kind of their own."""
    generator = np.random.default_rng(seed)
    image = generator.normal(size=(count, WIDTH))
    noise = generator.random(count) < 0.2
    image[noise, 0] += 2
    text = np.where(noise[:, None], generator.normal(size=(count, WIDTH)), image)
    text = text + 1.5 * generator.normal(size=(count, WIDTH))
    cosine = np.einsum(
        "nd,nd->n", unit_rows(image.astype(np.float32))[0], unit_rows(text.astype(np.float32))[0]
    )
    return {
        "uid": format_uids(generator.integers(0, 2**64, (count, 2), dtype=np.uint64)),
        "image": image.astype(np.float16),
        "text": text.astype(np.float16),
        "clip_cosine": cosine,
        "noise": noise,
        "failure": [None] * count,
    }


def rank(scores: np.ndarray, noise: np.ndarray) -> float:
    """The share of (noise, clean) pairs in the right order."""
    return float((scores[noise][:, None] > scores[~noise]).mean())


def column(parts: list[dict[str, list[Any]]], name: str = "step") -> np.ndarray:
    return np.array([value for part in parts for value in part[name]], np.float64)


def test_it_is_the_core_s_answer_with_the_tails_as_seeds(tmp_path: Path) -> None:
    rows = pool(900)
    found = column(compared(tmp_path, Separation(least_seeds=20), [rows]))
    uids = parse_uids(pa.array(rows["uid"]))
    images, texts = unit_rows(rows["image"])[0], unit_rows(rows["text"])[0]
    cosine = np.asarray(rows["clip_cosine"], np.float64)
    ordered = np.sort(cosine)
    seeds = np.select([cosine <= ordered[89], cosine >= ordered[450]], [1.0, 0.0], 0.5)
    losses = 1 - np.einsum("nd,nd->n", images, texts, dtype=np.float64)
    expected = separate(pair_features(images, texts), seeds, losses, uids, Alternation(least_seeds=20))
    assert expected.reason is None
    same = ~expected.rescued
    assert found[same] == pytest.approx(expected.p_noise[same], abs=1e-4)
    assert rank(found, rows["noise"]) > rank(losses, rows["noise"]) + 0.01


def test_parts_workers_and_order_do_not_matter(tmp_path: Path) -> None:
    rows = pool()
    rows["failure"] = ["timeout" if number % 50 == 0 else None for number in range(1200)]
    rows["image"][7], rows["text"][9, 2] = 0, np.nan
    rows["clip_cosine"][[7, 9]] = np.nan
    for values in rows.values():  # one sample that two shards hold
        values[601] = values[21]
    rule = Separation(least_seeds=20, sample=700)
    whole = compared(tmp_path / "one", rule, [rows])
    missing = np.array([failure is not None for failure in rows["failure"]])
    missing[[7, 9]] = True
    assert np.isnan(column(whole)).tolist() == missing.tolist()
    assert [value is None for value in whole[0]["step_rescued"]] == missing.tolist()
    pieces = [range(900, 1200), range(0), range(350), range(350, 900)]
    cuts = compared(tmp_path / "four", rule, cut(rows, pieces), workers=3, seed=5)
    for name in ("step", "step_log_odds", "step_rescued"):
        again = [value for part in (cuts[2], cuts[3], cuts[0]) for value in part[name]]
        assert again == whole[0][name]


def test_a_small_sample_is_of_every_fold(tmp_path: Path) -> None:
    rows = pool(3000)
    scope, parts = scope_of(tmp_path, Separation(least_seeds=10, sample=400), [rows])
    relation = relate(scope, parts)
    summary = scope.folder.read_json(f"{scope.group}/summary.json")
    assert (summary["sample"], summary["reason"], summary["scored"]) == (400, None, 3000)
    assert np.load(tmp_path / relation.artefact("planes.npy")).shape == (5, 3 * WIDTH + 1)
    found = column([scope.store.read_part(scope.group, parts[0].part).to_pydict()])
    folds = uid_folds(parse_uids(pa.array(rows["uid"])))
    for fold in range(5):
        assert rank(found[folds == fold], rows["noise"][folds == fold]) > 0.85


def test_a_simple_clean_pair_keeps_the_verdict_of_its_seed(tmp_path: Path) -> None:
    rows = pool(3000)
    generator = np.random.default_rng(3)
    simple = np.arange(3000) < 30
    rows["noise"][simple] = False
    # What tells noise is where its pictures lie; the simple ones lie there, too, and fit best of all.
    image = generator.normal(size=(3000, WIDTH))
    image[rows["noise"] | simple, 0] = 5
    far = np.where(simple, 0.1, np.where(rows["noise"], 1.3, 1.0))
    rows["image"] = image.astype(np.float16)
    rows["text"] = (image + far[:, None] * generator.normal(size=(3000, WIDTH))).astype(np.float16)
    rows["trust"] = np.where(rows["noise"], 0.03, 0.97)
    rows["trust"][simple] = 0.96
    found = compared(tmp_path, Separation(seeds="trust", seeds_say="p_clean", rounds=1), [rows])[0]
    rescued = np.array(found["step_rescued"])
    assert rescued[simple].sum() >= 10
    p_noise = 1 - rows["trust"][rescued]
    assert np.array(found["step"])[rescued] == pytest.approx(p_noise, abs=1e-6)
    odds = np.log(p_noise / (1 - p_noise))
    assert np.array(found["step_log_odds"])[rescued] == pytest.approx(odds, abs=1e-5)


def test_seeds_of_another_signal(tmp_path: Path) -> None:
    rows = pool(2000)
    rows["doubt"] = np.where(rows["noise"], 3.0, 1.0) + np.random.default_rng(1).normal(0, 0.3, 2000)
    found = column(compared(tmp_path / "a", Separation(seeds="doubt", seeds_say="doubt"), [rows]))
    assert rank(found, rows["noise"]) > 0.9
    upside_down = column(compared(tmp_path / "b", Separation(seeds="doubt"), [rows]))
    assert rank(upside_down, rows["noise"]) < 0.5


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"clip_cosine": [0.3] * 60}, "clip_cosine: the scores are all equal, or nearly"),
        ({"clip_cosine": [np.nan] * 60}, "clip_cosine: 0 scores have no tails"),
        ({"failure": ["timeout"] * 60}, "clip_cosine: 0 scores have no tails"),
        ({}, "a model would see 3 certain noisy samples, fewer than 50"),
    ],
)
def test_without_an_answer_rows_are_null_with_a_reason(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    rows = {**pool(60), **change}
    scope, parts = scope_of(tmp_path, Separation(), [rows])
    relate(scope, parts)
    written = scope.store.read_part(scope.group, parts[0].part)
    assert written["step"].null_count == written["step_rescued"].null_count == 60
    assert written["step"].type == pa.float32()
    summary = scope.folder.read_json(f"{scope.group}/summary.json")
    assert summary["reason"].startswith(reason)
    assert summary["scored"] == 0


def test_an_empty_pool_and_a_single_pair(tmp_path: Path) -> None:
    assert compared(tmp_path / "none", Separation(), cut(pool(60), [range(0)]))[0]["step"] == []
    assert compared(tmp_path / "one", Separation(), cut(pool(60), [range(1)]))[0]["step"] == [None]
    assert compared(tmp_path / "no parts", Separation(), []) == []


def test_a_signal_that_is_no_number_is_refused(tmp_path: Path) -> None:
    rows = {**pool(60), "caption": ["a cat"] * 60}
    with pytest.raises(RecipeError, match="measure step: column 'caption' holds string"):
        compared(tmp_path, Separation(seeds="caption"), [rows])


def test_a_score_that_is_said_to_be_a_probability_is_refused(tmp_path: Path) -> None:
    rows = {**pool(60), "doubt": np.arange(60.0)}
    with pytest.raises(RecipeError, match="measure step: doubt: p_noise lies in"):
        compared(tmp_path, Separation(seeds="doubt", seeds_say="p_noise"), [rows])


def test_log_odds_tell_apart_what_rounds_to_one(tmp_path: Path) -> None:
    rows = pool(2000)
    rows["trust"] = np.where(rows["noise"], 0.0, 1.0)
    rows["image"][rows["noise"], 0] += 40
    (found,) = compared(tmp_path, Separation(seeds="trust", seeds_say="p_clean", penalty=1e-4), [rows])
    certain = np.array(found["step"]) == 1
    assert certain.sum() > 50
    assert len(set(np.array(found["step_log_odds"])[certain].tolist())) > 50


def test_embeddings_of_two_widths_are_refused(tmp_path: Path) -> None:
    rows = pool(1200)
    uids = parse_uids(pa.array(rows["uid"]))
    last = int(uid_fraction(uids, Separation().seed).argmax())  # never drawn
    odd = {name: [values[last]] for name, values in rows.items()}
    odd |= {side: np.ones((1, 5)) for side in ("image", "text")}
    rest = cut(rows, [[row for row in range(1200) if row != last]])
    with pytest.raises(StoreError, match="are 5 wide, elsewhere 12: measure the pool with one encoder"):
        compared(tmp_path, Separation(sample=600, least_seeds=20), [*rest, odd])


def test_a_measure_names_its_columns_after_itself() -> None:
    rule = Separation(encoder="dfn")
    assert [item.name for item in rule.columns("lsa")] == ["lsa", "lsa_log_odds", "lsa_rescued"]
    assert rule.embeddings() == ("dfn_image", "dfn_text")
    assert (rule.reads(), Separation(seeds="trust").reads()) == (("dfn_cosine",), ("trust",))
