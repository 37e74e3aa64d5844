"""Copies by perceptual hash: the nearest earlier picture within the radius, as by brute force."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from filters.core.errors import RecipeError
from filters.core.uids import format_uids
from filters.drop_copies import DropCopies
from tests.relating import after_others, compared, cut
from transforms.relations import copies

BITS = {"pdq": 256, "phash": 64}


def pool(count: int, method: str, *, seed: int = 0) -> dict[str, Any]:
    """Pictures of which many are near others, some seen in a mirror, some with nothing to see."""
    generator = np.random.default_rng(seed)
    bits = BITS[method]
    seeds = generator.random((count // 4, bits)) < 0.5
    chosen = generator.integers(0, len(seeds), count)
    flipped = seeds[chosen] ^ (
        generator.random((count, bits)) < generator.choice([0, 0.03, 0.08], (count, 1))
    )
    codes = np.packbits(flipped, axis=1)
    flips = np.packbits(generator.random((count, 8, bits)) < 0.5, axis=2)
    flips[:, 0] = codes
    for at in range(0, count - 1, 7):
        flips[at, 3] = codes[at + 1]  # row `at` is the next one seen in a mirror
    name = "phash" if method == "phash" else "pdq_hash"
    return {
        "uid": format_uids(generator.integers(0, 2**64, (count, 2), dtype=np.uint64)),
        name: [code.tobytes().hex() for code in codes],
        f"{method}_flips": [flip.tobytes().hex() for flip in flips],
        "pdq_quality": np.where(generator.random(count) < 0.1, 20, 90).astype(np.int32),
        "grey_variance": np.where(generator.random(count) < 0.1, 0.5, 900).astype(np.float32),
        "clip_cosine": generator.random(count).astype(np.float32),
        "vectors": generator.normal(size=(count, 8)).astype(np.float16),
        "failure": [None if good else "timeout" for good in generator.random(count) < 0.95],
    }


def brute_force(rows: dict[str, Any], rule: DropCopies) -> list[tuple[float, str | None] | None]:
    method = rule.method
    name = "phash" if method == "phash" else "pdq_hash"
    codes = np.array([np.frombuffer(bytes.fromhex(code), np.uint8) for code in rows[name]])
    flips = np.array([np.frombuffer(bytes.fromhex(flip), np.uint8) for flip in rows[f"{method}_flips"]])
    flips = flips.reshape(len(codes), 8, -1)
    enough = rows["pdq_quality"] >= 50 if method == "pdq" else rows["grey_variance"] >= 4
    enough &= np.unpackbits(codes, axis=1).sum(axis=1) >= copies.LEAST_BITS_SET[method]
    score = -rows["clip_cosine"] if rule.by else np.zeros(len(codes))
    order = sorted(range(len(codes)), key=lambda at: (score[at], rows["uid"][at]))
    alive = [rows["failure"][at] is None for at in range(len(codes))]
    found: list[tuple[float, str | None] | None] = [(np.inf, None) if one else None for one in alive]
    first: dict[bytes, int] = {}
    for place, at in enumerate(order):
        if not (alive[at] and enough[at]):
            continue
        first.setdefault(codes[at].tobytes(), at)
        best = (np.inf, None)
        for other in order[:place]:
            if not (alive[other] and enough[other]):
                continue
            apart = int(np.unpackbits(codes[at] ^ codes[other]).sum())
            heads = first[codes[at].tobytes()] == at and first[codes[other].tobytes()] == other
            if rule.flips and heads:
                mirrored = np.unpackbits(
                    np.concatenate([flips[at] ^ codes[other], flips[other] ^ codes[at]]), axis=1
                )
                apart = min(apart, int(mirrored.sum(axis=1).min()))
            if apart <= rule.radius and apart < best[0]:
                best = (float(apart), rows["uid"][other])
        found[at] = best
    return found


@pytest.mark.parametrize("method", ["pdq", "phash"])
@pytest.mark.parametrize("more", [{}, {"flips": True}, {"by": "clip_cosine"}])
def test_the_nearest_earlier_copy_as_by_brute_force(
    tmp_path: Path, method: Any, more: dict[str, Any]
) -> None:
    rows = pool(160, method, seed=len(more))
    rule = DropCopies(method=method, **more)
    expected = brute_force(rows, rule)
    assert sum(answer is not None and answer[1] is not None for answer in expected) > 50
    for name, pieces in {"one": [range(160)], "three": [range(90, 160), range(0), range(90)]}.items():
        found = compared(tmp_path / name, rule, cut(rows, pieces), workers=len(pieces))
        for piece, written in zip(pieces, found, strict=True):
            for at, distance, original, kind in zip(
                piece, written["distance"], written["duplicate_of"], written["duplicate_kind"], strict=True
            ):
                assert (None if distance is None else (distance, original)) == expected[at]
                assert kind == (None if distance is None else "copy" if original else "none")


def test_inside_clusters_the_search_finds_copies_of_the_same_picture(tmp_path: Path) -> None:
    rows = pool(120, "pdq", seed=3)
    for at in range(1, 120, 2):
        rows["pdq_hash"][at], rows["vectors"][at] = rows["pdq_hash"][at - 1], rows["vectors"][at - 1]
    everywhere = compared(tmp_path / "all", DropCopies(), [rows])[0]
    rule = DropCopies(within="clip_image", clusters=6, probe=1)
    inside = compared(tmp_path / "inside", rule, cut(rows, [range(60), range(60, 120)]), workers=2)
    distances = [*inside[0]["distance"], *inside[1]["distance"]]
    assert any(one != other for one, other in zip(everywhere["distance"], distances, strict=True))
    for one, other in zip(everywhere["distance"], distances, strict=True):
        assert (one is None) == (other is None)
        assert one is None or other >= one
    for at in range(0, 120, 2):
        comparable = rows["failure"][at] is rows["failure"][at + 1] is None
        if comparable and (rows["pdq_quality"][at : at + 2] >= 50).all():
            assert 0 in distances[at : at + 2]


def test_a_search_that_would_be_quadratic_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "MOST_COMPARISONS", 10)
    monkeypatch.setattr(copies, "COUNTED_FROM", 0)
    with pytest.raises(RecipeError, match="set `within` to an embedding"):
        compared(tmp_path, DropCopies(), [pool(200, "pdq")])


def test_a_row_without_a_hash_is_not_compared(tmp_path: Path) -> None:
    rows = pool(20, "pdq", seed=5)
    rows["failure"] = [None] * 20
    rows["pdq_hash"][4] = None
    found = compared(tmp_path, DropCopies(), [rows])[0]
    assert found["distance"][4] is None
    assert None not in found["distance"][:4]


def test_copies_of_one_icon_cost_nothing_and_name_the_first(tmp_path: Path) -> None:
    rows = pool(300, "pdq", seed=6)
    rows["pdq_hash"] = [rows["pdq_hash"][0]] * 300
    rows["pdq_quality"][:] = 100
    rows["failure"] = [None] * 300
    found = compared(tmp_path, DropCopies(flips=True), [rows])[0]
    first = min(rows["uid"])
    assert set(found["duplicate_of"]) == {None, first}
    assert found["distance"].count(0) == 299


def pictures(count: int, seed: int = 0) -> dict[str, Any]:
    """Drawn pictures, each third one a brighter, each fourth a mirrored copy of an earlier one."""
    generator = np.random.default_rng(seed)
    down, across = np.mgrid[:64, :64]
    drawn = []
    for _ in range(count):
        picture = np.full((64, 64, 3), generator.integers(40, 200, 3), np.float64)
        for _ in range(6):
            middle, size = generator.uniform(8, 56, 2), generator.uniform(5, 14)
            inside = (down - middle[0]) ** 2 + (
                (across - middle[1]) * generator.uniform(0.5, 1.5)
            ) ** 2 < size**2
            picture[inside] = generator.integers(0, 256, 3)
        drawn.append(picture)
    for at in range(3, count, 3):
        drawn[at] = np.clip(drawn[at - 3] * 0.9 + 20, 0, 255)
    for at in range(4, count, 4):
        drawn[at] = drawn[at - 4][:, ::-1]
    pixels = np.array(drawn).reshape(count, 32, 2, 32, 2, 3).mean(axis=(2, 4)).astype(np.uint8)
    small = pixels.reshape(count, 4, 8, 4, 8, 3).mean(axis=(2, 4, 5)).reshape(count, 16)
    return {
        "uid": format_uids(generator.integers(0, 2**64, (count, 2), dtype=np.uint64)),
        "thumbnail": pa.array([picture.tobytes() for picture in pixels], pa.binary(3 * 32 * 32)),
        "pixels_hash": [f"{hash(picture.tobytes()) & (2**64 - 1):032x}" for picture in pixels],
        "vectors": small.astype(np.float16),
        "failure": [None] * count,
    }


def test_verified_copies_are_found_by_their_pixels_whatever_the_partition(tmp_path: Path) -> None:
    rows = pictures(60)
    rows["thumbnail"] = rows["thumbnail"].take(pa.array([*range(59), 58]))
    rows["pixels_hash"][59] = rows["pixels_hash"][58]
    rows["vectors"][59] = rows["vectors"][58]
    rule = DropCopies(method="verified", within="clip_image", clusters=1, neighbours=59)
    one = compared(tmp_path / "one", rule, [rows])[0]
    by_kind = {kind: one["duplicate_kind"].count(kind) for kind in set(one["duplicate_kind"])}
    assert by_kind["exact"] >= 1
    assert by_kind["edited"] >= 20
    planted = sum(at % 3 == 0 or at % 4 == 0 for at in range(3, 60))
    assert 0.8 * planted <= 60 - by_kind["none"] <= planted + 3
    assert all(
        (kind == "none") == (near is None)
        for kind, near in zip(one["duplicate_kind"], one["duplicate_of"], strict=True)
    )
    parts = compared(
        tmp_path / "three", rule, cut(rows, [range(40, 60), range(25), range(25, 40)]), workers=3
    )
    order = [*range(40, 60), *range(25), *range(25, 40)]
    for name, values in one.items():
        joined = [value for part in parts for value in part[name]]
        assert joined == [values[at] for at in order]


def test_neighbours_are_pairs_of_which_one_has_the_other_among_its_nearest() -> None:
    vectors = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float16)
    unit = vectors / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    products = unit @ unit.T
    np.fill_diagonal(products, -2)
    near = np.argsort(-products, axis=1)[:, :3]
    expected = sorted(
        {(min(one, int(other)), max(one, int(other))) for one in range(40) for other in near[one]}
    )
    earlier, later = copies.neighbour_pairs(vectors, 3)
    assert list(zip(earlier.tolist(), later.tolist(), strict=True)) == expected
    assert [len(found) for found in copies.neighbour_pairs(vectors[:1], 3)] == [0, 0]


@pytest.mark.parametrize("method", ["pdq", "phash", "verified"])
@pytest.mark.parametrize("known", [0, 1, 90, 119])
def test_what_was_kept_in_earlier_batches_comes_first(tmp_path: Path, method: Any, known: int) -> None:
    rows = pictures(120) if method == "verified" else pool(120, method, seed=7)
    # As in one go where earlier rows have the greater signal.
    rows["clip_cosine"] = np.where(np.arange(120) < known, 0.9, 0.1).astype(np.float32)
    inside = {"within": "clip_image", "clusters": 1, "neighbours": 119} if method == "verified" else {}
    rule = DropCopies(method=method, by="clip_cosine", **inside)
    whole = compared(tmp_path / "whole", rule, [rows])[0]
    found = after_others(tmp_path / "later", rule, rows, range(known), range(known, 120))
    assert len(found["distance"]) == 120 - known
    for name, values in found.items():
        assert values == whole[name][known:], name
    if 1 < known < 119:
        earlier = set(rows["uid"][:known])
        assert sum(original in earlier for original in found["duplicate_of"]) > 5


def test_a_new_picture_is_compared_with_what_was_kept_by_its_own_flips(tmp_path: Path) -> None:
    rows = pool(20, "pdq", seed=8)
    rows["failure"], rows["pdq_quality"] = [None] * 20, np.full(20, 90, np.int32)
    bits = np.random.default_rng(8).random((20, 9, 256)) < 0.5
    codes = np.packbits(bits[:, 0], axis=1)
    flips = np.packbits(bits[:, 1:], axis=2)
    flips[:, 0] = codes
    flips[15, 3], flips[4, 5] = codes[3], codes[16]
    rows["pdq_hash"] = [code.tobytes().hex() for code in codes]
    rows["pdq_flips"] = [flip.tobytes().hex() for flip in flips]
    found = after_others(tmp_path, DropCopies(flips=True), rows, range(10), range(10, 20))
    assert found["duplicate_of"] == [None] * 5 + [rows["uid"][3]] + [None] * 4
    assert found["distance"][5] == 0


def test_inside_clusters_only_what_was_kept_in_them_is_looked_at(tmp_path: Path) -> None:
    rows = pool(40, "pdq", seed=9)
    rows["failure"], rows["pdq_quality"] = [None] * 40, np.full(40, 90, np.int32)
    rows["pdq_hash"] = [rows["pdq_hash"][at % 20] for at in range(40)]
    rows["vectors"] = np.eye(8, dtype=np.float16)[[at % 3 for at in range(20)] * 2]
    rows["vectors"][20] = np.eye(8)[1]  # the copy of row 0, in another cluster
    rule = DropCopies(within="clip_image", clusters=3, probe=1, at_most_bits=0)
    found = after_others(tmp_path, rule, rows, range(20), range(20, 40))
    assert found["distance"][0] == np.inf
    assert all(distance == 0 for distance in found["distance"][1:])
