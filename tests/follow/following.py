"""Pools that grow, and continuous runs over them, as the command line makes them."""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from curate import demo
from curate.demo.pool import write_pool
from curate.follow.calibrate import calibrate
from curate.follow.calibration import Calibration
from curate.follow.loop import Follower, FollowOptions
from curate.follow.streaming import StreamFollower
from curate.recipe import packaged_recipes, parse_recipe
from curate.run import RunOptions
from curate.runner import Runner
from tests.compared import MODEL
from tests.pools import Member, photo, sample, write_tar
from tests.running import files_of, plan_of
from transforms.store import Store

PLAIN = """\
name: stream
pool: {retry_seconds: []}
filters:
  - min_side_pixels: 30
  - drop_exact_duplicates: pixels
  - top_fraction: {by: luminance_entropy, keep: 0.7}
output: {samples_per_shard: 4, report: false}
drift: {window_shards: 3, confidence: 0.99}
max_failed_fraction: 1
"""
ROWS_ONLY = PLAIN.replace("  - top_fraction: {by: luminance_entropy, keep: 0.7}\n", "")
COMPARED = f"""\
name: compared
pool: {{retry_seconds: []}}
measures: {{clip: {{model: "local-dir:{MODEL}"}}}}
filters:
  - drop_exact_duplicates: pixels
  - drop_near_duplicates: {{cosine_above: 0.9995, clusters: 3, probe: 2}}
  - caption_words: 3
output: {{samples_per_shard: 4, report: false, diversity: false}}
max_failed_fraction: 1
"""

COPIED = f"""\
name: copied
pool: {{retry_seconds: []}}
measures: {{clip: {{model: "local-dir:{MODEL}"}}}}
filters:
  - drop_copies: {{method: pdq, flips: true}}
  - drop_copies: {{method: verified, within: clip_image, clusters: 3}}
output: {{samples_per_shard: 4, report: false, diversity: false}}
max_failed_fraction: 1
"""

CAPTIONED = f"""\
name: captioned
pool: {{retry_seconds: []}}
measures: {{clip: {{model: "local-dir:{MODEL}"}}}}
filters:
  - drop_similar_captions: {{jaccard_above: 0.99, clusters: 3}}
output: {{samples_per_shard: 4, report: false, diversity: false}}
max_failed_fraction: 1
"""

DEMO = (
    packaged_recipes()["demo"]
    .read_text()
    .replace("local-dir:../demo/model", f"local-dir:{Path(demo.__file__).parent / 'model'}")
)


def shard(path: Path, seeds: Sequence[int], *, side: int = 48, caption: str = "a picture of thing") -> Path:
    """A complete shard: a tar with a sample for each seed, and the file that says it is complete."""
    members: list[Member] = []
    for at, seed in enumerate(seeds):
        members += sample(f"{path.stem}-{at:03d}", photo(seed, side=side), f"{caption} {seed}")
    write_tar(path, members)
    path.with_name(f"{path.stem}_stats.json").write_text("{}")
    return path


def make_pool(folder: Path, shards: int = 4, rows: int = 8) -> Path:
    """Shards of which each repeats two pictures of the one before."""
    for number in range(shards):
        shard(folder / f"{number:05d}.tar", range(number * (rows - 2), number * (rows - 2) + rows))
    return folder


def pool_for(text: str, folder: Path, shards: int) -> Path:
    """A pool in which the recipe finds something to drop; returns the folder of its shards."""
    if text != DEMO:
        return make_pool(folder, shards)
    write_pool(folder, samples=40 * shards, shards=shards)
    return folder / "shards"


def calibrated(text: str, pool: Path, store: Path) -> Calibration:
    """Calibrates the recipe on a pool."""
    return calibrate(plan_of(text, pool, store), RunOptions(), lambda _: None)


def follower(text: str, pool: Path, store: Path, said: list[str] | None = None, **how: Any) -> Follower:
    """A continuous run that ends when nothing waits, unless `how` says otherwise."""
    heard: list[str] = [] if said is None else said
    options = FollowOptions(**{"every": 0.02, "until_idle": True, **how})
    recipe = parse_recipe(text, "recipe.yaml")
    patterns = [str(pool / "*.tar")]
    return Follower(recipe, Store.at(str(store)), patterns, RunOptions(), options, heard.append)


def streamed(text: str, pool: Path, store: Path, runner: Runner, **how: Any) -> StreamFollower:
    """A continuous run as one unbounded pipeline of a runner; it ends as `follower`'s does."""
    loop = follower(text, pool, store, **{"every": 0.5, **how})
    options = replace(loop.options, streaming=True)
    return StreamFollower(loop.recipe, loop.store, loop.pool, RunOptions(runner=runner), options, loop.say)


def replayed(text: str, manifest: Mapping[str, Any], store: Path) -> dict[str, Any]:
    """Lets the local loop take the same shards in the same batches; returns its manifest."""
    batches: dict[int, list[str]] = {}
    for part in manifest["parts"]:
        batches.setdefault(part["batch"], []).append(part["uri"])
    arrived: list[str] = []
    for _, uris in sorted(batches.items()):
        arrived += uris
        loop = follower(text, Path(), store)
        loop.pool = tuple(arrived)
        loop.follow()
    return manifest_of(store)


def committed_files(store: Path) -> dict[str, bytes]:
    """Every file that follows from shards, recipe and order of arrival."""
    apart = ("calibrations/", "follow/")
    files = files_of(store)
    return {name: content for name, content in files.items() if not name.startswith(apart)} | {
        name: content for name, content in files.items() if "/facts/" in name or "/memory/" in name
    }


def follow(text: str, pool: Path, store: Path, **how: Any) -> dict[str, Any]:
    """Follows the pool until nothing waits; returns the manifest."""
    follower(text, pool, store, **how).follow()
    return manifest_of(store)


def manifest_of(store: Path) -> dict[str, Any]:
    """The manifest of the latest decision."""
    ledger = json.loads((store / "latest.json").read_text())["ledger"]
    found: dict[str, Any] = json.loads((store / "ledger" / ledger / "manifest.json").read_text())
    return found


def curated_uids(store: Path, ledger: str) -> Counter[str]:
    """How often each uid stands in the curated shards."""
    found: Counter[str] = Counter()
    for path in sorted((store / "curated" / ledger).glob("*.tar")):
        with tarfile.open(fileobj=io.BytesIO(path.read_bytes())) as tar:
            for member in tar.getmembers():
                if member.name.endswith(".curate.json"):
                    content = tar.extractfile(member)
                    assert content is not None
                    found[json.loads(content.read())["uid"]] += 1
    return found
