"""The HTML report of one decision: no scripts, nothing loaded from elsewhere.

The same store gives the same bytes: nothing in it depends on the time or the machine. Captions,
keys and file names are other people's text: the template escapes everything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
import yaml
from markupsafe import Markup, escape

from curate.explain import stored_steps
from curate.query import Decision, connect
from curate.rate_views import CONCEPTS_FILE
from curate.report import wording
from curate.report.cards import Card, load_cards
from curate.report.charts import draw
from curate.report.clusters import compared_steps, comparisons
from curate.report.counts import Fall, failures, quarantines, signal_schema, waterfall
from curate.report.cuts import cuts
from curate.report.diversity import read_diversity
from curate.report.examples import Group, borderline_groups, verdict_groups
from curate.report.fusion import find_fusions
from curate.report.losses import Losses, find_losses
from curate.report.signals import bars, histograms, signals
from transforms.failures import SHARD_FAILURES
from transforms.storage import redact

VERDICT_WORDS = {"keep": "kept", "drop": "dropped", "quarantine": "quarantined", "failed": "failed"}


@dataclass(frozen=True)
class Gallery:
    """The samples of one group, with the words over it."""

    group: Group
    bound: str
    cards: tuple[Card, ...]


@dataclass(frozen=True)
class Overlap:
    """One row of the overlap matrix: counts, and how strongly each cell is shaded (0 to 1)."""

    filter: str
    counts: tuple[int, ...]
    shades: tuple[float, ...]


def build_report(
    decision: Decision,
    *,
    storage_options: Mapping[str, Any] = {},
    thumbnails: int = 12,
    losses: Losses | None = None,
) -> str:
    """The report as one HTML page.

    storage_options: of the pool, to read the original images again; shards that are gone leave
    their samples without a picture. thumbnails: samples shown of each kind; 0 leaves them out.
    losses: of concepts and sources, where they are known already.
    """
    manifest = decision.manifest
    steps = stored_steps(manifest)
    connection = connect(decision)
    schema = signal_schema(connection)
    shown = signals(decision, schema)
    numeric = [signal for signal in shown if signal.numeric]
    types = {signal.name: signal.type for signal in numeric}
    drawn = [cut for step in steps for cut in cuts(step, types)]
    has_rows = manifest["rows"] > 0
    falls = waterfall(
        decision, steps, dict(zip(schema.names, schema.types, strict=True)), quarantines(connection)
    )
    groups: list[Group] = []
    if has_rows and thumbnails > 0:
        groups = verdict_groups(connection, steps, thumbnails)
        groups += borderline_groups(decision, steps, max(1, thumbnails // 2))
    cards = load_cards(decision, [place for group in groups for place in group.places], storage_options)
    return (
        _environment()
        .get_template("page.html")
        .render(
            decision=decision,
            manifest=manifest,
            verdicts={name: manifest["verdicts"].get(name, 0) for name in VERDICT_WORDS},
            falls=falls,
            charts=[draw(one) for one in histograms(connection, numeric, drawn, manifest["rows"])],
            bars=[bars(connection, signal) for signal in shown if not signal.numeric and has_rows],
            overlaps=_overlaps(manifest),
            fusions=find_fusions(manifest),
            losses=losses or find_losses(decision, connection),
            diversity=read_diversity(decision),
            galleries=_galleries(groups, falls, cards),
            has_images=any(card.has_image for card in cards.values()),
            failures=failures(connection),
            shard_failures=SHARD_FAILURES,
            recipe=recipe_text(manifest),
            where=redact(decision.store.folder.url),
            compared=compared_steps(decision),
        )
    )


def build_clusters(
    decision: Decision,
    *,
    storage_options: Mapping[str, Any] = {},
    thumbnails: int = 12,
) -> str:
    """The page beside the report that shows clusters and copies; options as in `build_report`."""
    return (
        _environment()
        .get_template("clusters.html")
        .render(
            decision=decision,
            manifest=decision.manifest,
            found=comparisons(decision, storage_options, thumbnails=thumbnails),
        )
    )


def write_report(
    decision: Decision,
    *,
    storage_options: Mapping[str, Any] = {},
    thumbnails: int = 12,
) -> str:
    """Writes the report into the store, with what belongs to it, and returns its path or URL.

    Beside it lie the page of clusters, where samples are compared, and `concepts.json`: what filters
    take of concepts and sources.

    Raises: StoreError where the store can't be written.
    """
    losses = find_losses(decision, connect(decision))
    text = build_report(decision, storage_options=storage_options, thumbnails=thumbnails, losses=losses)
    name = report_name(decision)
    folder = decision.store.folder
    if compared_steps(decision):
        clusters = build_clusters(decision, storage_options=storage_options, thumbnails=thumbnails)
        with folder.commit(name.replace("index.html", "clusters.html")) as path:
            path.write_text(clusters, encoding="utf-8")
    folder.write_json(name.replace("index.html", CONCEPTS_FILE), losses.plain())
    with folder.commit(name) as path:
        path.write_text(text, encoding="utf-8")
    return folder.path(name) if folder.local else f"{redact(folder.url)}/{name}"


def report_name(decision: Decision) -> str:
    """Where the report lies below the store."""
    return f"report/{decision.ledger}/index.html"


def recipe_text(manifest: Mapping[str, Any]) -> str:
    """The recipe as it ran, as YAML, without what was left at "none" and without credentials."""
    recipe = dict(manifest["recipe"])
    pool = dict(recipe.get("pool", {}))
    uris = pool.get("uri") or ()
    pool["uri"] = redact(uris) if isinstance(uris, str) else [redact(uri) for uri in uris]
    steps = []
    for item in recipe["filters"]:
        options = {key: value for key, value in item.items() if key not in ("name", "filter")}
        steps.append({item["filter"]: _given(options)})
    shown = {**recipe, "pool": _given(pool), "filters": steps}
    order = ("name", "description", "pool", "measures", "filters", "output", "max_failed_fraction")
    ordered = {name: shown[name] for name in order if shown.get(name) not in (None, "", {})}
    return yaml.safe_dump(ordered, sort_keys=False, allow_unicode=True, width=100)


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value not in (None, [], ())}


def _overlaps(manifest: Mapping[str, Any]) -> list[Overlap]:
    names = [item["name"] for item in manifest["recipe"]["filters"]]
    found = []
    for at, name in enumerate(names):
        row = tuple(int(count) for count in manifest["overlap"][at])
        shades = tuple(round(count / row[at], 3) if row[at] else 0.0 for count in row)
        found.append(Overlap(name, row, shades))
    return found


def _galleries(groups: Sequence[Group], falls: Sequence[Fall], cards: Mapping[Any, Card]) -> list[Gallery]:
    words = {fall.filter: fall.bound for fall in falls}
    return [
        Gallery(group, words.get(group.filter, ""), tuple(cards[place] for place in group.places))
        for group in groups
    ]


def _breakable(name: str) -> Markup:
    """The name escaped, with places to break the line behind its underscores."""
    return escape(name).replace("_", Markup("_<wbr>"))


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("curate", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        count=wording.count_words,
        value=wording.value_words,
        precise=wording.precise_words,
        caption=lambda text: wording.cut_text(text, wording.MAX_CAPTION),
        short=lambda text: wording.cut_text(text, wording.MAX_NAME),
        breakable=_breakable,
        basename=lambda uri: wording.cut_text(uri.rstrip("/").rpartition("/")[2], wording.MAX_NAME),
    )
    environment.globals.update(share=wording.share_words, verdict_words=VERDICT_WORDS)
    return environment
