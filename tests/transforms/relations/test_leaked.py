"""What an evaluation set has in common with a pool: by PDQ hash and by embedding, as by brute force."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageOps

from filters.core.errors import PoolError, RecipeError
from filters.core.uids import format_uids
from filters.drop_leaked import DropLeaked
from tests.pools import metadata_shard, photo, write_tar
from tests.relating import compared, relate, scope_of
from transforms.clustering import unit_rows
from transforms.hamming import hamming
from transforms.measures.perceptual_hashes import pdq_hashes
from transforms.relations.leaked import Leaked, telling

WIDTH = 16


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content)).convert("RGB")


def encoded(picture: Image.Image, form: str = "PNG", **how: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, form, **how)
    return stream.getvalue()


def scene(seed: int) -> Image.Image:
    """A picture with as much fine structure as a photograph."""
    generator = np.random.default_rng(seed)
    layers = [
        Image.fromarray(generator.integers(0, 256, (side, side, 3), dtype=np.uint8)).resize((512, 512), 3)
        for side in (5, 11, 23)
    ]
    return Image.blend(Image.blend(layers[0], layers[1], 0.4), layers[2], 0.3)


def flat() -> bytes:
    return encoded(Image.new("RGB", (64, 64), (90, 120, 30)))


def pool_of(pictures: Sequence[bytes], *, failure: Sequence[str | None] | None = None) -> dict[str, Any]:
    """The columns that a pool of these pictures has."""
    hashed = [pdq_hashes(opened(picture)) for picture in pictures]
    words = np.random.default_rng(0).integers(0, 2**64, (len(pictures), 2), dtype=np.uint64)
    return {
        "uid": format_uids(words),
        "pdq_hash": [hashes[0].tobytes().hex() for hashes, _ in hashed],
        "pdq_quality": [quality for _, quality in hashed],
        "failure": list(failure) if failure else [None] * len(pictures),
    }


def against(path: str | Path | list[str], **more: Any) -> DropLeaked:
    named = path if isinstance(path, list) else str(path)
    return DropLeaked.model_validate({"against": named, "set_name": "the test set", **more})


def reference(folder: Path, pictures: Sequence[bytes], *, start: int = 0, name: str = "0.tar") -> Path:
    """A tar as evaluation sets are: images and labels, no captions."""
    members = [
        (f"{start + at:04d}.{end}", content)
        for at, picture in enumerate(pictures)
        for end, content in (("png", picture), ("cls", b"7"))
    ]
    return write_tar(folder / name, members)


def picked(rows: dict[str, Any], places: Sequence[int]) -> dict[str, Any]:
    return {name: [values[at] for at in places] for name, values in rows.items()}


# --- hashes


def test_copies_resized_re_encoded_grey_and_flipped_are_found(tmp_path: Path) -> None:
    pictures = [encoded(scene(seed)) for seed in range(6)]
    first = scene(2)
    pool = [
        encoded(scene(50)),
        encoded(first.resize((200, 200))),
        encoded(first, "JPEG", quality=30),
        encoded(ImageOps.grayscale(first)),
        encoded(scene(3).transpose(Image.Transpose.ROTATE_180)),
        pictures[5],
    ]
    rule = against(reference(tmp_path / "set", pictures))
    scope, parts = scope_of(tmp_path / "store", rule, [pool_of(pool)])
    relate(scope, parts)
    found = scope.store.read_part(scope.group, "p0").to_pydict()
    assert found["leaked_item"] == [None, *["0.tar:0002"] * 3, "0.tar:0003", "0.tar:0005"]
    assert found["leaked_bits"][0] == 32
    assert found["leaked_bits"][5] == 0
    assert max(found["leaked_bits"][1:]) <= 31
    assert scope.folder.read_json("relations/r/summary.json") == {
        "set": "the test set",
        "method": "pdq",
        "threshold": 31,
        "items": 6,
        "unreadable": 0,
        "flat": 0,
        "unreadable_items": {},
        "compared": 6,
        "not_compared": 0,
        "leaked": 5,
        "leaked_items": 3,
        "most_leaked_items": {"0.tar:0002": 3, "0.tar:0003": 1, "0.tar:0005": 1},
    }


def random_reference(folder: Path, count: int) -> tuple[Path, list[np.ndarray[Any, Any]]]:
    pictures = [photo(seed, side=64) for seed in range(count)]
    return reference(folder, pictures), [pdq_hashes(opened(picture))[0] for picture in pictures]


def near(code: np.ndarray[Any, Any], bits: int, generator: np.random.Generator) -> str:
    """A hash that differs in so many bits."""
    unpacked = np.unpackbits(code)
    unpacked[generator.choice(256, bits, replace=False)] ^= 1
    return bytes(np.packbits(unpacked)).hex()


def test_the_nearest_hash_as_by_brute_force(tmp_path: Path) -> None:
    path, hashes = random_reference(tmp_path / "set", 20)
    generator = np.random.default_rng(3)
    codes = [near(hashes[at % 20][at % 8], at, generator) for at in range(64)]
    codes += [codes[5]] * 4  # equal hashes, of which only one is searched
    words = generator.integers(0, 2**64, (len(codes), 2), dtype=np.uint64)
    rows = {"uid": format_uids(words), "pdq_hash": codes, "pdq_quality": [80] * len(codes)}
    (found,) = compared(tmp_path / "store", against(path), [{**rows, "failure": [None] * len(codes)}])
    known = np.stack(hashes).reshape(-1, 32)
    for at, code in enumerate(codes):
        distance = hamming(known, np.frombuffer(bytes.fromhex(code), np.uint8))
        nearest = int(distance.argmin())
        assert found["leaked_bits"][at] == min(int(distance[nearest]), 32)
        item = f"0.tar:{nearest // 8:04d}" if distance[nearest] <= 31 else None
        assert found["leaked_item"][at] == item
    assert found["leaked_bits"][31:33] == [31, 32]


def test_hashes_do_not_depend_on_shards_lots_or_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = [photo(seed, side=64) for seed in range(8)]
    pool = pool_of([pictures[at] for at in (3, 1, 1, 7, 0, 2)] + [photo(40, side=64), flat()])
    (whole,) = compared(tmp_path / "whole", against(reference(tmp_path / "a", pictures)), [pool])
    folder = tmp_path / "b"
    reference(folder, pictures[:3], name="0.tar")
    reference(folder, pictures[3:], start=3, name="1.tar")
    monkeypatch.setattr("transforms.relations.leaked.LOT_ROWS", 2)
    places = [[6, 2, 0], [], [5, 7], [1, 3, 4]]
    rule = against(str(folder / "{0..1}.tar"))
    found = compared(tmp_path / "cut", rule, [picked(pool, some) for some in places], workers=2, seed=5)
    for name, values in whole.items():
        joined = [value for part in found for value in part[name]]
        order = [at for some in places for at in some]
        apart = [joined[order.index(at)] for at in range(8)]
        keys = [None if value is None else str(value).split(":")[-1] for value in (*apart, *values)]
        assert keys[:8] == keys[8:]


def test_flat_and_regular_pictures_are_not_compared_on_either_side(tmp_path: Path) -> None:
    stripes = encoded(Image.fromarray(np.tile(np.arange(64, dtype=np.uint8)[:, None] % 8 * 32, (1, 64))))
    pictures = [flat(), stripes, photo(1, side=64)]
    pool = pool_of([*pictures, photo(2, side=64)], failure=[None, None, None, "timeout"])
    scope, parts = scope_of(tmp_path / "store", against(reference(tmp_path / "set", pictures)), [pool])
    relate(scope, parts)
    found = scope.store.read_part(scope.group, "p0").to_pydict()
    assert found["leaked_bits"] == [None, None, 0, None]
    assert found["leaked_item"] == [None, None, "0.tar:0002", None]
    summary = scope.folder.read_json("relations/r/summary.json")
    assert (summary["items"], summary["flat"]) == (3, 2)
    assert (summary["compared"], summary["not_compared"]) == (1, 2)


def test_a_hash_tells_from_quality_50_and_56_bits_on() -> None:
    codes = np.zeros((3, 32), np.uint8)
    codes[0, :7] = codes[1, :7] = 255
    codes[2, :6], codes[2, 6] = 255, 127
    assert telling(codes, np.array([50, 49, 100])).tolist() == [True, False, False]


def test_unreadable_images_of_the_set_are_counted_and_named(tmp_path: Path) -> None:
    good = photo(1, side=64)  # a JPEG named .png, as ImageNet has the other way round: it is read
    path = reference(tmp_path / "set", [good, b"<html>", b"", good[:300]])
    scope, parts = scope_of(tmp_path / "store", against(path), [pool_of([good])])
    relate(scope, parts)
    summary = scope.folder.read_json("relations/r/summary.json")
    assert (summary["items"], summary["unreadable"]) == (4, 3)
    assert summary["unreadable_items"] == {
        "0.tar:0001": "not_an_image",
        "0.tar:0002": "zero_bytes",
        "0.tar:0003": "truncated_image",
    }
    assert scope.store.read_part(scope.group, "p0")["leaked_bits"].to_pylist() == [0]


@pytest.mark.parametrize(
    ("pictures", "said"),
    [
        ([b"<html>", b""], r"none of the 2 items .* can be compared \(not_an_image, zero_bytes\)"),
        ([flat()], r"none of the 1 items .* \(too flat to judge\)"),
        ([], "the test set: the evaluation set holds nothing"),
    ],
)
def test_a_set_that_nothing_can_be_compared_with_is_an_error(
    tmp_path: Path, pictures: list[bytes], said: str
) -> None:
    path = reference(tmp_path / "set", pictures)
    with pytest.raises(RecipeError, match=said):
        compared(tmp_path / "store", against(path), [pool_of([photo(1, side=64)])])


def test_a_set_that_is_cut_off_is_an_error(tmp_path: Path) -> None:
    path = reference(tmp_path / "set", [photo(seed, side=64) for seed in range(3)])
    path.write_bytes(path.read_bytes()[:-2500])
    with pytest.raises(RecipeError, match=r"0.tar can't be read to its end \(tar_truncated.*repair it"):
        compared(tmp_path / "store", against(path), [pool_of([photo(1, side=64)])])


def test_a_missing_set_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"none\.tar does not exist or is empty"):
        Leaked.check(against(tmp_path / "none.tar"))
    with pytest.raises(PoolError, match="no shard matches"):
        Leaked.check(against(tmp_path / "*.tar"))
    with pytest.raises(RecipeError, match="metadata without images"):
        Leaked.check(against(metadata_shard(tmp_path / "m.parquet", [{}])))


def test_a_set_in_parquet_is_read_too(tmp_path: Path) -> None:
    good = photo(1, side=64)
    table = pa.table({"image": pa.array([photo(5, side=64), good], pa.binary()), "label": [1, 2]})
    pq.write_table(table, tmp_path / "val.parquet")
    (found,) = compared(tmp_path / "store", against(tmp_path / "val.parquet"), [pool_of([good])])
    assert found == {"leaked_item": ["val.parquet:val_00000001"], "leaked_bits": [0]}


def test_a_set_is_hashed_once_for_all_comparisons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = reference(tmp_path / "set", [photo(1, side=64)])
    pool = pool_of([photo(1, side=64)])
    scope, parts = scope_of(tmp_path / "store", against(path), [pool])
    relate(scope, parts)
    monkeypatch.setattr("transforms.relations.leaked.hash_images", None)
    scope.folder.fs.rm(scope.folder.path("relations"), recursive=True)
    relate(scope, parts)
    assert scope.store.read_part(scope.group, "p0")["leaked_bits"].to_pylist() == [0]


def test_a_changed_set_is_another_comparison(tmp_path: Path) -> None:
    path = reference(tmp_path / "set", [photo(1, side=64)])
    before = Leaked.identity(against(path))
    assert before == Leaked.identity(against(tmp_path / "set"))
    reference(tmp_path / "set", [photo(2, side=64), photo(3, side=64)])
    assert Leaked.identity(against(path)) != before


# --- embeddings


def directions(count: int, seed: int) -> np.ndarray[Any, Any]:
    vectors = np.random.default_rng(seed).normal(size=(count, WIDTH)).astype(np.float32)
    return unit_rows(vectors)[0].astype(np.float16)


def embedded(vectors: Any, seed: int = 0) -> dict[str, Any]:
    words = np.random.default_rng(seed).integers(0, 2**64, (len(vectors), 2), dtype=np.uint64)
    return {"uid": format_uids(words), "vectors": vectors, "failure": [None] * len(vectors)}


def alike(path: str | Path | list[str], above: float = 0.9, **more: Any) -> DropLeaked:
    return against(path, method="embedding", cosine_above=above, **more)


def test_the_nearest_embedding_as_by_brute_force(tmp_path: Path) -> None:
    known, rows = directions(50, 1), directions(200, 2)
    rows[10], rows[11] = known[7], known[7] * np.float16(2)
    rows[12], rows[13, 3] = 0, np.nan
    np.save(tmp_path / "val.npy", known)
    scope, parts = scope_of(tmp_path / "store", alike(tmp_path / "val.npy", 0.7), [embedded(rows)])
    relate(scope, parts)
    found = scope.store.read_part(scope.group, "p0").to_pydict()
    unit, good = unit_rows(rows)
    cosine = unit @ unit_rows(known)[0].T
    for at in range(200):
        if not good[at]:
            assert (found["leaked_cosine"][at], found["leaked_item"][at]) == (None, None)
            continue
        assert found["leaked_cosine"][at] == pytest.approx(cosine[at].max(), abs=3e-6)
        assert found["leaked_item"][at] == f"val.npy:{cosine[at].argmax()}"
    assert found["leaked_cosine"][10:12] == [1.0, 1.0]
    summary = scope.folder.read_json("relations/r/summary.json")
    leaked = int((cosine[good].max(axis=1) > 0.7).sum())
    assert (summary["leaked"], summary["compared"], summary["not_compared"]) == (leaked, 198, 2)
    assert (summary["items"], summary["unreadable"], summary["threshold"]) == (50, 0, 0.7)
    assert sum(summary["most_leaked_items"].values()) == leaked


def test_embeddings_do_not_depend_on_shards_lots_pieces_or_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, pool = directions(30, 1), embedded(directions(90, 2))
    np.save(tmp_path / "a.npy", known)
    (whole,) = compared(tmp_path / "whole", alike(tmp_path / "a.npy"), [pool])
    monkeypatch.setattr("transforms.references.PIECE_ROWS", 4)
    np.savez(tmp_path / "b0.npz", known[:11])
    np.save(tmp_path / "b1.npy", known[11:])
    places = [range(50, 90), range(50, 50), range(1), range(1, 50)]
    parts = [picked(pool, some) for some in places]
    rule = alike([str(tmp_path / "b0.npz"), str(tmp_path / "b1.npy")])
    found = compared(tmp_path / "cut", rule, parts, workers=4, seed=2)
    order = [at for some in places for at in some]
    cosines = [value for part in found for value in part["leaked_cosine"]]
    assert [cosines[order.index(at)] for at in range(90)] == whole["leaked_cosine"]
    items = [value for part in found for value in part["leaked_item"]]
    for at in range(90):
        file, _, row = items[order.index(at)].partition(":")
        assert whole["leaked_item"][at] == f"a.npy:{int(row) + (11 if file == 'b1.npy' else 0)}"


def test_rows_of_the_set_without_a_direction_are_counted_and_named(tmp_path: Path) -> None:
    known = directions(5, 1).astype(np.float32)
    known[1], known[3, 0] = 0, np.nan
    np.save(tmp_path / "val.npy", known)
    scope, parts = scope_of(tmp_path / "store", alike(tmp_path / "val.npy"), [embedded(directions(5, 1))])
    relate(scope, parts)
    summary = scope.folder.read_json("relations/r/summary.json")
    assert summary["unreadable_items"] == {"val.npy:1": "zero or NaN", "val.npy:3": "zero or NaN"}
    found = scope.store.read_part(scope.group, "p0").to_pydict()
    assert [found["leaked_cosine"][at] for at in (0, 2, 4)] == [1.0] * 3
    assert found["leaked_item"][4] == "val.npy:4"


def test_nothing_with_a_positive_cosine_is_no_item(tmp_path: Path) -> None:
    rows = directions(1, 1)
    np.save(tmp_path / "val.npy", -rows)
    (found,) = compared(tmp_path / "store", alike(tmp_path / "val.npy", 0.0), [embedded(rows)])
    assert found == {"leaked_item": [None], "leaked_cosine": [0.0]}


def test_a_set_of_another_encoder_says_what_to_do(tmp_path: Path) -> None:
    np.save(tmp_path / "val.npy", np.ones((3, 8), np.float32))
    with pytest.raises(RecipeError, match=r"clip_image of p0 are 16 wide.*test set 8: make both with one"):
        compared(tmp_path / "store", alike(tmp_path / "val.npy"), [embedded(directions(4, 1))])


def test_an_empty_or_directionless_set_of_embeddings_is_an_error(tmp_path: Path) -> None:
    np.save(tmp_path / "none.npy", np.ones((0, WIDTH), np.float32))
    with pytest.raises(RecipeError, match="no embedding in"):
        Leaked.check(alike(tmp_path / "none.npy"))
    np.save(tmp_path / "zero.npy", np.zeros((2, WIDTH), np.float32))
    Leaked.check(alike(tmp_path / "zero.npy"))
    with pytest.raises(RecipeError, match=r"none of the 2 items .* \(zero or NaN\)"):
        compared(tmp_path / "store", alike(tmp_path / "zero.npy"), [embedded(directions(4, 1))])


def test_a_pool_without_survivors_is_compared(tmp_path: Path) -> None:
    np.save(tmp_path / "val.npy", directions(3, 1))
    dead = {**embedded(directions(4, 2)), "failure": ["timeout"] * 4}
    empty = picked(dead, [])
    found = compared(tmp_path / "store", alike(tmp_path / "val.npy"), [dead, empty])
    assert [part["leaked_cosine"] for part in found] == [[None] * 4, []]
    path = reference(tmp_path / "set", [photo(1, side=64)])
    pool = pool_of([photo(1, side=64)], failure=["timeout"])
    assert compared(tmp_path / "hashes", against(path), [pool])[0]["leaked_bits"] == [None]
