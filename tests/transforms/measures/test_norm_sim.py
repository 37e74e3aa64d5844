"""NormSim to a target that the user brings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from filters.core.errors import RecipeError
from transforms.measures.norm_sim import NormSim


@pytest.fixture
def target(tmp_path: Path) -> Path:
    vectors = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    np.save(tmp_path / "a.npy", vectors[:30])
    np.save(tmp_path / "b.npy", vectors[30:].astype(np.float16))
    return tmp_path


def derived(rule: NormSim, embeddings: Any) -> list[float | None]:
    (values,) = rule.derive("near", {}, np.asarray(embeddings, np.float16)).values()
    return values.to_pylist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("p", ["2", "inf"])
def test_the_norm_of_the_cosines_to_every_target(target: Path, p: Any) -> None:
    images = np.random.default_rng(1).normal(size=(20, 8)).astype(np.float16)
    images[4], images[7, 2] = 0, np.nan
    rule = NormSim(target=f"{target}/*.npy", p=p)
    every = np.concatenate([np.load(target / "a.npy"), np.load(target / "b.npy").astype(np.float32)])
    unit = every / np.linalg.norm(every, axis=1, keepdims=True)
    for at, value in enumerate(derived(rule, images)):
        if at in (4, 7):
            assert value is None
            continue
        cosines = unit @ (images[at].astype(np.float64) / np.linalg.norm(images[at].astype(np.float64)))
        expected = np.abs(cosines).max() if p == "inf" else np.sqrt((cosines**2).sum())
        assert value == pytest.approx(expected, rel=1e-5)


def test_nothing_encoded_and_nothing_there() -> None:
    rule = NormSim.model_construct(target="x", p="2", encoder_name="clip", array=None)
    assert derived(rule, np.zeros((3, 0))) == [None] * 3


def test_its_name_depends_on_the_target_s_content(target: Path) -> None:
    before = NormSim(target=str(target / "a.npy")).identity()
    (target / "c.npy").write_bytes((target / "a.npy").read_bytes())
    assert NormSim(target=str(target / "c.npy")).identity() == before
    assert NormSim(target=str(target / "b.npy")).identity() != before
    assert NormSim(target=str(target / "a.npy"), p="inf").identity() != before


def test_a_target_that_is_absent_or_of_another_encoder_is_an_error(target: Path) -> None:
    with pytest.raises(RecipeError, match=r"target: .* does not exist"):
        NormSim(target=str(target / "none.npy")).check()
    with pytest.raises(RecipeError, match="target is 8 wide, the embeddings of clip 4: give a target"):
        derived(NormSim(target=str(target / "a.npy")), np.ones((2, 4)))
    located = NormSim(target="a.npy").located(target)
    assert located.target == str(target / "a.npy")
    located.check()
