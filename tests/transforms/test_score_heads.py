"""Score heads: LAION's linear one and its MLP give what torch gives, and nothing else is loaded."""

from __future__ import annotations

import os
import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from filters.core.errors import ModelError, RecipeError
from tests.transforms.reading import named
from transforms.measure import DerivedMeasure
from transforms.score_heads import apply_head, load_head


def mlp(width: int = 16, *, activation: type[torch.nn.Module] | None = None) -> torch.nn.Sequential:
    """The shape of LAION's second predictor: five linear layers with dropout between them."""
    torch.manual_seed(0)
    sizes = [width, 64, 32, 16, 8, 1]
    layers: list[torch.nn.Module] = []
    for number, (one, two) in enumerate(pairwise(sizes)):
        layers.append(torch.nn.Linear(one, two))
        if number < 3:
            layers += [torch.nn.Dropout(0.2)] if activation is None else [activation()]
        elif number == 3 and activation is not None:
            layers.append(activation())
    return torch.nn.Sequential(*layers).eval()


def unit(count: int, width: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    values = np.random.default_rng(1).normal(size=(count, width)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def saved(path: Path, state: Any) -> str:
    torch.save(state, path)
    return str(path)


@pytest.mark.parametrize(
    ("name", "module"), [("identity", None), ("relu", torch.nn.ReLU), ("gelu", torch.nn.GELU)]
)
def test_an_mlp_equals_torch(tmp_path: Path, name: str, module: type[torch.nn.Module] | None) -> None:
    model = mlp(activation=module)
    layers = load_head(saved(tmp_path / "head.pth", model.state_dict()))
    rows = unit(20, 16)
    with torch.inference_mode():
        expected = model(torch.from_numpy(rows))[:, 0].numpy()
    assert np.allclose(apply_head(layers, rows, name), expected, atol=1e-6)
    assert np.allclose(apply_head(layers, 7 * rows, name), expected, atol=1e-6)  # any length


def test_layers_stand_in_numeric_order(tmp_path: Path) -> None:
    first, second = torch.ones(3, 4), torch.ones(1, 3)
    state = {"layers.10.weight": second, "layers.2.weight": first, "layers.2.bias": torch.zeros(3)}
    layers = load_head(saved(tmp_path / "head.pth", state))
    assert [weight.shape for weight, _ in layers] == [(3, 4), (1, 3)]
    assert layers[1][1].tolist() == [0.0]  # a bias that is not there


def test_safetensors_equal_torch_files(tmp_path: Path) -> None:
    state = mlp().state_dict()
    save_file(state, tmp_path / "head.safetensors")
    one, two = load_head(str(tmp_path / "head.safetensors")), load_head(saved(tmp_path / "head.pth", state))
    assert np.array_equal(apply_head(one, unit(3, 16)), apply_head(two, unit(3, 16)))


def test_laion_s_linear_head_rises_with_the_rating(shared: Path) -> None:
    folder = shared / "models" / "laion-aesthetic"
    layers = load_head(str(folder / "sa_0_4_vit_l_14_linear.pth"))
    embeddings = np.concatenate(
        [np.load(folder / f"rating{rating}.npy").reshape(1, -1) for rating in range(1, 10)]
    )
    scores = apply_head(layers, embeddings)
    assert embeddings.shape == (9, 768)
    assert np.all(np.diff(scores) > 0)
    assert scores[-1] - scores[0] > 8


def test_a_nan_embedding_has_a_nan_score(tmp_path: Path) -> None:
    layers = load_head(saved(tmp_path / "head.pth", mlp().state_dict()))
    rows = unit(3, 16)
    rows[1] = np.nan
    assert np.isnan(apply_head(layers, rows)).tolist() == [False, True, False]


def test_another_width_is_an_error(tmp_path: Path) -> None:
    layers = load_head(saved(tmp_path / "head.pth", mlp().state_dict()))
    with pytest.raises(
        ModelError, match="takes embeddings of 16 numbers, but the encoder gives 8: use the CLIP model"
    ):
        apply_head(layers, unit(2, 8))


class Malicious:
    """A pickle that would make a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("by", ["torch", "pickle"])
def test_a_malicious_pickle_is_not_run(tmp_path: Path, by: str) -> None:
    trap = tmp_path / "trapped"
    path = tmp_path / "head.pth"
    if by == "torch":
        torch.save({"weight": Malicious(trap)}, path)
    else:
        path.write_bytes(pickle.dumps({"weight": Malicious(trap)}, protocol=2))
    with pytest.raises(ModelError, match=r"can't load the score head .*head\.pth' \(tensors only\): "):
        load_head(str(path))
    assert not trap.exists()


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 broken"])
@pytest.mark.parametrize("name", ["head.pth", "head.safetensors"])
def test_a_damaged_file_is_an_error(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=r"can't load the score head"):
        load_head(str(tmp_path / name))


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"can't load the score head .*: No such file"):
        load_head(str(tmp_path / "head.pth"))


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, "its linear layers are none"),
        ({"a.weight": torch.ones(2, 4)}, r"its linear layers are \(2, 4\), the last must give one number"),
        ({"a.weight": torch.ones(3, 4), "b.weight": torch.ones(1, 2)}, r"\(3, 4\) -> \(1, 2\)"),
        ({"a.weight": torch.ones(4)}, r"a\.weight has shape \(4,\); a score head has linear layers only"),
        ({"a.weight": torch.ones(1, 4), "a.bias": torch.ones(4)}, r"has shape \(1, 4\), but its bias \(4,\)"),
        ({"model": {"weight": torch.ones(1, 4)}}, "is no state dict of tensors"),
        ([torch.ones(1, 4)], "is no state dict of tensors"),
    ],
)
def test_what_is_no_chain_of_linear_layers_is_an_error(tmp_path: Path, state: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load_head(saved(tmp_path / "head.pth", state))


def test_a_replaced_file_is_another_head_under_another_name(tmp_path: Path) -> None:
    path = saved(tmp_path / "head.pth", {"weight": torch.ones(1, 4)})
    head = named("score_head", "aesthetic", checkpoint=path)
    before, name = load_head(path), head.folder
    assert load_head(path) is before
    os.utime(saved(tmp_path / "head.pth", {"weight": 2 * torch.ones(1, 4)}), (5, 5))
    assert load_head(path)[0][0].tolist() == [[2, 2, 2, 2]]
    assert head.folder != name


def derive(path: str, embeddings: np.ndarray[Any, Any]) -> list[float | None]:
    options = named("score_head", "aesthetic", checkpoint=path).options
    assert isinstance(options, DerivedMeasure)
    found: list[float | None] = options.derive("aesthetic", {}, embeddings)["aesthetic_score"].to_pylist()
    return found


def test_the_measure_gives_null_for_rows_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transforms.measures.score_head.ROWS_AT_ONCE", 2)
    path = saved(tmp_path / "head.pth", {"weight": torch.ones(1, 4), "bias": torch.ones(1)})
    rows = np.eye(4, dtype=np.float16)[[0, 1, 2, 3, 0]]
    rows[3] = np.nan
    assert derive(path, rows) == [2.0, 2.0, 2.0, None, 2.0]
    assert derive(path, rows[:0]) == []


def test_a_part_in_which_every_row_failed_has_no_scores(tmp_path: Path) -> None:
    path = saved(tmp_path / "head.pth", {"weight": torch.ones(1, 4)})
    assert derive(path, np.empty((3, 0), np.float16)) == [None, None, None]


def test_the_measure_checks_its_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"score head checkpoint 'nowhere\.pth' does not exist"):
        named("score_head", checkpoint="nowhere.pth").options.check()
    path = saved(tmp_path / "head.pth", {"weight": torch.ones(2, 4)})
    with pytest.raises(ModelError, match="the last must give one number"):
        named("score_head", checkpoint=path).options.check()


def test_paths_are_relative_to_the_recipe(tmp_path: Path) -> None:
    saved(tmp_path / "head.pth", {"weight": torch.ones(1, 4)})
    located = named("score_head", checkpoint="head.pth").options.located(tmp_path)
    assert located.model_dump()["checkpoint"] == str(tmp_path / "head.pth")
    elsewhere = named("score_head", checkpoint="other.pth").options.located(tmp_path)
    assert elsewhere.model_dump()["checkpoint"] == "other.pth"
