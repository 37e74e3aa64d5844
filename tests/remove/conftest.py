"""Stores over a pool that holds a sample to remove, its twin, a larger print and another of its URL."""

from __future__ import annotations

import hashlib
import io
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from curate.audit import write_audit
from curate.encoder_of import stored_embeddings
from curate.query import open_decision
from curate.remove.find import Asked, find_samples
from curate.report import write_report
from curate.search.index import build_index
from tests.compared import MODEL
from tests.pools import Member, photo, sample, write_tar
from tests.running import curate
from transforms.removal import Removal, remove
from transforms.store import Store

UID = "0badc0de" + "5ec7e7" * 4
KEY, CAPTION, URL = "violetkey", "an entirely private violet zebra", "http://private.example/zebra.jpg"
TWIN, LARGER, ANOTHER = 100, 101, 102
THE_SAMPLE = Asked((UID,))
# What must be nowhere once the sample is removed.
SECRETS = (UID, KEY, CAPTION, URL)
RECIPE = f"""\
name: taken
pool: {{retry_seconds: []}}
measures:
  clip: {{model: "local-dir:{MODEL}"}}
  perceptual_hashes: {{}}
  thumbnail: {{}}
  s_clip: {{measure: s_clip_loss, form: bank, batch: 64}}
filters:
  - caption_words: 3
  - drop_copies: pdq
  - top_fraction: {{by: luminance_entropy, keep: 0.9}}
output: {{samples_per_shard: 4, report: false, diversity: false}}
max_failed_fraction: 0.05
"""
PLAIN = """\
name: plain
pool: {retry_seconds: []}
filters:
  - caption_words: 3
output: {samples_per_shard: 3, report: false}
"""


def uid_of(number: int) -> str:
    """A uid as sources give them, larger than that of the sample to remove."""
    return "f" + hashlib.sha256(str(number).encode()).hexdigest()[:31]


def zebra(side: int = 128) -> bytes:
    """The picture to remove; in another size it is a near copy."""
    original = photo(900, side=128)
    if side == 128:
        return original
    stream = io.BytesIO()
    Image.open(io.BytesIO(original)).resize((side, side), Image.Resampling.LANCZOS).save(stream, "JPEG")
    return stream.getvalue()


def ordinary(number: int, *, picture: bytes | None = None, url: str | None = None) -> list[Member]:
    """A sample like any other."""
    about = {"uid": uid_of(number), "url": url or f"http://example.org/{number}.jpg"}
    return sample(f"k{number:05d}", picture or photo(number), f"a picture of thing number {number}", **about)


def private() -> list[Member]:
    """The sample to remove."""
    return sample(KEY, zebra(), CAPTION, uid=UID, url=URL)


def make_pool(folder: Path) -> Path:
    """Three tars of seven ordinary samples, and among them those of which the tests tell."""
    for shard in range(3):
        members = [ordinary(7 * shard + at) for at in range(7)]
        if shard == 0:
            members.append(ordinary(TWIN, picture=zebra()))
        elif shard == 1:
            members.insert(3, private())
        else:
            members += [ordinary(LARGER, picture=zebra(256)), ordinary(ANOTHER, url=URL)]
        write_tar(folder / f"{shard:05d}.tar", [member for found in members for member in found])
    return folder


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pool(tmp_path_factory.mktemp("pool"))


@pytest.fixture(scope="session")
def untouched(pool: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with everything that a store can hold of the sample; never written to."""
    store = tmp_path_factory.mktemp("untouched") / "store"
    decision = open_decision(Store.at(str(store)), curate(RECIPE, pool, store).ledger)
    write_report(decision)
    write_audit(decision, budget=30, seed=0)
    for embedding in stored_embeddings(decision).values():
        build_index(decision, embedding, lambda _: None)
    return store


@pytest.fixture
def store(untouched: Path, tmp_path: Path) -> Path:
    """A copy of it, to remove from."""
    return Path(shutil.copytree(untouched, tmp_path / "store"))


@pytest.fixture(scope="session")
def plain(pool: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of few files; never written to."""
    store = tmp_path_factory.mktemp("plain") / "store"
    curate(PLAIN, pool, store)
    return store


def take(store: Path | Store, asked: Asked = THE_SAMPLE) -> dict[str, Any]:
    """Removes samples as the command does; returns the record."""
    opened = store if isinstance(store, Store) else Store.at(str(store))
    with opened.lock():
        found = find_samples(opened, asked)
        removal = Removal("A. Person", "asked by mail", found.places, found.named, found.counts)
        return remove(opened, removal)[1]
