"""The draw of an audit in the store: sample.csv, and a page on which a person answers.

The page is one file that loads nothing and sends nothing. Captions and keys are other people's text:
they stand in it as data, never as markup, and only its own style and script, named by their hashes,
are allowed.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from curate.audit.answers import draw_name, sample_csv, sample_row
from curate.audit.draw import Drawn, Stratum, draw
from curate.audit.frame import collect
from curate.explain import stored_steps
from curate.query import Decision
from curate.report.cards import Card, load_cards
from curate.report.examples import Place
from curate.report.page import VERDICT_WORDS
from curate.report.wording import MAX_NAME, cut_text, value_words
from filters.core.errors import QueryError
from transforms.storage import redact

SIDE_PIXELS = 400
MAX_CAPTION = 4000


@dataclass(frozen=True)
class Audit:
    """A draw that lies in the store.

    Attributes:
        where: path or URL of its folder; strata: in order of their first sample on the page.
        answers: the name under which the page saves its answers.
        unreadable: drawn samples whose picture can't be read any more.
    """

    where: str
    strata: tuple[Stratum, ...]
    answers: str
    unreadable: int


def write_audit(
    decision: Decision, *, budget: int, seed: int, storage_options: Mapping[str, Any] = {}
) -> Audit:
    """Draws samples of a decision, and writes index.html and sample.csv into the store.

    The same store, budget and seed give the same bytes. storage_options: of the pool, to read the
    original images again.
    Raises: QueryError where nothing can be drawn, the budget is too small, or the pool has no images;
    StoreError where the store can't be written.
    """
    drawn = draw(collect(decision, stored_steps(decision.manifest), budget, seed))
    uris = {part["number"]: part["uri"] for part in decision.manifest["parts"]}
    places = [Place(uris[one.part], one.row) for one in drawn]
    cards = load_cards(decision, places, storage_options, side_pixels=SIDE_PIXELS)
    shown = [cards[place] for place in places]
    if not any(card.has_image for card in shown):
        msg = "this pool holds no images: nobody can say whether they match their captions"
        raise QueryError(msg)
    name = draw_name(decision, budget, seed)
    folder = decision.store.folder
    rows = [sample_row(one, card.uid, card.key) for one, card in zip(drawn, shown, strict=True)]
    answers = f"answers-{name.removeprefix('audit/')}.csv"
    page = audit_page(shown, drawn, decision.ledger, name.removeprefix("audit/"))
    for file, text in (("sample.csv", sample_csv(rows)), ("index.html", page)):
        with folder.commit(f"{name}/{file}") as path:
            path.write_text(text, encoding="utf-8", newline="")
    return Audit(
        where=folder.path(name) if folder.local else f"{redact(folder.url)}/{name}",
        strata=tuple(dict.fromkeys(one.stratum for one in drawn)),
        answers=answers,
        unreadable=sum(card.picture is None for card in shown),
    )


def audit_page(cards: Sequence[Card], drawn: Sequence[Drawn], ledger: str, name: str) -> str:
    """The page over these samples as HTML; copies of one content are asked for once."""
    once = {card.uid: (card, one) for card, one in zip(cards, drawn, strict=True)}
    samples = [_sample(card, one.stratum) for card, one in once.values()]
    style = _packaged("curate.report", "page.css") + _packaged("curate.audit", "audit.css")
    script = _packaged("curate.audit", "audit.js")
    # Answers that the browser remembers are of this draw, and of no other of the same name.
    drawn_id = hashlib.sha256("".join(once).encode()).hexdigest()[:16]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("curate", "audit"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("audit.html").render(
        ledger=ledger,
        # Text of ours; nothing of the pool is in them.
        style=Markup(style),  # noqa: S704
        script=Markup(script),  # noqa: S704
        style_hash=_hash(style),
        script_hash=_hash(script),
        data={"draw": f"{name}-{drawn_id}", "file": f"answers-{name}.csv", "samples": samples},
    )


def _sample(card: Card, stratum: Stratum) -> dict[str, Any]:
    """What the page knows of one sample; why it was kept or stopped is in words."""
    why = VERDICT_WORDS[stratum.verdict]
    if card.dropped_by is not None:
        value = card.value_text if card.value is None else value_words(card.value)
        compared = [] if value is None or value == card.caption else [cut_text(value, MAX_NAME)]
        why += f" by {card.dropped_by}: " + ", ".join([*compared, card.bound or ""])
    caption = card.caption
    if caption is not None and len(caption) > MAX_CAPTION:
        caption = caption[: MAX_CAPTION - 1] + "…"
    return {
        "uid": card.uid,
        "key": cut_text(card.key, MAX_NAME),
        "caption": caption,
        "picture": card.picture,
        "kept": stratum.verdict == "keep",
        "why": why,
        "probability": stratum.probability,
    }


def _packaged(package: str, name: str) -> str:
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """The text as a content security policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
