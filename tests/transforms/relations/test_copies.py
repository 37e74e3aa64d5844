"""Copies by perceptual hash: the nearest earlier picture within the radius, as by brute force."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from filters.core.errors import RecipeError
from filters.core.uids import format_uids
from filters.drop_copies import DropCopies
from tests.relating import compared
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


def cut(rows: dict[str, Any], pieces: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
    return [{name: [values[at] for at in piece] for name, values in rows.items()} for piece in pieces]


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
