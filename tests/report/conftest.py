"""Decisions over tiny pools, taken by real runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest

from curate.plan import make_plan
from curate.query import Decision, open_decision
from curate.recipe import parse_recipe
from curate.run import RunOptions, run_recipe
from tests.pools import Member, photo, sample, write_tar
from transforms.store import Store

SCRIPT = "<script>alert(1)</script> on a sunny day"
SVG = "<svg onload=alert(2)> of a small house"
ARABIC = "صورة قطة صغيرة في الحديقة"
QUOTED_KEY = "a\"b'c<i>"
RECIPE = """
name: tiny
description: "for <tests> & people"
max_failed_fraction: 1
filters:
  - min_side_pixels: 40
  - max_aspect_ratio: 3
  - caption_words: {at_least: 3, at_most: 6}
  - top_fraction: {by: sharpness, keep: 0.8}
"""

Decide = Callable[..., Decision]


def mixed_members() -> list[Member]:
    """Twelve good samples with captions of every kind, one too small, one too long, two broken."""
    captions = [SCRIPT, SVG, ARABIC, "one", "", "a [bold]red[/] cat sits", *["a plain small picture"] * 6]
    members: list[Member] = []
    for at, caption in enumerate(captions):
        key = QUOTED_KEY if at == 0 else f"{at:06d}"
        members += sample(key, photo(at, side=40 + 5 * at), caption)
    members += sample("000100", photo(100, side=20), "a very small picture")
    members += sample("000101", photo(101, size=(400, 50)), "a very long picture")
    members += sample("000102", b"<html>[red]no[/]", "not an image at all")
    return members + sample("000103", b"", "nothing in here at all")


def taken(
    folder: Path, shards: Sequence[list[Member]], recipe: str = RECIPE, store: str | None = None
) -> Decision:
    """The decision of this recipe over tars of these members."""
    for number, members in enumerate(shards):
        write_tar(folder / "pool" / f"{number:05d}.tar", members)
    opened = Store.at(store or str(folder / "store"))
    plan = make_plan(parse_recipe(recipe), [str(folder / "pool")], opened)
    result = run_recipe(plan, RunOptions(), lambda _: None)
    return open_decision(opened, result.ledger)


@pytest.fixture
def decide(tmp_path: Path) -> Decide:
    """Takes a decision in a folder of the test's own."""
    return partial(taken, tmp_path)


@pytest.fixture(scope="session")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Decision:
    """A decision with every verdict that rows of RECIPE can get; shared, so not to be harmed."""
    return taken(tmp_path_factory.mktemp("mixed"), [mixed_members()])
