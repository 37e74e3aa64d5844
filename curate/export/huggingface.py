"""A data set for Hugging Face's hub: its card with the curation record in it, and the data."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from curate.exporting import (
    METADATA,
    SHARDS,
    Export,
    Publication,
    Selection,
    WrittenFile,
    place_shards,
    write_metadata,
)
from curate.nutrition import NutritionLabel, nutrition_label
from curate.query import describe_samples
from curate.report.wording import clean_text, share_words
from transforms.storage import Folder, redact

CARD = "README.md"
# The hub's own names for how many samples there are.
_SIZES = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")
# What Markdown would take for its own: anywhere, at the end of a word, at the beginning of a line.
_MARKUP = re.compile(r"[\\`*\[\]|~$]|(?<!\w)_|_(?!\w)|^[#+-]|(?<=^\d)[.)](?=\s)|(?<=^\d\d)[.)](?=\s)")


class HuggingfaceExport(Export):
    """`README.md`, `metadata.parquet` with what is told of each sample, and the curated shards.

    `datasets.load_dataset(FOLDER)` reads the shards, each sample with its signals. Under a condition
    there are none, since those of the store hold the kept samples: then it reads the metadata.
    """

    def write(self, selection: Selection, target: Folder, publication: Publication) -> list[str]:
        label = nutrition_label(selection)
        metadata = write_metadata(selection, target)
        shards = place_shards(selection, target)
        with target.commit(CARD) as path:
            path.write_text(card(selection, label, shards, publication), encoding="utf-8")
        return [CARD, metadata.name, *(shard.name for shard in shards)]


def card(
    selection: Selection, label: NutritionLabel, shards: Sequence[WrittenFile], publication: Publication
) -> str:
    """The data set card: a YAML header for the hub, then the record for people."""
    header = yaml.safe_dump(_header(label, shards, publication), sort_keys=False, allow_unicode=True)
    sections = [
        *_summary(label),
        *_origin(label),
        *_removed(label),
        *_unread(label),
        *_diversity(label),
        *_warnings(label),
        *_columns(selection),
        *_recipe(label),
    ]
    return f"---\n{header}---\n\n" + "\n".join(sections) + "\n"


def _header(label: NutritionLabel, shards: Sequence[WrittenFile], publication: Publication) -> dict[str, Any]:
    # One configuration: `datasets` reads all of a folder's in the format of the first.
    files = f"{SHARDS}/*.tar" if shards else METADATA
    return {
        "pretty_name": label.decision.ledger,
        "license": publication.licence or "unknown",
        "task_categories": ["zero-shot-image-classification", "image-to-text", "text-to-image"],
        "size_categories": [size_category(label.samples)],
        "tags": ["image-text", "curate", *(["webdataset"] if shards else [])],
        "configs": [{"config_name": "default", "data_files": files}],
    }


def size_category(samples: int) -> str:
    """How many samples, as the hub names it: n<1K, 1K<n<10K, …, n>1T."""
    below = next((at for at in range(len(_SIZES)) if samples < 1000 * 10**at), len(_SIZES))
    if below == 0:
        return "n<1K"
    return f"{_SIZES[below - 1]}<n<{_SIZES[below]}" if below < len(_SIZES) else "n>1T"


def _summary(label: NutritionLabel) -> Iterator[str]:
    manifest = label.decision.manifest
    yield f"# {plain(label.decision.ledger)}\n"
    if manifest["recipe"]["description"]:
        yield plain(manifest["recipe"]["description"]) + "\n"
    what = "kept by the recipe" if label.where is None else "chosen by a condition"
    yield (
        f"{label.samples:,} image-text samples, {what}, out of {label.rows:,}. Curated with Curate "
        f"{plain(manifest['curate_version'])}, which measures every sample and records a verdict with its "
        "reason; this card was written from that record.\n"
    )
    if label.where is not None:
        yield f"The condition, over the view `samples` of `curate query`:\n\n{fenced(label.where, 'sql')}\n"
    words = {"keep": "kept", "drop": "removed", "quarantine": "set aside", "failed": "not readable"}
    rows = [(word, *_share(label.verdicts.get(name, 0), label.rows)) for name, word in words.items()]
    yield table(("of the pool", "samples", "share"), rows)


def _origin(label: NutritionLabel) -> Iterator[str]:
    yield "## Origin\n"
    lost = f"; {label.lost:,} more could not be read" if label.lost else ""
    yield f"{label.shards:,} shards were read{lost}:\n"
    yield "\n".join(f"* {plain(redact(uri))}" for uri in label.origin) + "\n"
    for title, shares in (("source", label.sources), ("language", label.languages)):
        if shares:
            yield f"The largest {title}s:\n"
            rows = [(one.name, f"{one.pool:,}", f"{one.kept:,}") for one in shares]
            yield table((title, "samples in the pool", "kept"), rows)
    yield "Measured:\n\n" + "\n".join(f"* `{name}`: {plain(what)}" for name, what in label.measures) + "\n"


def _removed(label: NutritionLabel) -> Iterator[str]:
    yield "## What was removed, and why\n"
    if not label.falls:
        yield "The recipe has no filters: nothing was removed.\n"
        return
    yield "Each filter saw the samples that those before it let through; it kept what meets its bound.\n"
    rows = [
        (str(at), fall.filter, fall.bound, f"{fall.entering:,}", *_share(fall.stopped, fall.entering))
        for at, fall in enumerate(label.falls, start=1)
    ]
    yield table(("place", "filter", "bound", "samples that reached it", "removed", "share"), rows)


def _unread(label: NutritionLabel) -> Iterator[str]:
    if label.failures:
        yield "## What could not be read\n"
        rows = [(failure.code, failure.meaning, f"{failure.rows:,}") for failure in label.failures]
        yield table(("code", "meaning", "times"), rows)


def _diversity(label: NutritionLabel) -> Iterator[str]:
    for one in label.diversity:
        yield f"## Diversity of `{one.name}`\n"
        yield (
            "RankMe (Garrido et al. 2023) and the Vendi score (Friedman and Dieng 2023) of embeddings, "
            f"from 1 to their {one.width} numbers; the random draw is as large as what was kept.\n"
        )
        rows = [
            (
                row.name,
                f"{row.rows:,}",
                *("" if one.value is None else f"{one.value:.1f}" for one in row.readings),
            )
            for row in one.rows
        ]
        yield table(("rows", "number", "RankMe", "Vendi"), rows)


def _warnings(label: NutritionLabel) -> Iterator[str]:
    yield "## Known gaps\n"
    yield "\n".join(f"* {plain(gap)}" for gap in label.gaps or ("None that the record shows.",)) + "\n"
    yield "## Use-case alerts\n"
    yield table(("use", "beware"), label.alerts)


def _columns(selection: Selection) -> Iterator[str]:
    yield f"## Columns of `{METADATA}`\n"
    described = {name: (meaning, unit) for name, meaning, unit in describe_samples(selection.decision)}
    yield table(("column", "meaning", "unit"), [(name, *described[name]) for name in selection.columns])


def _recipe(label: NutritionLabel) -> Iterator[str]:
    yield "## Recipe\n"
    yield f"As it ran, with every default spelt out.\n\n{fenced(label.recipe, 'yaml')}"


def _share(part: int, whole: int) -> tuple[str, str]:
    return f"{part:,}", share_words(part, whole)


# --- Markdown of other people's text


def plain(text: str) -> str:
    """The text on one line, so that Markdown and HTML show it as it is."""
    folded = clean_text(" ".join(str(text).split()))
    escaped = _MARKUP.sub(lambda found: f"\\{found[0]}", folded.replace("&", "&amp;"))
    return escaped.replace("<", "&lt;").replace(">", "&gt;")


def fenced(text: str, language: str) -> str:
    """The text as a block of code, with a fence that is longer than any in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, every cell as plain text."""
    lines = [columns, ["---"] * len(columns), *([plain(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"
