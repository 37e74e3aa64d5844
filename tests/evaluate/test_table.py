"""The table says mean and range, and differences of models of the same seed."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from curate.evaluate.table import conditions, evaluation_table, spread

CONTENT: dict[str, Any] = {
    "budget": 256,
    "held_out": {"pairs": 1000, "with_class": 0, "classes": 0},
    "sets": {
        "kept": {"samples": 1200, "scores": {"image_to_text_recall_at_1": [0.5, 0.3]}},
        "random": {"samples": 1200, "scores": {"image_to_text_recall_at_1": [0.2, 0.1]}},
        "pool": {"samples": 2000, "scores": {"image_to_text_recall_at_1": [0.6, 0.3]}},
    },
}


@pytest.mark.parametrize(
    ("shares", "said"),
    [([0.25], "25.0"), ([0.2, 0.3], "25.0\n20.0..30.0"), ([0.0, 0.0, 0.0], "0.0\n0.0..0.0")],
)
def test_the_mean_stands_above_the_range(shares: list[float], said: str) -> None:
    assert spread(shares) == said


def test_differences_are_of_models_of_one_seed() -> None:
    console = Console(width=100, record=True, file=None)
    with console.capture() as captured:
        console.print(evaluation_table(CONTENT))
    said = captured.get()
    for words in ("kept", "1,200", "2,000", "+25.0", "20.0..30.0", "-5.0", "-10.0..0.0"):
        assert words in said
    assert "zero-shot" not in said


def test_what_the_figures_are_of_is_said() -> None:
    said = conditions(CONTENT)
    assert said == "each model saw 256 samples; 1,000 held-out pairs; mean, and least to greatest, of 2 seeds"
    with_classes = {**CONTENT, "held_out": {"pairs": 10, "with_class": 4, "classes": 3}}
    assert "4 of them with one of 3 classes" in conditions(with_classes)
