"""The evaluation as a table: mean and range over seeds of each set, and what keeping adds to chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

WORDS = {
    "image_to_text_recall_at_1": "image to text, R@1",
    "image_to_text_recall_at_5": "image to text, R@5",
    "text_to_image_recall_at_1": "text to image, R@1",
    "text_to_image_recall_at_5": "text to image, R@5",
    "zero_shot_accuracy": "zero-shot accuracy",
}


def evaluation_table(content: Mapping[str, Any]) -> Table:
    """Percent of held-out pairs; differences are between models of the same seed."""
    sets: Mapping[str, Any] = content["sets"]
    kept = sets["kept"]["scores"]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("% right\n", no_wrap=True)
    for name, one in sets.items():
        table.add_column(f"{name}\n{one['samples']:,}", justify="right")
    others = [name for name in sets if name != "kept"]
    for name in others:
        table.add_column(f"kept less\n{name}", justify="right")
    for metric, words in WORDS.items():
        if metric not in kept:
            continue
        cells = [spread(one["scores"][metric]) for one in sets.values()]
        for name in others:
            pairs = zip(kept[metric], sets[name]["scores"][metric], strict=True)
            cells.append(spread([mine - theirs for mine, theirs in pairs], "+"))
        table.add_row(words, *cells)
    return table


def conditions(content: Mapping[str, Any]) -> str:
    """What the table's figures are of, in words."""
    held_out, seeds = content["held_out"], len(content["sets"]["kept"]["scores"]["image_to_text_recall_at_1"])
    classes = ""
    if held_out["with_class"]:
        classes = f", {held_out['with_class']:,} of them with one of {held_out['classes']:,} classes"
    spread_of = "one seed" if seeds == 1 else f"mean, and least to greatest, of {seeds} seeds"
    return (
        f"each model saw {content['budget']:,} samples; {held_out['pairs']:,} held-out pairs{classes}; "
        f"{spread_of}"
    )


def spread(shares: Sequence[float], sign: str = "") -> str:
    """The mean in percent, and below it the least and greatest where there are several."""
    mean = f"{100 * sum(shares) / len(shares):{sign}.1f}"
    if len(shares) == 1:
        return mean
    return f"{mean}\n{100 * min(shares):.1f}..{100 * max(shares):.1f}"
