"""What an evaluation trains: how often, for how long, and on which sets."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

BATCH = 128
BUDGET = 400 * BATCH  # samples: a minute of one core


class Against(StrEnum):
    """A set beside the kept one."""

    RANDOM = "random"
    POOL = "pool"


@dataclass(frozen=True)
class Settings:
    """How models are trained.

    Attributes:
        seeds: trainings of each set; budget: samples that each model sees.
        against: the sets beside the kept one, each once.
    """

    seeds: int = 3
    budget: int = BUDGET
    against: tuple[Against, ...] = tuple(Against)
