"""Filters that compare a pool with files of the user: their content names what was compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.recipe import load_recipe
from filters.core.errors import RecipeError
from tests.pools import photo, sample, write_tar
from tests.running import ask, curate, plan_of, why

DEMO_MODEL = Path(__file__).parents[2] / "curate" / "demo" / "model"
MEASURES = f"measures: {{perceptual_hashes: {{}}, clip: {{model: 'local-dir:{DEMO_MODEL}'}}}}\n"


def recipe(*filters: str) -> str:
    lines = "".join(f"  - {rule}\n" for rule in filters)
    return f"name: mine\n{MEASURES}filters:\n{lines}output: {{report: false, shards: false}}\n"


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    members = [
        member
        for seed in range(8)
        for member in sample(f"s{seed}", photo(seed, side=96), f"a picture of thing {seed}")
    ]
    return write_tar(tmp_path / "pool" / "0.tar", members)


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    members = [("x.jpg", photo(3, side=96)), ("y.jpg", photo(30, side=96)), ("z.jpg", b"no image")]
    return write_tar(tmp_path / "evaluation" / "val.tar", members).parent


def dropped(store: Path) -> set[str]:
    return {row["key"] for row in ask(store, "SELECT key FROM samples WHERE verdict = 'drop'")}


def relations(store: Path) -> set[str]:
    return {path.name for path in (store / "relations").iterdir()}


def embeddings_of(store: Path, keys: set[str]) -> np.ndarray[Any, Any]:
    (path,) = store.glob("embeddings/clip-*/img/*.npy")
    rows = ask(store, 'SELECT key FROM samples ORDER BY "row"')
    stored: np.ndarray[Any, Any] = np.load(path)
    return stored[[at for at, row in enumerate(rows) if row["key"] in keys]]


def test_leaked_copies_are_dropped_with_their_reason(tmp_path: Path, pool: Path, evaluation: Path) -> None:
    store = tmp_path / "store"
    rule = f"drop_leaked: {{against: '{evaluation}', set_name: my-val}}"
    curate(recipe(rule), pool, store, workers=2)
    assert dropped(store) == {"s3"}
    vote = why(store, "s3").votes[0]
    assert (vote.value, vote.bound) == ("0", "more than 31 bits from every picture of my-val")
    before = relations(store)
    stricter = rule.replace("my-val", "my-val, at_most_bits: 4")
    curate(recipe(stricter), pool, store)
    assert dropped(store) == {"s3"}
    assert relations(store) == before, "another threshold compares nothing again"


def test_leaked_embeddings_are_dropped(tmp_path: Path, pool: Path) -> None:
    store = tmp_path / "store"
    curate(recipe("caption_words: 1"), pool, store)
    np.save(tmp_path / "val.npy", embeddings_of(store, {"s2", "s5"}))
    options = f"against: '{tmp_path}/val.npy', set_name: val, method: embedding"
    curate(recipe(f"drop_leaked: {{{options}, cosine_above: 0.999999}}"), pool, store)
    assert dropped(store) >= {"s2", "s5"}
    assert why(store, "s2").votes[0].value == "1"


def test_a_changed_file_is_compared_again_and_a_renamed_one_is_not(tmp_path: Path, pool: Path) -> None:
    store, examples = tmp_path / "store", tmp_path / "examples.npy"
    curate(recipe("caption_words: 1"), pool, store)
    np.save(examples, embeddings_of(store, {"s1"}))
    text = recipe(f"keep_target_clusters: {{examples: '{examples}', clusters: 8}}")
    first = curate(text, pool, store)
    assert dropped(store) == {f"s{seed}" for seed in range(8)} - {"s1"}
    renamed = examples.rename(tmp_path / "other.npy")
    assert curate(text.replace("examples.npy", "other.npy"), pool, store).ledger == first.ledger
    assert len(relations(store)) == 1
    np.save(renamed, embeddings_of(store, {"s1", "s6"}))
    second = curate(text.replace("examples.npy", "other.npy"), pool, store)
    assert second.ledger != first.ledger
    assert dropped(store) == {f"s{seed}" for seed in range(8)} - {"s1", "s6"}


def test_files_lie_beside_the_recipe(tmp_path: Path, evaluation: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nfilters:\n  - drop_leaked: {against: evaluation/*.tar, set_name: val}\n")
    (step,) = load_recipe(path).steps
    assert step.rule.model_dump()["against"] == f"{evaluation}/*.tar"


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("drop_leaked: {against: none.tar, set_name: val}", r"filter drop_leaked: .*none.tar does not exist"),
        ("drop_leaked: {against: 'none/*.tar', set_name: val}", "filter drop_leaked: no shard matches 'none"),
        (
            "keep_target_clusters: none.npy",
            "filter keep_target_clusters: examples: 'none.npy' does not exist",
        ),
    ],
)
def test_missing_files_are_refused_before_any_work(rule: str, said: str, tmp_path: Path, pool: Path) -> None:
    with pytest.raises(RecipeError, match=said):
        plan_of(recipe(rule), pool, tmp_path / "store")
