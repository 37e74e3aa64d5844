"""The demonstration pool: WebDataset shards with planted defects, and the truth about every sample.

<folder>/shards/00000.tar, 00000_stats.json, …    the img2dataset layout
<folder>/truth.csv                                one line per sample: what was planted and what should happen
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import tarfile
from collections import Counter
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from curate.demo.defects import DEFECTS, Defect, Place, Relative, Sample, clean

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from curate.demo.defects import Expected

MAX_SAMPLES_PER_SHARD = 10_000  # a key holds four digits for the place in the shard
_FIRST_COPIES = 0.05  # this part of the pool has no copies, so that every copy finds an original before it
_DUPLICATE_KEY_GAP = 5  # a repeated key lies at least this many samples behind its first use
_CLEAN = Defect("a scene with its own caption", "keep", "", 0, clean)


@dataclass(frozen=True, slots=True)
class Planted:
    """The truth about one sample.

    Attributes:
        shard: the shard's file name.
        row: the sample's 0-based place in its shard in reading order; -1: cannot be read as a row.
        defect: a key of DEFECTS, or "clean".
        expected_code: the failure code or the filter that should catch it; empty for clean samples.
        original_key: for copies and repeated keys, the key of the earlier sample; else empty.
    """

    shard: str
    key: str
    row: int
    defect: str
    expected: Expected
    expected_code: str
    original_key: str


@dataclass(frozen=True, slots=True)
class _Plan:
    """Which defect each sample gets, and which earlier sample it refers to.

    Attributes:
        shard_of, row_of: one entry per sample.
        defects: sample number -> defect; samples not named are clean.
        originals: sample number -> number of the earlier clean sample.
    """

    shard_of: list[int]
    row_of: list[int]
    defects: dict[int, str]
    originals: dict[int, int]

    def key(self, index: int) -> str:
        """Return the nine digits that name the sample: shard, then place in it."""
        if index in self.originals and self.defects[index] == "duplicate_key":
            index = self.originals[index]
        return f"{self.shard_of[index]:05d}{self.row_of[index]:04d}"


def _counts(samples: int, chosen: Collection[str], times: float) -> dict[str, int]:
    """Return how many of each chosen defect to plant, so many times its usual share."""
    unknown = sorted(set(chosen) - set(DEFECTS))
    if unknown:
        message = f"unknown defects {unknown}; known are {sorted(DEFECTS)}"
        raise ValueError(message)
    counts = {
        name: 1 if defect.once else max(1, round(times * defect.per_1200 * samples / 1200))
        for name, defect in DEFECTS.items()
        if name in chosen
    }
    if sum(counts.values()) > 0.6 * samples:
        message = (
            f"{samples} samples are too few for {len(counts)} defects; ask for more samples or fewer defects"
        )
        raise ValueError(message)
    return counts


def _may_hold(needs: Relative, index: int, samples: int, row: int) -> bool:
    if needs == "same_shard":
        return row >= 2 * _DUPLICATE_KEY_GAP
    return needs == "none" or index >= max(3, _FIRST_COPIES * samples)


def _plan(samples: int, shards: int, seed: int, counts: Mapping[str, int]) -> _Plan:
    """Return the plan: defects at random places, originals at random among the earlier clean samples."""
    bounds = np.linspace(0, samples, shards + 1).round().astype(int).tolist()
    shard_of = [shard for shard in range(shards) for _ in range(bounds[shard], bounds[shard + 1])]
    row_of = [index - bounds[shard] for index, shard in enumerate(shard_of)]
    rng = np.random.default_rng([seed, 0xDEFEC7])
    plan = _Plan(shard_of, row_of, {}, {})
    free = [int(index) for index in rng.permutation(samples - 1)]
    if "truncated_tar" in counts:
        plan.defects[samples - 1] = "truncated_tar"
    # Defects that need a relative choose their places first: not every place can hold them.
    names = sorted(
        (name for name in counts if not DEFECTS[name].once), key=lambda name: DEFECTS[name].needs == "none"
    )
    for name in names:
        fits = [index for index in free if _may_hold(DEFECTS[name].needs, index, samples, row_of[index])]
        taken = fits[: counts[name]]
        plan.defects.update(dict.fromkeys(taken, name))
        free = [index for index in free if index not in set(taken)]
    _choose_originals(plan, rng)
    return plan


def _choose_originals(plan: _Plan, rng: np.random.Generator) -> None:
    """Fill in `plan.originals`: each clean sample serves as original once at most."""
    used: set[int] = set()
    for index in sorted(plan.defects):
        needs = DEFECTS[plan.defects[index]].needs
        if needs == "none":
            continue
        start = 0 if needs == "any_shard" else index - plan.row_of[index]
        stop = index if needs == "any_shard" else index - _DUPLICATE_KEY_GAP
        earlier = [each for each in range(start, stop) if each not in plan.defects and each not in used]
        if not earlier:
            message = (
                f"sample {index} ({plan.defects[index]}) has no clean sample before it; ask for more samples"
            )
            raise ValueError(message)
        plan.originals[index] = earlier[int(rng.integers(len(earlier)))]
        used.add(plan.originals[index])


def _samples(plan: _Plan, seed: int) -> Iterator[tuple[str, Sample]]:
    """Yield every sample of the pool with the name of its defect; only originals are kept in memory."""
    wanted = set(plan.originals.values())
    made: dict[int, Sample] = {}
    so_far: Counter[str] = Counter()
    for index in range(len(plan.shard_of)):
        name = plan.defects.get(index, "clean")
        relative = made[plan.originals[index]] if index in plan.originals else None
        place = Place(seed, index, so_far[name], np.random.default_rng([seed, index, 1]), relative)
        sample = DEFECTS.get(name, _CLEAN).make(place)
        so_far[name] += 1
        if index in wanted:
            made[index] = sample
        yield name, sample


def _truth(plan: _Plan, index: int, name: str, sample: Sample) -> Planted:
    defect = DEFECTS.get(name, _CLEAN)
    return Planted(
        shard=f"{plan.shard_of[index]:05d}.tar",
        key=plan.key(index),
        row=-1 if defect.once else plan.row_of[index],
        defect=name,
        expected=defect.expected,
        expected_code=sample.code or defect.code,
        original_key=plan.key(plan.originals[index]) if index in plan.originals else "",
    )


def scene_uid(seed: int, index: int) -> str:
    """Return the uid of sample `index` of the world `seed`: 32 hex digits."""
    return hashlib.blake2b(f"{seed}/{index}".encode(), digest_size=16).hexdigest()


def _members(sample: Sample, key: str, uid: str) -> list[tuple[str, bytes]]:
    """Return the sample's (name, content) pairs in tar order: image, text, json."""
    described = {
        "uid": uid,
        "key": key,
        "caption": sample.json_caption,
        "concept": sample.scene.concept,
        "url": f"https://example.org/pictures/{uid[:12]}.{sample.image_extension}",
    }
    facts = {name: value for name, value in described.items() if value is not None}
    contents = (
        (f"{key}.{sample.image_extension}", sample.image),
        (f"{key}.txt", sample.text),
        (f"{key}.json", json.dumps(facts, ensure_ascii=False).encode()),
    )
    return [(name, content) for name, content in contents if content is not None]


def _pack(members: list[tuple[str, bytes]], cut: str | None) -> bytes:
    """Return the tar file of the members; it ends in the middle of the content of the member named `cut`."""
    buffer = io.BytesIO()
    stop: int | None = None
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.mtime = len(content), 0o644, 0
            if name == cut:
                stop = buffer.tell() + tarfile.BLOCKSIZE + len(content) // 2
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()[:stop]


def _write_truth(path: Path, truth: list[Planted]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Planted)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(planted) for planted in truth)


def write_pool(  # noqa: PLR0913  (what a pool is made of)
    folder: Path,
    *,
    samples: int = 1200,
    shards: int = 4,
    seed: int = 0,
    defects: Collection[str] = tuple(DEFECTS),
    times: float = 1.0,
) -> list[Planted]:
    """Write the shards and truth.csv, and return what truth.csv says, in pool order.

    The same arguments always give the same bytes.

    Args:
        folder: made where missing; files of the same names are overwritten.
        samples: in all shards together; about a third carry a defect. 60 are enough for one of each.
        defects: names from DEFECTS to plant; () gives a clean pool.
        times: how often each is planted, relative to its share in DEFECTS.

    Raises:
        ValueError: the counts do not fit together; the message says what to change.
    """
    if not 1 <= shards <= samples <= shards * MAX_SAMPLES_PER_SHARD:
        message = f"{samples} samples in {shards} shards: each shard holds 1 to {MAX_SAMPLES_PER_SHARD}"
        raise ValueError(message)
    plan = _plan(samples, shards, seed, _counts(samples, defects, times))
    (folder / "shards").mkdir(parents=True, exist_ok=True)
    truth: list[Planted] = []
    members: list[list[tuple[str, bytes]]] = [[] for _ in range(shards)]
    for index, (name, sample) in enumerate(_samples(plan, seed)):
        members[plan.shard_of[index]] += _members(sample, plan.key(index), scene_uid(seed, index))
        truth.append(_truth(plan, index, name, sample))
    for shard in range(shards):
        cut = f"{truth[-1].key}.jpg" if shard == shards - 1 and truth[-1].defect == "truncated_tar" else None
        (folder / "shards" / f"{shard:05d}.tar").write_bytes(_pack(members[shard], cut))
        count = plan.shard_of.count(shard)
        stats = {"count": count, "successes": count, "failed_to_download": 0, "failed_to_resize": 0}
        (folder / "shards" / f"{shard:05d}_stats.json").write_text(json.dumps(stats), encoding="utf-8")
    _write_truth(folder / "truth.csv", truth)
    return truth
