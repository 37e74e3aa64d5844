"""Clusters hit by examples: DataComp's assignment by raw centroids, trained or ready."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from filters.core.errors import RecipeError, StoreError
from filters.core.uids import format_uids
from filters.keep_target_clusters import KeepTargetClusters
from tests.relating import compared, relate, scope_of
from transforms.clustering import train_centroids, unit_rows
from transforms.relating import relation_class
from transforms.relations.target_clusters import TargetClusters

WIDTH = 16


def directions(count: int, seed: int) -> np.ndarray[Any, Any]:
    """Unit rows around six centres, float16."""
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(6, WIDTH))
    vectors = centres[generator.integers(0, 6, count)] + 0.4 * generator.normal(size=(count, WIDTH))
    return unit_rows(vectors.astype(np.float32))[0].astype(np.float16)


def pool(count: int, *, seed: int = 0) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    return {
        "uid": format_uids(generator.integers(0, 2**64, (count, 2), dtype=np.uint64)),
        "vectors": directions(count, seed),
        "failure": [None if good else "timeout" for good in generator.random(count) < 0.95],
    }


def saved(path: Path, array: Any) -> str:
    np.save(path, array)
    return str(path)


def alive_of(rows: dict[str, Any]) -> np.ndarray[Any, Any]:
    return np.array([failure is None for failure in rows["failure"]])


@pytest.fixture
def few_examples(tmp_path: Path) -> str:
    return saved(tmp_path / "examples.npy", directions(4, seed=5))


def brute_force(rows: dict[str, Any], centroids: Any, examples: Any) -> tuple[list[Any], list[Any]]:
    """Each row's cluster and whether an example has the same one; None for failed rows."""
    clusters = (unit_rows(rows["vectors"])[0] @ centroids.T).argmax(axis=1)
    target = set((unit_rows(examples)[0] @ centroids.T).argmax(axis=1).tolist())
    alive = alive_of(rows)
    chosen = [int(cluster) if good else None for cluster, good in zip(clusters, alive, strict=True)]
    return chosen, [None if cluster is None else cluster in target for cluster in chosen]


def test_ready_centroids_are_used_raw_and_by_inner_product(tmp_path: Path, few_examples: str) -> None:
    rows = pool(300)
    # Lengths from 0.2 to 3: normalising them, or L2, gives other clusters.
    lengths = np.linspace(0.2, 3, 20)[:, None]
    centroids = (directions(20, seed=7) * lengths).astype(np.float32)
    rule = KeepTargetClusters(examples=few_examples, centroids=saved(tmp_path / "c.npy", centroids))
    (found,) = compared(tmp_path / "store", rule, [rows])
    cluster, target = brute_force(rows, centroids, np.load(few_examples))
    assert found["cluster_id"] == cluster
    assert found["in_target"] == target
    assert {True, False} <= set(target)
    vectors, _ = unit_rows(rows["vectors"])
    for at, chosen in enumerate(cluster):
        expected = None if chosen is None else pytest.approx(float(vectors[at] @ centroids[chosen]), abs=1e-5)
        assert found["centroid_product"][at] == expected
    unit = brute_force(rows, unit_rows(centroids)[0], np.load(few_examples))[0]
    distance = np.square(vectors[:, None] - centroids[None]).sum(axis=2).argmin(axis=1)
    assert cluster != unit
    assert [value for value in cluster if value is not None] != distance[alive_of(rows)].tolist()


def test_clusters_are_trained_by_plain_l2_on_the_survivors(tmp_path: Path, few_examples: str) -> None:
    rows = pool(400)
    rule = KeepTargetClusters(examples=few_examples, clusters=8)
    scope, parts = scope_of(tmp_path / "store", rule, [rows])
    relate(scope, parts)
    found = scope.store.read_part(scope.group, "p0").to_pydict()
    centroids = np.load(scope.folder.path("artefacts/r-centroids.npy"))
    assert centroids.shape == (8, WIDTH)
    assert np.linalg.norm(centroids, axis=1).max() < 0.99, "raw centroids of unit rows are shorter than 1"
    assert (found["cluster_id"], found["in_target"]) == brute_force(rows, centroids, np.load(few_examples))
    spherical = train_centroids(
        unit_rows(rows["vectors"])[0], 8, seed=0, iterations=20, spherical=True, device="cpu"
    )
    assert not np.allclose(np.linalg.norm(spherical, axis=1), np.linalg.norm(centroids, axis=1))


@pytest.mark.parametrize("ready", [False, True])
def test_nothing_depends_on_shards_lots_pieces_or_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, ready: bool
) -> None:
    rows = pool(300, seed=3)
    examples = directions(40, seed=8)
    options: dict[str, Any] = {"clusters": 30, "training_samples": 200}
    if ready:
        options = {"centroids": saved(tmp_path / "c.npy", directions(30, seed=9).astype(np.float64))}
    one = KeepTargetClusters(examples=saved(tmp_path / "all.npy", examples), **options)
    (whole,) = compared(tmp_path / "whole", one, [rows])
    monkeypatch.setattr("transforms.references.PIECE_ROWS", 7)
    np.savez(tmp_path / "half-0.npz", examples[:20])
    saved(tmp_path / "half-1.npy", np.asfortranarray(examples[20:].astype(np.float32)))
    several = KeepTargetClusters(examples=str(tmp_path / "half-*.np[yz]"), **options)
    order = np.random.default_rng(1).permutation(300)
    pieces: list[Any] = [order[:100], order[100:101], order[101:101], order[101:]]
    parts = [{name: [values[at] for at in piece] for name, values in rows.items()} for piece in pieces]
    found = compared(tmp_path / "cut", several, parts, workers=3, seed=4)
    for name, values in whole.items():
        joined = [value for part in found for value in part[name]]
        assert [joined[at] for at in np.argsort(order)] == values


def test_rows_and_examples_without_a_direction_are_left_out(tmp_path: Path) -> None:
    rows = pool(60, seed=7)
    rows["failure"] = [None] * 60
    rows["vectors"][3], rows["vectors"][4, 2] = 0, np.nan
    examples = directions(6, seed=2).astype(np.float32) * 40  # lengths change nothing
    spoilt = np.concatenate([examples, np.zeros((2, WIDTH), np.float32), np.full((1, WIDTH), np.nan)])
    centroids = saved(tmp_path / "c.npy", directions(12, seed=9))
    found = []
    for name, array in (("clean", examples / 40), ("spoilt", spoilt)):
        rule = KeepTargetClusters(examples=saved(tmp_path / f"{name}.npy", array), centroids=centroids)
        scope, parts = scope_of(tmp_path / name, rule, [rows])
        relate(scope, parts)
        found.append(scope.store.read_part(scope.group, "p0").to_pydict())
        summary = scope.folder.read_json("relations/r/summary.json")
    assert found[0] == found[1]
    assert [found[0][name][3:5] for name in found[0]] == [[None, None]] * 3
    assert summary == {
        "clusters": 12,
        "compared": 58,
        "examples": 6,
        "examples_left_out": 3,
        "in_target": sum(bool(value) for value in found[1]["in_target"]),
        "spherical": False,
        "target_clusters": summary["target_clusters"],
        "trained_on": None,
    }
    assert 1 <= summary["target_clusters"] <= 6


def test_more_clusters_than_rows_and_no_rows(tmp_path: Path, few_examples: str) -> None:
    rows = pool(5, seed=1)
    rows["failure"] = [None] * 5
    rule = KeepTargetClusters(examples=few_examples, clusters=50)
    scope, parts = scope_of(tmp_path / "few", rule, [rows])
    relation = relate(scope, parts)
    assert scope.store.read_part(scope.group, "p0")["cluster_id"].null_count == 0
    summary = scope.folder.read_json(f"{relation.scope.group}/summary.json")
    assert (summary["clusters_asked_for"], summary["clusters"]) == (50, 5)
    dead = {**rows, "failure": ["timeout"] * 5}
    empty = {name: values[:0] for name, values in rows.items()}
    found = compared(tmp_path / "none", rule, [dead, empty])
    assert found[0]["in_target"] == [None] * 5
    assert found[1]["in_target"] == []


# What is wrong with the files; what the check says before any work.
def bad_files(folder: Path) -> dict[str, tuple[dict[str, Any], str]]:
    good = saved(folder / "good.npy", directions(4, seed=1))
    (folder / "text.npy").write_text("not numpy at all")
    (folder / "torch.pt").write_bytes(b"PK\x05\x06" + bytes(18))
    (folder / "cut.npy").write_bytes((folder / "good.npy").read_bytes()[:20])
    np.savez(folder / "two.npz", b32_img=directions(2, seed=1), l14_img=directions(2, seed=2))
    np.save(folder / "objects.npy", np.array([{}, {}], dtype=object), allow_pickle=True)
    return {
        "absent": ({"examples": str(folder / "none.npy")}, "examples: .*none.npy' does not exist"),
        "folder": ({"examples": str(folder)}, "examples: .* is a folder: name the files"),
        "no match": ({"examples": str(folder / "no*.npy")}, r"no file matches .*no\*.npy"),
        "no numpy": ({"examples": str(folder / "text.npy")}, "can't read .*text.npy as .npy or .npz"),
        "torch": ({"examples": str(folder / "torch.pt")}, "can't read .*torch.pt as .npy or .npz"),
        "cut": ({"examples": str(folder / "cut.npy")}, "can't read .*cut.npy"),
        "objects": ({"examples": str(folder / "objects.npy")}, r"holds object of shape \(2,\)"),
        "one row": (
            {"examples": saved(folder / "flat.npy", np.ones(4, np.float32))},
            r"holds float32 of shape \(4,\), not embeddings: \(n, d\) floats",
        ),
        "integers": (
            {"examples": saved(folder / "ints.npy", np.ones((4, 2), np.int64))},
            "holds int64 of shape",
        ),
        "none": (
            {"examples": saved(folder / "empty.npy", np.ones((0, WIDTH), np.float32))},
            "examples: no embedding in .*empty.npy",
        ),
        "several arrays": (
            {"examples": str(folder / "two.npz")},
            r"holds 2 arrays \(b32_img, l14_img\): name one with `array`",
        ),
        "another array": (
            {"examples": str(folder / "two.npz"), "array": "l14_imgs"},
            "has no array 'l14_imgs'; did you mean l14_img",
        ),
        "widths": (
            {"examples": [good, saved(folder / "wide.npy", np.ones((3, 8), np.float32))]},
            "examples: embeddings of several widths .*wide.npy 8, .*good.npy 16",
        ),
        "other centroids": (
            {"examples": good, "centroids": saved(folder / "c8.npy", np.ones((3, 8), np.float32))},
            r"the examples are 16 wide, the centroids .*c8.npy 8: give those of one encoder",
        ),
        "no centroids": (
            {"examples": good, "centroids": str(folder / "x.npy")},
            "centroids: .* does not exist",
        ),
        "some centroids": (
            {"examples": good, "centroids": str(folder / "[gw]*.npy")},
            "several widths|name one",
        ),
    }


@pytest.mark.parametrize(
    "case",
    [
        *("absent", "folder", "no match", "no numpy", "torch", "cut", "objects", "one row", "integers"),
        *("none", "several arrays", "another array", "widths", "other centroids", "no centroids"),
        "some centroids",
    ],
)
def test_bad_files_are_refused_before_any_work(tmp_path: Path, case: str) -> None:
    cases = bad_files(tmp_path)
    options, said = cases[case]
    with pytest.raises(RecipeError, match=said):
        relation_class("target_clusters").check(KeepTargetClusters.model_validate(options))


def test_an_array_of_an_npz_is_chosen_by_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", b32_img=np.ones((2, 8), np.float16), l14_img=directions(2, seed=2))
    rule = KeepTargetClusters(examples=str(tmp_path / "two.npz"), array="l14_img", clusters=2)
    TargetClusters.check(rule)
    assert compared(tmp_path / "store", rule, [pool(20)])[0]["in_target"]


def test_another_width_than_the_pool_says_what_to_do(tmp_path: Path) -> None:
    wide = saved(tmp_path / "wide.npy", np.ones((3, 8), np.float32))
    with pytest.raises(RecipeError, match=r"the examples are 8 wide, the centroids 16: .* one encoder"):
        compared(tmp_path / "trained", KeepTargetClusters(examples=wide, clusters=2), [pool(20)])
    rule = KeepTargetClusters(examples=wide, centroids=wide)
    with pytest.raises(RecipeError, match="embeddings clip_image of p0 are 16 wide, the centroids 8"):
        compared(tmp_path / "ready", rule, [pool(20)])


def test_examples_without_any_direction_are_an_error(tmp_path: Path) -> None:
    rule = KeepTargetClusters(examples=saved(tmp_path / "z.npy", np.zeros((3, WIDTH))), clusters=2)
    with pytest.raises(RecipeError, match="none of the 3 examples has a direction"):
        compared(tmp_path / "store", rule, [pool(20)])


def test_centroids_that_are_not_finite_are_an_error(tmp_path: Path, few_examples: str) -> None:
    centroids = np.ones((3, WIDTH), np.float32)
    centroids[1, 2] = np.inf
    rule = KeepTargetClusters(examples=few_examples, centroids=saved(tmp_path / "c.npy", centroids))
    with pytest.raises(RecipeError, match=r"row 1 of the centroids .* is not finite"):
        compared(tmp_path / "store", rule, [pool(20)])


def test_two_encoders_in_one_pool_are_an_error(tmp_path: Path, few_examples: str) -> None:
    narrow = {**pool(40, seed=3), "vectors": np.ones((40, 8), np.float16)}
    with pytest.raises(StoreError, match="embeddings clip_image"):
        compared(tmp_path, KeepTargetClusters(examples=few_examples, clusters=2), [pool(40), narrow])


def test_content_names_the_comparison_and_not_the_path(tmp_path: Path) -> None:
    first = saved(tmp_path / "a.npy", directions(4, seed=1))
    copy = saved(tmp_path / "b.npy", directions(4, seed=1))
    other = saved(tmp_path / "c.npy", directions(4, seed=2))
    identity = [TargetClusters.identity(KeepTargetClusters(examples=path)) for path in (first, copy, other)]
    assert identity[0] == identity[1] != identity[2]
    assert identity[0]["centroids"] is None
    ready = TargetClusters.identity(KeepTargetClusters(examples=first, centroids=other))
    assert ready == {"examples": identity[0]["examples"], "centroids": identity[2]["examples"][0]}
    saved(tmp_path / "a.npy", directions(4, seed=2))
    assert TargetClusters.identity(KeepTargetClusters(examples=first)) == identity[2]


def test_files_are_read_by_url(tmp_path: Path) -> None:
    import fsspec

    fs = fsspec.filesystem("memory")
    for name, array in (("e.npy", directions(4, seed=5)), ("c.npy", directions(9, seed=6))):
        with fs.open(f"/targets/{name}", "wb") as stream:
            np.save(stream, array)
        saved(tmp_path / name, array)
    url = KeepTargetClusters(examples="memory://targets/e*.npy", centroids="memory://targets/c.npy")
    local = KeepTargetClusters(examples=str(tmp_path / "e.npy"), centroids=str(tmp_path / "c.npy"))
    TargetClusters.check(url)
    assert len(TargetClusters.identity(url)["examples"]) == 1
    assert compared(tmp_path / "u", url, [pool(30)]) == compared(tmp_path / "l", local, [pool(30)])
