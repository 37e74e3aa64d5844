"""The labelling page: what stands in it, and what it does in a browser."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from curate.audit import score_audit, write_audit
from curate.query import Decision, open_decision
from filters.core.errors import QueryError
from tests.audit.conftest import metadata_pool
from tests.pools import photo, sample
from tests.report.conftest import ARABIC, QUOTED_KEY, SCRIPT, SVG, mixed_members, taken
from tests.running import curate
from transforms.store import Store

BREAKOUT = "</script><script>alert(3)</script><!-- <script> {{ 7 * 7 }} -->"
VOID = {"meta", "img", "input"}


class Page(HTMLParser):
    """Elements of a page, the text of its scripts and styles, links and handlers."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts: dict[str, list[str]] = {"script": [], "style": []}
        self.policy = ""
        self.links: list[str] = []
        self.handlers: list[str] = []
        self.styled = 0
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"] or ""
        self.links += [given[name] or "" for name in ("src", "href", "action") if name in given]
        self.handlers += [name for name in given if name.startswith("on")]
        self.styled += "style" in given
        if tag not in VOID:
            self._open.append(tag)
        if tag in self.texts:
            self.texts[tag].append("")

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in self.texts:
            self.texts[self._open[-1]][-1] += data

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    @property
    def samples(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.texts["script"][0])["samples"]
        return found


def written(decision: Decision, budget: int, seed: int = 0) -> str:
    where = Path(write_audit(decision, budget=budget, seed=seed).where)
    return (where / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def text(mixed: Decision) -> str:
    return written(mixed, 14)


def test_every_drawn_sample_is_there_with_its_picture(mixed: Decision, text: str) -> None:
    rows = list(csv.DictReader(io.StringIO(sample_of(mixed, 14))))
    samples = Page(text).samples
    assert [one["uid"] for one in samples] == list(dict.fromkeys(row["uid"] for row in rows))
    assert len(rows) == 14
    assert all(base64.b64decode(one["picture"])[:2] == b"\xff\xd8" for one in samples)
    captions = {one["caption"] for one in samples}
    assert {SCRIPT, SVG, ARABIC, "one", ""} <= captions


def sample_of(decision: Decision, budget: int) -> str:
    return decision.store.folder.read_bytes(f"audit/{decision.ledger}-{budget}-0/sample.csv").decode()


def test_captions_and_keys_are_data_and_never_markup(text: str) -> None:
    for untrusted in (SCRIPT, SVG, QUOTED_KEY, "<script>alert"):
        assert untrusted not in text
    assert QUOTED_KEY in {one["key"] for one in Page(text).samples}


def test_a_caption_can_not_end_the_data(tmp_path: Path) -> None:
    members = sample("1", photo(1), BREAKOUT) + sample("2", photo(2), "x\u2028y\u2029 & <i>")
    page = Page(written(taken(tmp_path, [members], "name: n\nfilters: []"), 2))
    assert {one["caption"] for one in page.samples} == {BREAKOUT, "x\u2028y\u2029 & <i>"}
    assert len(page.texts["script"]) == 2


def test_only_its_own_script_and_style_are_allowed(text: str) -> None:
    page = Page(text)
    assert (len(page.texts["script"]), len(page.texts["style"])) == (2, 1)
    for kind, content in (("script", page.texts["script"][1]), ("style", page.texts["style"][0])):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}';" in page.policy
    assert page.policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in page.policy
    assert not page.handlers
    assert not page.styled


def test_nothing_is_loaded_from_elsewhere(text: str) -> None:
    page = Page(text)
    assert not page.links
    assert not re.search(r"https?://|url\(|@import|fetch\(|XMLHttpRequest|innerHTML", text)


def test_the_same_store_gives_the_same_bytes_and_another_seed_another_draw(mixed: Decision) -> None:
    first = (written(mixed, 9, 1), sample_of_seed(mixed, 1))
    assert (written(mixed, 9, 1), sample_of_seed(mixed, 1)) == first
    assert written(mixed, 9, 2) != first[0]


def sample_of_seed(decision: Decision, seed: int) -> bytes:
    return decision.store.folder.read_bytes(f"audit/{decision.ledger}-9-{seed}/sample.csv")


def test_probabilities_are_exact_in_sample_csv(mixed: Decision, text: str) -> None:
    rows = list(csv.DictReader(io.StringIO(sample_of(mixed, 14))))
    assert len(text) > 0
    assert sum(1 / float(row["probability"]) for row in rows) == pytest.approx(14, abs=1e-9)


def test_copies_are_asked_for_once(tmp_path: Path) -> None:
    members = sample("1", photo(1), "a cat") + sample("2", photo(1), "a cat") + sample("3", photo(2), "a cat")
    decision = taken(tmp_path, [members], "name: n\nfilters:\n  - drop_exact_duplicates: pixels")
    page = Page(written(decision, 3))
    assert len(page.samples) == 2
    assert len(sample_of(decision, 3).splitlines()) == 4


def test_pictures_that_are_gone_are_counted(tmp_path: Path) -> None:
    decision = taken(tmp_path, [sample("1", photo(1), "a cat")], "name: n\nfilters: []")
    (tmp_path / "pool" / "00000.tar").unlink()
    audit = write_audit(decision, budget=5, seed=0)
    assert audit.unreadable == 1
    assert Page((Path(audit.where) / "index.html").read_text()).samples[0]["picture"] is None


def test_a_pool_without_images_is_refused(tmp_path: Path) -> None:
    metadata_pool(tmp_path / "pool", widths=[10, 20])
    run = curate("name: n\nfilters: []", tmp_path / "pool", tmp_path / "store")
    decision = open_decision(Store.at(str(tmp_path / "store")), run.ledger)
    with pytest.raises(QueryError, match="this pool holds no images"):
        write_audit(decision, budget=2, seed=0)


def test_a_store_that_is_no_local_folder(tmp_path: Path) -> None:
    decision = taken(tmp_path, [mixed_members()], store="memory://audit-test/store")
    audit = write_audit(decision, budget=14, seed=0)
    assert audit.where == f"memory://audit-test/store/audit/{decision.ledger}-14-0"
    answers = tmp_path / "answers.csv"
    uids = [line.split(",")[0] for line in sample_of(decision, 14).splitlines()[1:]]
    answers.write_text("uid,ok\n" + "".join(f"{uid},1\n" for uid in uids))
    assert score_audit(decision, answers, budget=None, seed=None).result.answered == 14
    assert decision.store.folder.exists(f"audit/{decision.ledger}-14-0/result.json")


# --- in a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window; tests that ask for it skip where there is none."""
    playwright = pytest.importorskip("playwright.sync_api")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium to drive the page with")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any, mixed: Decision, text: str) -> Iterator[Any]:
    """The page opened as a file; nothing may be asked of the network, and nothing may go wrong."""
    assert text
    context = browser.new_context(accept_downloads=True)
    opened = context.new_page()
    asked: list[str] = []
    said: list[str] = []
    opened.on("request", lambda request: asked.append(request.url))
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("dialog", lambda dialog: said.append(dialog.message))
    opened.goto(f"file://{mixed.store.folder.path(f'audit/{mixed.ledger}-14-0/index.html')}")
    yield opened
    context.close()
    assert not said
    assert all(url.startswith(("file:", "data:image/jpeg", "blob:")) for url in asked)


def count(page: Any) -> str:
    return str(page.inner_text("#count"))


def test_keys_and_buttons_answer_and_undo(page: Any) -> None:
    for key in ("j", "F", "ArrowRight", "ArrowLeft"):
        page.keyboard.press(key)
    page.click("#yes")
    page.click("#no")
    assert count(page) == "6 of 14"
    page.keyboard.press("k")
    assert count(page) == "6 of 14, 1 open"
    page.keyboard.press("u")
    page.click("#undo")
    assert count(page) == "5 of 14"


def test_a_key_held_down_or_with_another_is_no_answer(page: Any) -> None:
    page.keyboard.down("j")
    page.keyboard.down("j")
    page.keyboard.up("j")
    page.keyboard.press("Control+f")
    assert count(page) == "1 of 14"


def test_the_verdict_is_hidden_until_it_is_asked_for_and_then_told_after_the_answer(page: Any) -> None:
    def seen() -> str:
        return str(page.inner_text("body"))

    words = ("kept", "dropped", "min_side_pixels", "caption_words")
    page.keyboard.press("j")
    assert not any(word in seen() for word in words)
    page.check("#reveal")
    assert "Before this, you: matches. Curate: " in seen()
    assert any(word in seen() for word in words)


def test_answers_are_remembered(page: Any) -> None:
    page.keyboard.press("j")
    page.keyboard.press("f")
    caption = page.inner_text("#caption")
    page.reload()
    assert count(page) == "2 of 14"
    assert page.inner_text("#caption") == caption
    page.keyboard.press("u")
    assert count(page) == "1 of 14"


def test_damaged_memory_does_no_harm(page: Any) -> None:
    page.evaluate('localStorage.setItem(memory, \'{"answers": [["x", 5]], "order": [99]}\')')
    page.reload()
    assert count(page) == "0 of 14"
    page.evaluate("localStorage.setItem(memory, '[')")
    page.reload()
    assert count(page) == "0 of 14"


def test_saved_answers_are_read(page: Any, mixed: Decision, tmp_path: Path) -> None:
    for at in range(14):
        page.keyboard.press("k" if at in (3, 8) else "jf"[at % 2])
    assert "All seen" in page.inner_text("body")
    with page.expect_download() as started:
        page.click("#save")
    assert started.value.suggested_filename == f"answers-{mixed.ledger}-14-0.csv"
    started.value.save_as(tmp_path / "answers.csv")
    result = score_audit(mixed, tmp_path / "answers.csv", budget=14, seed=0).result
    assert (result.drawn, result.answered) == (14, 12)
    assert sum(one.bad for one in result.strata) == 6
    page.click("#again")
    assert count(page) == "12 of 14"


def test_a_look_back_at_the_end_changes_an_answer(page: Any) -> None:
    for _ in range(14):
        page.keyboard.press("j")
    assert "14 match, 0 do not" in page.inner_text("#summary")
    page.check("#reveal")
    assert page.locator(".card.apart").count() == sum(not one["kept"] for one in page.evaluate("samples"))
    page.locator(".card").nth(4).click()
    page.keyboard.press("f")
    assert "13 match, 1 do not" in page.inner_text("#summary")


def test_captions_are_shown_as_they_are_and_in_their_direction(page: Any) -> None:
    shown = {}
    for _ in range(14):
        style = page.evaluate("getComputedStyle(document.getElementById('caption')).direction")
        shown[page.inner_text("#caption")] = style
        page.keyboard.press("j")
    assert shown[SCRIPT] == "ltr"
    assert shown[ARABIC] == "rtl"
    assert "blank caption" in shown


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_nothing_is_wider_than_the_window(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 720})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for _ in range(14):
        page.keyboard.press("j")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
