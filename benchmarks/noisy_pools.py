"""Embedded pairs of which some are wrong, and which: human labels, and swaps in the demo's world."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xxhash
from numpy.typing import NDArray
from PIL import Image, ImageOps

from benchmarks.photographs import CACHE
from curate.demo.captions import COLOURS, KINDS, PLURALS, Facts, Thing, describe
from curate.demo.train import MODEL_FOLDER
from curate.demo.world import draw_scene
from filters.core.prototypes import text_prototypes
from transforms.clustering import Floats, unit_rows
from transforms.decode import decode_image
from transforms.encoders import LOCAL_DIR, ClipEncoder, load_encoder, weights_identity
from transforms.pool import PoolOptions, RawSample
from transforms.pools.webdataset import read_tar

SWAP_SEED = 20_004  # not the seed of the model's training scenes, nor of its figures
_BATCH = 250

Swap = Literal["random", "hard"]


@dataclass(frozen=True, eq=False)
class NoisyPool:
    """Embedded pairs, the classes that captions name, and which pairs are wrong.

    Attributes:
        image, mirrored, text: (n, d) float16; mirrored: of the pictures' mirror images.
        labels: (n,) int64, the class that the caption names.
        prompts: (K, d) float64 unit rows: what the model makes of each class's name.
        true_labels, wrong: (n,) int64 and bool, which no detector sees: the class that the picture
            shows, and whether the caption is wrong.
        scale: the model's own factor of cosines, 1 / temperature.
    """

    image: NDArray[np.float16]
    mirrored: NDArray[np.float16]
    text: NDArray[np.float16]
    labels: NDArray[np.int64]
    true_labels: NDArray[np.int64]
    prompts: NDArray[np.float64]
    wrong: NDArray[np.bool_]
    scale: float

    @cached_property
    def uids(self) -> NDArray[np.uint64]:
        """(n, 2): the place in the pool."""
        return np.stack([np.zeros(len(self.text)), np.arange(len(self.text))], axis=1).astype(np.uint64)

    @property
    def classes(self) -> int:
        return len(self.prompts)

    @cached_property
    def distances(self) -> Floats:
        """(n,) 1 - the cosine of picture and caption."""
        cosines = np.einsum("nd,nd->n", unit_rows(self.image)[0], unit_rows(self.text)[0])
        found: Floats = np.float32(1) - cosines
        return found


# --- labels that people gave


def human_pool(data: Path, model: Path) -> NoisyPool:
    """The pairs of shards whose captions are one for each class; embedded once, then cached."""
    tars = sorted((data / "shards").glob("*.tar"))
    name = f"{LOCAL_DIR}{model}"
    about = [weights_identity(name, None), *(f"{path.resolve()} {path.stat().st_size}" for path in tars)]
    stored = _cached(about, lambda: _embedded(list(_pairs(tars)), name))
    with (data / "truth.csv").open(newline="", encoding="utf-8") as stream:
        truth = {row["key"]: row for row in csv.DictReader(stream)}
    _, first, labels = np.unique(stored["captions"], return_index=True, return_inverse=True)
    rows = [truth[key] for key in stored["keys"].tolist()]
    place_of = {row["caption_class"]: label for row, label in zip(rows, labels.tolist(), strict=True)}
    return NoisyPool(
        **_sides(stored),
        labels=labels.astype(np.int64),
        true_labels=np.array([place_of[row["true_class"]] for row in rows]),
        prompts=text_prototypes(stored["text"][first]),
        wrong=np.array([row["is_wrong"] == "1" for row in rows]),
    )


def _pairs(tars: Sequence[Path]) -> Iterator[tuple[str, Image.Image, str]]:
    options = PoolOptions()
    for path in tars:
        with path.open("rb") as stream:
            for raw in read_tar(stream, options):
                if isinstance(raw, RawSample) and raw.caption is not None:
                    rgb = decode_image(raw.image, raw.image_name, options).rgb
                    yield raw.key, rgb, raw.caption.decode()


# --- captions swapped in the demo's world


def demo_pairs(count: int, model: Path = MODEL_FOLDER) -> tuple[NoisyPool, list[Facts]]:
    """So many scenes with their own captions, and what each of them shows; none is wrong yet."""
    name = f"{LOCAL_DIR}{model}"
    about = [weights_identity(name, None), f"demo {SWAP_SEED} {count}"]
    scenes = [draw_scene(SWAP_SEED, index) for index in range(count)]
    pairs = [(str(index), scene.image, scene.caption) for index, scene in enumerate(scenes)]
    stored = _cached(about, lambda: _embedded(pairs, name))
    labels = np.array([class_named(scene.caption) for scene in scenes])
    pool = NoisyPool(
        **_sides(stored),
        labels=labels,
        true_labels=labels,
        prompts=_class_prompts(load_encoder(name, None, "cpu", "fp32")),
        wrong=np.zeros(count, dtype=np.bool_),
    )
    return pool, [scene.facts for scene in scenes]


def swapped(pool: NoisyPool, facts: Sequence[Facts], swap: Swap, rate: float) -> NoisyPool:
    """The pool with the captions of so many pairs exchanged, two by two: each caption stands once.

    random: with any other pair's; hard: with one whose main object is of the same kind. Either way
    both captions then state an object that the picture does not show in that colour.

    Raises: ValueError where the pool is too small for so many swaps.
    """
    wanted = round(rate * len(facts) / 2)
    order = np.random.default_rng([SWAP_SEED, wanted]).permutation(len(facts)).tolist()
    partner = np.arange(len(facts))
    waiting: dict[str, list[int]] = {}
    found = 0
    for row in order:
        if found == wanted:
            break
        group = waiting.setdefault(facts[row].things[0].kind if swap == "hard" else "", [])
        other = next((each for each in group if _both_wrong(facts[row], facts[each])), None)
        if other is None:
            group.append(row)
            continue
        group.remove(other)
        partner[row], partner[other] = other, row
        found += 1
    if found < wanted:
        msg = f"{len(facts)} pairs allow {found} {swap} swaps, fewer than {wanted}"
        raise ValueError(msg)
    wrong = partner != np.arange(len(facts))
    return replace(pool, text=pool.text[partner], labels=pool.labels[partner], wrong=wrong)


def class_named(caption: str) -> int:
    """Which of the world's kinds the caption names first; -1 where it names none."""
    words = caption.replace(",", "").split()
    named = (_CLASS_OF[word] for word in words if word in _CLASS_OF)
    return next(named, -1)


_CLASS_OF = {word: place for place, kind in enumerate(KINDS) for word in (kind, PLURALS[kind])}


def _both_wrong(one: Facts, other: Facts) -> bool:
    """True where each shows an object, of its colour, that the other does not."""
    ours, theirs = ({(thing.kind, thing.colour) for thing in facts.things} for facts in (one, other))
    return bool(ours - theirs) and bool(theirs - ours)


def _class_prompts(encoder: ClipEncoder) -> NDArray[np.float64]:
    """(K, d): each kind's "a photo of a red ball" in every colour, as this model's captions name it."""
    worded = [
        [describe(Facts("single", (Thing(kind, colour),), 1, "sky"), 0) for kind in KINDS]
        for colour in COLOURS
    ]
    blank = Image.new("RGB", (64, 64))
    return text_prototypes(
        np.stack([encoder.encode([encoder.prepare(blank, text) for text in texts])[2] for texts in worded])
    )


# --- embedding


def _sides(stored: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    return {**{side: stored[side] for side in ("image", "mirrored", "text")}, "scale": float(stored["scale"])}


def _cached(about: Sequence[str], make: Callable[[], dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """What was made before under this description, or is made now."""
    path = CACHE / f"noise-{xxhash.xxh3_64_hexdigest(chr(10).join(about).encode())}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".tmp.npz")
        np.savez(unfinished, **make())  # type: ignore[arg-type]  # numpy's stub takes arrays for its flag
        unfinished.replace(path)
    with np.load(path) as found:
        return dict(found)


def _embedded(pairs: Sequence[tuple[str, Image.Image, str]], name: str) -> dict[str, NDArray[Any]]:
    """Pictures, their mirror images and captions; pairs: key, picture, caption."""
    encoder = load_encoder(name, None, "cpu", "fp32")
    found: dict[str, list[NDArray[np.float16]]] = {"image": [], "mirrored": [], "text": []}
    for start in range(0, len(pairs), _BATCH):
        print(f"  embedding {start} of {len(pairs)}", end="\r", flush=True)
        some = pairs[start : start + _BATCH]
        _, image, text = encoder.encode([encoder.prepare(rgb, caption) for _, rgb, caption in some])
        turned = [encoder.prepare(ImageOps.mirror(rgb), caption) for _, rgb, caption in some]
        for side, rows in zip(found, (image, encoder.encode(turned)[1], text), strict=True):
            found[side].append(rows)
    return {
        **{side: np.concatenate(rows) for side, rows in found.items()},
        "keys": np.array([key for key, _, _ in pairs]),
        "captions": np.array([caption for _, _, caption in pairs]),
        "scale": np.array(encoder.model.logit_scale.exp().item()),
    }
