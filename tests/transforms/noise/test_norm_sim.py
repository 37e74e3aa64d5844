from __future__ import annotations

import numpy as np
import pytest

from transforms.clustering import Floats, unit_rows
from transforms.noise import norm_sim
from transforms.noise.norm_sim import norm_sim_2, norm_sim_inf, target_gram

TORCH = "cpu:0"  # goes through torch, as a GPU does, but on the processor


def random_rows(count: int, width: int = 48, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)


def brute_force(images: Floats, targets: Floats, power: float) -> Floats:
    unit, aims = (unit_rows(rows)[0].astype(np.float64) for rows in (images, targets))
    return np.linalg.norm(unit @ aims.T, ord=power, axis=1).astype(np.float32)


@pytest.mark.parametrize("targets", [1, 64, 500])
@pytest.mark.parametrize("images", [0, 1, 1025])
def test_both_norms_are_those_of_all_products(images: int, targets: int) -> None:
    seen, aims = random_rows(images), random_rows(targets, seed=1)
    squares = norm_sim_2(seen, target_gram(aims))
    assert squares.dtype == np.float32
    assert squares == pytest.approx(brute_force(seen, aims, 2), rel=2e-6)
    for device in ("cpu", TORCH):
        found = norm_sim_inf(seen, aims, device=device)
        assert found.dtype == np.float32
        assert found == pytest.approx(brute_force(seen, aims, np.inf), abs=1e-6)


def test_targets_in_blocks_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, aims = random_rows(300), random_rows(1000, seed=1)
    expected = norm_sim_2(seen, target_gram(aims)), norm_sim_inf(seen, aims, device="cpu")
    monkeypatch.setattr(norm_sim, "_BLOCK_TARGETS", 128)
    assert norm_sim_2(seen, target_gram(aims)) == pytest.approx(expected[0], rel=1e-6)
    assert norm_sim_inf(seen, aims, device="cpu") == pytest.approx(expected[1], abs=1e-6)


def test_an_opposite_picture_is_as_near_as_an_equal_one() -> None:
    row = random_rows(1)
    for aims in (row, -row, np.concatenate([row, -row])):
        assert norm_sim_inf(row, aims, device="cpu") == pytest.approx(1, abs=1e-6)
    assert norm_sim_2(row, target_gram(np.concatenate([row, -row]))) == pytest.approx(np.sqrt(2))


def test_rows_without_a_direction_are_null_and_count_nothing_as_targets() -> None:
    seen, aims = random_rows(5), random_rows(40, seed=1)
    broken = np.concatenate([aims, np.zeros((1, 48), np.float32), np.full((1, 48), np.nan, np.float32)])
    bad = seen.copy()
    bad[1], bad[3, 0] = 0, np.inf
    for found, expected in (
        (norm_sim_2(bad, target_gram(broken)), norm_sim_2(seen, target_gram(aims))),
        (norm_sim_inf(bad, broken, device="cpu"), norm_sim_inf(seen, aims, device="cpu")),
    ):
        assert np.isnan(found).tolist() == [False, True, False, True, False]
        assert found[[0, 2, 4]] == pytest.approx(expected[[0, 2, 4]], rel=1e-6)


def test_no_targets_have_nothing_in_common() -> None:
    none = np.zeros((0, 48), np.float16)
    assert norm_sim_2(random_rows(3), target_gram(none)).tolist() == [0, 0, 0]
    assert norm_sim_inf(random_rows(3), none, device="cpu").tolist() == [0, 0, 0]


def test_values_do_not_depend_on_the_rows_beside_them() -> None:
    seen, aims = random_rows(1500), random_rows(700, seed=1)
    gram = target_gram(aims)
    whole = norm_sim_2(seen, gram), norm_sim_inf(seen, aims, device="cpu")
    for rows in (slice(0, 1), slice(1000, 1500), slice(1499, None)):
        assert np.array_equal(norm_sim_2(seen[rows], gram), whole[0][rows])
        assert np.array_equal(norm_sim_inf(seen[rows], aims, device="cpu"), whole[1][rows])


def test_a_target_of_another_width_is_an_error() -> None:
    for ask in (norm_sim_2, norm_sim_inf):
        with pytest.raises(ValueError, match="images are 48 wide, but the target is 16"):
            ask(random_rows(2), random_rows(16, 16))
