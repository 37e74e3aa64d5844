"""A small pool whose samples are compared: copies, near duplicates and clusters, in a real run."""

from __future__ import annotations

from pathlib import Path

from curate.run import RunResult
from tests.pools import Member, photo, sample, write_tar
from tests.running import curate

MODEL = Path(__file__).parents[1] / "curate" / "demo" / "model"
HOSTILE = "a <b>bold</b> \x1b[2J [red]caption[/red] of a ship"
CAPTIONS = (HOSTILE, "صورة قطة صغيرة في الحديقة", "一只黑猫坐在沙发上", "a photo of a ship at sea", "")
_COMPARED = f"""\
pool: {{retry_seconds: []}}
measures: {{clip: {{model: "local-dir:{MODEL}"}}}}
max_failed_fraction: 1
filters:
  - min_side_pixels: 30
  - drop_exact_duplicates: pixels
  - drop_near_duplicates: {{cosine_above: 0.999, clusters: 3, probe: 3}}
"""
RECIPE = f"""\
name: compared
{_COMPARED}\
  - prune_clusters: {{keep: 0.5, clusters: 4}}
output: {{report: false, shards: false}}
"""
# Every kind of stage: measured, fitted, compared, decided, written.
EVERY_STAGE = f"""\
name: every_stage
{_COMPARED}\
  - top_fraction: {{by: clip_cosine, keep: 0.5}}
output: {{report: false, diversity: false, samples_per_shard: 3}}
"""
EMPTY = RECIPE.replace("name: compared", "name: nothing")


def compared_pool(folder: Path) -> Path:
    """Two tars: ten photos in two sizes, one of them three times, one too small and one broken."""
    for number in range(2):
        members: list[Member] = []
        for at in range(10):
            caption = CAPTIONS[at % len(CAPTIONS)]
            members += sample(f"{number}{at:03d}", photo(at, side=48 + 16 * number), caption)
        members += sample(f"{number}900", photo(0), "the same picture again")
        members += sample(f"{number}901", photo(90 + number, side=20), "a very small picture")
        members += sample(f"{number}902", b"", "no bytes in this")
        write_tar(folder / f"{number:05d}.tar", members)
    return folder


def compared_run(folder: Path, text: str = RECIPE) -> RunResult:
    """The run of a recipe over that pool, into the folder `store`."""
    return curate(text, compared_pool(folder / "pool"), folder / "store")
