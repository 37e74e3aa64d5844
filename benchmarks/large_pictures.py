"""Engines on large pictures, where decoding is nearly all there is to do."""

from __future__ import annotations

from benchmarks.engines import compared
from benchmarks.photographs import photograph_pool
from benchmarks.section import Section


def run(*, small: bool) -> Section:
    """As `engines`, with four times the pixels."""
    shards, images, rounds = (2, 16, 1) if small else (24, 256, 3)
    tars = photograph_pool(min(shards, 4), images, scale=2)
    return compared("large_pictures", tars, (shards, images, rounds), "1000 x 800")
