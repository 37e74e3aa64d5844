"""Near duplicates that people judged: what hashes, an embedding and verification find, and propose in vain.

`python -m benchmarks.near_duplicates --data DATA --model CHECKPOINT --montage FOLDER` prints the
table and writes the verified pairs side by side for people to look at. DATA holds `shards/*.tar`
and `truth.csv` with key_a, key_b, judgment. People compared one set of pictures with another, so
pairs inside a set are not listed, however alike: precision has to be looked at.

Looked at were all 113 unlisted pairs that verification proposed among 3 280 photographs of 32 x 32
pixels (cosine neighbours of a small CLIP, 50 each; score 0.80). 95 are the same shot, cut,
stretched, mirrored or recoloured. 12 may be: the same car, airliner or bird, perhaps in another
shot. 6 are not: airliners of one type in other liveries, and two bombers. Of the 121 listed pairs
that were proposed people called 113 near duplicates and 8 very similar. So 89 % of the 234 pairs
are right where every doubt counts as wrong, 94 % where only the 12 doubtful ones count as right,
97 % where the 8 very similar ones do, too.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from transforms.decode import Picture, decode_image
from transforms.encoders import LOCAL_DIR, load_encoder
from transforms.measure import SampleMeasure, find_measure
from transforms.measures.perceptual_hashes import codes_of
from transforms.measures.thumbnail import thumbnail_pixels
from transforms.pool import PoolOptions, RawSample
from transforms.pools.webdataset import read_tar
from transforms.verification import COPY_SCORE, SIMILAR_SCORE, Verified, verify_pairs

NEIGHBOURS = 50
COSINES = (0.90, 0.95, 0.97, 0.98, 0.99)
# Pictures with less to see have no usable hash.
PDQ_QUALITY, PHASH_VARIANCE = 50, 4.0
_BATCH = 256

Pairs = NDArray[np.int64]


@dataclass(frozen=True)
class JudgedPool:
    """Pictures and the pairs that people listed.

    Attributes:
        listed: (m, 2) int64 positions of pictures, the smaller first.
        near: (m,) bool: judged "near-duplicate", not just "very similar".
        model: folder of the CLIP checkpoint.
        pace: pairs verified in a second of processor time, for each time that was done.
    """

    pictures: Sequence[Picture]
    listed: Pairs
    near: NDArray[np.bool_]
    model: Path
    pace: list[float] = field(default_factory=list)
    _verified: dict[int, tuple[Pairs, Verified]] = field(default_factory=dict)

    @cached_property
    def cosines(self) -> NDArray[np.float32]:
        """(n, n) float32 cosines of the CLIP embeddings; -2 of a picture with itself."""
        encoder = load_encoder(f"{LOCAL_DIR}{self.model}", None, "cpu", "fp32")
        prepared = [encoder.prepare(picture.rgb, "") for picture in self.pictures]
        found = [encoder.encode(prepared[at : at + _BATCH])[1] for at in range(0, len(prepared), _BATCH)]
        rows = np.concatenate(found).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        cosines = rows @ rows.T
        np.fill_diagonal(cosines, -2)
        return cosines

    def measured(self, kind: str) -> dict[str, Any]:
        """Column -> values of a measure of the pictures."""
        options = find_measure(kind)()
        assert isinstance(options, SampleMeasure)  # noqa: S101  (for the type checker)
        meter = options.meter(kind)
        values = meter.measure([meter.prepare(picture, "") for picture in self.pictures]).columns
        return {column.name: pa.array(values[column.name], column.type) for column in options.columns(kind)}

    @cached_property
    def thumbnails(self) -> NDArray[np.uint8]:
        """(n, 32, 32, 3) uint8."""
        return thumbnail_pixels(self.measured("thumbnail")["thumbnail"])

    @cached_property
    def hashes(self) -> dict[str, Any]:
        """The columns of perceptual_hashes."""
        return self.measured("perceptual_hashes")

    def verified(self, neighbours: int) -> tuple[Pairs, Verified]:
        """Each picture with its nearest neighbours by cosine, and how well the two agree."""
        if neighbours not in self._verified:
            nearest = np.argpartition(-self.cosines, neighbours, axis=1)[:, :neighbours]
            rows = np.repeat(np.arange(len(nearest)), neighbours)
            pairs = np.unique(np.sort(np.stack([rows, nearest.ravel()], axis=1), axis=1), axis=0)
            left, right = self.thumbnails[pairs[:, 0]], self.thumbnails[pairs[:, 1]]
            started = time.process_time()
            found = verify_pairs(left, right)
            self.pace.append(len(pairs) / (time.process_time() - started))
            self._verified[neighbours] = pairs, found
        return self._verified[neighbours]


def read_pool(data: Path, model: Path) -> JudgedPool:
    """The pictures of the shards that can be decoded, and the judgements on them."""
    found = dict(_pictures(sorted((data / "shards").glob("*.tar"))))
    position = {key: at for at, key in enumerate(found)}
    with (data / "truth.csv").open(newline="", encoding="utf-8") as stream:
        judged = list(csv.DictReader(stream))
    listed = np.sort([[position[row["key_a"]], position[row["key_b"]]] for row in judged], axis=1)
    near = np.array([row["judgment"] == "near-duplicate" for row in judged])
    return JudgedPool(list(found.values()), listed, near, model)


def _pictures(tars: Sequence[Path]) -> Iterator[tuple[str, Picture]]:
    options = PoolOptions()
    for path in tars:
        with path.open("rb") as stream:
            for raw in read_tar(stream, options):
                if isinstance(raw, RawSample):
                    yield raw.key, decode_image(raw.image, raw.image_name, options)


# --- methods: each proposes (p, 2) pairs, the smaller position first


@dataclass(frozen=True)
class Method:
    """One row of the table."""

    name: str
    propose: Callable[[JudgedPool], Pairs]


def equal_pixels(pool: JudgedPool) -> Pairs:
    hashes = np.array(pool.measured("content_hashes")["pixels_hash"].to_pylist())
    return _true_pairs(hashes[:, None] == hashes)


def cosine_at_least(bound: float, pool: JudgedPool) -> Pairs:
    return _true_pairs(pool.cosines >= bound)


def verified_at_least(bound: float, neighbours: int, pool: JudgedPool) -> Pairs:
    pairs, found = pool.verified(neighbours)
    return pairs[found.score >= bound]


def pdq_within(radius: int, pool: JudgedPool) -> Pairs:
    usable = pool.hashes["pdq_quality"].to_numpy() >= PDQ_QUALITY
    near = _distances(pool.hashes["pdq_hash"], pool.hashes["pdq_flips"], 32) <= radius
    return _true_pairs(near & usable & usable[:, None])


def phash_within(radius: int, pool: JudgedPool) -> Pairs:
    usable = pool.hashes["grey_variance"].to_numpy() >= PHASH_VARIANCE
    near = _distances(pool.hashes["phash"], pool.hashes["phash_flips"], 8) <= radius
    return _true_pairs(near & usable & usable[:, None])


def _distances(hashes: pa.Array, flips: pa.Array, width: int) -> NDArray[np.float32]:
    """(n, n) bits that differ, the least over one picture's eight flips and turns; width in bytes."""
    signs = _signs(codes_of(hashes, width))
    turned = _signs(codes_of(flips, 8 * width).reshape(-1, width)).reshape(-1, 8, 8 * width)
    agreeing = np.max([signs @ turned[:, turn].T for turn in range(8)], axis=0)
    distances: NDArray[np.float32] = (8 * width - agreeing) / 2
    return np.minimum(distances, distances.T)


def _signs(codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(n, width) bytes -> (n, 8 * width) float32: 1 and -1."""
    return np.unpackbits(codes, axis=1).astype(np.float32) * 2 - 1


def _true_pairs(matrix: NDArray[np.bool_]) -> Pairs:
    return np.argwhere(np.triu(matrix, 1))


METHODS = (
    Method("pixels equal", equal_pixels),
    *(Method(f"PDQ <= {radius}, with flips", partial(pdq_within, radius)) for radius in (31, 40, 60)),
    *(Method(f"pHash <= {radius}, with flips", partial(phash_within, radius)) for radius in (4, 10)),
    *(Method(f"CLIP cosine >= {bound:.2f}", partial(cosine_at_least, bound)) for bound in COSINES),
    *(
        Method(f"verified >= {bound:.2f} of {count} neighbours", partial(verified_at_least, bound, count))
        for count, bound in (
            *((count, COPY_SCORE) for count in (10, 20, 30, NEIGHBOURS)),
            *((NEIGHBOURS, bound) for bound in (0.85, 0.75, SIMILAR_SCORE)),
        )
    ),
)


# --- what came of it


def is_listed(pairs: Pairs, pool: JudgedPool) -> NDArray[np.bool_]:
    """(p,) bool: people listed the pair."""
    count = len(pool.pictures)
    return np.isin(pairs @ [count, 1], pool.listed @ [count, 1])


def recall(pairs: Pairs, pool: JudgedPool) -> tuple[float, float]:
    """The share of listed pairs that are proposed: of those called near duplicates, and of all."""
    count = len(pool.pictures)
    found = np.isin(pool.listed @ [count, 1], pairs @ [count, 1])
    return float(found[pool.near].mean()), float(found.mean())


def table(pool: JudgedPool) -> str:
    """What each method finds, in Markdown."""
    lines = [
        "| method | recall, near duplicates | recall, all listed | pairs proposed | of them listed |",
        "|---|---|---|---|---|",
    ]
    for method in METHODS:
        pairs = method.propose(pool)
        near, everything = recall(pairs, pool)
        listed = int(is_listed(pairs, pool).sum())
        lines.append(f"| {method.name} | {near:.3f} | {everything:.3f} | {len(pairs):,} | {listed} |")
    return "\n".join(lines)


def write_montages(pool: JudgedPool, folder: Path, *, zoom: int = 3, columns: int = 8) -> None:
    """Pairs side by side with their scores, best first: proposed but not listed; listed but missed."""
    pairs, found = pool.verified(NEIGHBOURS)
    listed, copies = is_listed(pairs, pool), found.score >= COPY_SCORE
    folder.mkdir(parents=True, exist_ok=True)
    for name, chosen in (("unlisted", copies & ~listed), ("missed", listed & ~copies)):
        rows = np.flatnonzero(chosen)
        rows = rows[np.argsort(-found.score[rows], kind="stable")]
        _montage(pool, pairs[rows], found.score[rows], zoom, columns).save(folder / f"{name}.png")


def _montage(
    pool: JudgedPool, pairs: Pairs, scores: NDArray[np.float32], zoom: int, columns: int
) -> Image.Image:
    side = 32 * zoom
    wide, high = 2 * side + 10, side + 16
    sheet = Image.new("RGB", (columns * wide, max(1, -(-len(pairs) // columns)) * high), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (pair, score) in enumerate(zip(pairs.tolist(), scores.tolist(), strict=True)):
        left, top = number % columns * wide, number // columns * high
        draw.text((left, top), f"{number}: {score:.2f}", fill="black")
        for at, picture in enumerate(pair):
            shown = Image.fromarray(pool.thumbnails[picture]).resize((side, side), Image.Resampling.BICUBIC)
            sheet.paste(shown, (left + at * (side + 2), top + 13))
    return sheet


def main() -> None:
    """Prints the table; writes the montages where the command line asks for them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.near_duplicates", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with shards/ and truth.csv")
    parser.add_argument("--model", type=Path, required=True, help="folder of a local open_clip checkpoint")
    parser.add_argument("--montage", type=Path, help="folder for pictures of the pairs to look at")
    options = parser.parse_args()
    pool = read_pool(options.data, options.model)
    print(table(pool))
    print(f"\nverified: {min(pool.pace):,.0f} to {max(pool.pace):,.0f} pairs per second of processor time")
    if options.montage is not None:
        write_montages(pool, options.montage)


if __name__ == "__main__":
    main()
