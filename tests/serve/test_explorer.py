"""The explorer in a real browser: what people click, drag and type, against what the store says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page, ViewportSize, expect

from curate.serve.security import Door
from tests.compared import HOSTILE
from tests.pools import Member, photo, sample, write_tar
from tests.running import ask, curate
from tests.serve.browsing import DESK, LAPTOP, Visit, served, started_browser, visiting

PAGES = ("overview", "signals", "samples", "clusters", "duplicates", "sql", "recipe", "compare", "api")
TOKEN = "a-token-for-tests"  # noqa: S105  (no secret)
RIGHT_TO_LEFT = "صورة قطة صغيرة في الحديقة"
CAPTIONS = (
    "<script>window.hacked = 1; alert(1)</script>",
    "<img src=x onerror='window.hacked = 2; alert(2)'> a house",
    "<svg onload='window.hacked = 3; alert(3)'><circle r='9'/></svg> a car",
    RIGHT_TO_LEFT,
    "\u202eturned round\u202c and back",
    "word" * 500,
    "'; DROP VIEW samples; -- {{7*7}} ${alert(4)}",
)
PLAIN = """\
name: plain
description: <b>not bold</b>
pool: {retry_seconds: []}
filters: [{min_side_pixels: 30}]
output: {report: false, shards: false}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with started_browser() as found:
        yield found


@pytest.fixture(scope="module")
def address(store: Path) -> Iterator[str]:
    with served(store) as found:
        yield found


@pytest.fixture
def visit(browser: Browser, address: str) -> Iterator[Visit]:
    with visiting(browser, address) as found:
        yield found


def conditions(*wanted: dict[str, object]) -> str:
    return quote(json.dumps(wanted))


def bound_of(page: Page) -> Locator:
    """The field with the lower bound of the histogram of widths."""
    return page.get_by_role("spinbutton", name="width at least")


@pytest.mark.parametrize("size", [LAPTOP, DESK], ids=["1280", "1920"])
def test_every_page_opens(browser: Browser, address: str, size: ViewportSize) -> None:
    with visiting(browser, address, size) as visit:
        visit.open("")
        for name in PAGES:
            page = visit.open(f"#/{name}")
            visit.drawn(name)
            assert page.locator("nav [aria-current=page]").inner_text().lower() == name
            expect(page.locator(".page")).not_to_contain_text("That did not work")
            expect(page.locator(".page :is(h1, h2)").first).to_be_attached()
            overflow = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            assert overflow <= 0, f"{name} is {overflow} pixels too wide"


def test_the_overview_leads_to_its_samples(visit: Visit) -> None:
    page = visit.open("#/overview")
    kept = page.locator(".tile.keep b").inner_text()
    page.locator(".tile.keep").click()
    visit.drawn("samples")
    expect(page.locator(".matching")).to_have_text(re.compile(f"^{kept} samples?$"))
    assert {badge.inner_text() for badge in visit.cards.locator(".badge").all()} == {"kept"}
    page.go_back()
    visit.drawn("overview")
    page.locator(".falls a", has_text="prune_clusters").click()
    expect(page.locator(".chip")).to_have_text(re.compile("dropped_by: prune_clusters"))


def test_a_dragged_threshold_shows_what_would_pass(visit: Visit, store: Path) -> None:
    page = visit.open("#/signals")
    latest = visit.asked("/store")["decisions"][0]["ledger"]
    chart = page.locator("[data-column=width] .chart").bounding_box()
    assert chart is not None
    middle = chart["y"] + chart["height"] / 2
    page.mouse.move(chart["x"] + chart["width"] * 0.6, middle)
    page.mouse.down()
    page.mouse.move(chart["x"] + chart["width"] * 0.9, middle, steps=4)
    page.mouse.move(chart["x"] + chart["width"] + 5, middle, steps=2)
    page.mouse.up()
    bound = int(bound_of(page).input_value())
    assert 20 < bound <= 64
    expect(page.locator(".chip")).to_have_text(re.compile(f"width ≥ {bound}"))
    widths = [row["width"] for row in ask(store, "SELECT width FROM samples WHERE width > 0", latest)]
    expect(page.locator(".matching b")).to_have_text(str(sum(width >= bound for width in widths)))

    def would_pass(least: int, step: str | None) -> str:
        cut = {"column": "width", "at_least": least}
        body: dict[str, object] = {"bound": cut, "step": step, "conditions": []}
        found = visit.asked(f"/decisions/{latest}/cut", body)
        return f"{found['passing']} of {found['reaching']} pass"

    place = page.get_by_label("Where the cut stands")
    expect(page.locator(".panel .big")).to_have_text(would_pass(bound, "min_side_pixels"))
    place.select_option("end")
    expect(page.locator(".panel .big")).to_have_text(would_pass(bound, None))
    page.get_by_role("slider", name="width at least").focus()
    visit.press("ArrowRight")
    expect(bound_of(page)).not_to_have_value(str(bound))
    moved = int(bound_of(page).input_value())
    assert moved > bound
    expect(page.locator(".panel .big")).to_have_text(would_pass(moved, None))
    expect(place).to_have_value("end")
    typed = bound_of(page)
    typed.fill("50")
    typed.press("Enter")
    expect(page.locator(".panel .big")).to_have_text(would_pass(50, None))
    typed.press("ArrowUp")
    expect(typed).not_to_have_value("50")


def test_an_address_shows_the_same_again(visit: Visit) -> None:
    first = conditions({"column": "width", "at_least": 50}, {"column": "verdict", "one_of": ["keep"]})
    page = visit.open(f"#/signals?c={first}&at=end")
    expect(page.locator(".panel .big")).to_have_text(re.compile("pass$"))
    seen = page.locator(".panel .big").inner_text(), page.locator(".matching").inner_text()
    expect(page.locator(".chip")).to_have_count(2)
    page.wait_for_url("**d=*")  # names the decision, whichever is the latest later
    again = page.context.new_page()
    again.goto(page.url)
    expect(again.locator(".panel .big")).to_have_text(seen[0])
    expect(again.locator(".matching")).to_have_text(seen[1])
    expect(again.get_by_label("Where the cut stands")).to_have_value("end")
    expect(bound_of(again)).to_have_value("50")
    visit.press("g", "s")  # conditions come along
    visit.drawn("samples")
    expect(page.locator(".chip")).to_have_count(2)


def test_a_search_is_typed_and_a_picture_chosen(visit: Visit, tmp_path: Path) -> None:
    page = visit.open("#/overview")
    latest = visit.asked("/store")["decisions"][0]["ledger"]
    visit.press("/")
    visit.drawn("samples")
    expect(page.locator("#search")).to_be_focused()
    page.keyboard.type("a ship at sea")
    visit.press("Enter")
    expect(page.locator(".matching")).to_have_text(re.compile("nearest"))
    body = {"text": "a ship at sea", "conditions": [], "k": 60}
    found = visit.asked(f"/decisions/{latest}/search", body)["samples"]
    assert visit.uids == [one["uid"] for one in found]
    (tmp_path / "picture.jpg").write_bytes(photo(4))
    page.locator(".search input[type=file]").set_input_files(tmp_path / "picture.jpg")
    expect(page.locator(".chip").first).to_contain_text("picture.jpg")
    expect(visit.cards.first.locator(".value")).to_have_text(re.compile(r"^(1|0\.99\d*)$"))
    page.locator("#search").fill(found[0]["uid"])
    visit.press("Enter")
    visit.drawn("sample")
    page.get_by_role("link", name="Samples like this").click()
    expect(page.locator(".chip")).to_contain_text(found[0]["uid"])


def test_a_selection_is_ticked_sorted_and_saved(visit: Visit, store: Path, tmp_path: Path) -> None:
    page = visit.open("#/samples")
    latest = visit.asked("/store")["decisions"][0]["ledger"]
    page.locator("[data-column=verdict] input[value=keep]").check()
    kept = [row["uid"] for row in ask(store, "SELECT uid FROM samples WHERE verdict = 'keep'", latest)]
    expect(page.locator(".matching")).to_have_text(re.compile(f"^{len(kept)} samples?$"))
    expect(visit.cards).to_have_count(len(kept))
    assert visit.uids == kept
    page.get_by_label("Sort by").select_option("clip_cosine")
    page.get_by_role("button", name="lowest first").click()
    expect(page.get_by_role("button", name="highest first")).to_be_visible()
    falling = "SELECT uid FROM samples WHERE verdict = 'keep' ORDER BY clip_cosine DESC"
    expect(visit.cards.first).to_have_attribute("data-uid", ask(store, falling, latest)[0]["uid"])
    assert visit.uids == [row["uid"] for row in ask(store, falling, latest)]
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Save subset").click()
    saved = tmp_path / "saved.npy"
    waiting.value.save_as(saved)
    assert (np.load(saved) == np.load(store / "subsets" / f"{latest}.npy")).all()
    expect(page.locator(".toast")).to_contain_text(f"{len(kept)} samples saved")
    # The order is remembered, where the address asks for none.
    visit.open("#/samples?c=")
    expect(page.get_by_label("Sort by")).to_have_value("clip_cosine")


def test_samples_are_walked_through_by_keys(visit: Visit) -> None:
    page = visit.open("#/samples?sort=width&desc=1")
    uids = visit.uids
    visit.press("ArrowRight", "ArrowRight")
    expect(visit.cards.nth(1)).to_be_focused()
    visit.press("Enter")
    visit.drawn("sample")
    expect(page.locator(".facts-list")).to_contain_text(uids[1])
    expect(page.locator(".pager")).to_contain_text(f"2 of {len(uids)}")
    visit.press("ArrowRight")
    expect(page.locator(".facts-list")).to_contain_text(uids[2])
    visit.press("Escape")
    visit.drawn("samples")
    expect(visit.cards.nth(1)).to_be_focused()  # the list stands as it was left
    for key, name in (("o", "overview"), ("g", "signals"), ("d", "duplicates"), ("q", "sql"), ("a", "api")):
        visit.press("g", key)
        visit.drawn(name)
    page.go_back()
    visit.drawn("sql")
    visit.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("light or dark")
    visit.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    visit.press("t")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    page.reload()
    assert page.locator("html").get_attribute("data-theme") == "dark"


def test_a_sample_shows_votes_copies_and_neighbours(visit: Visit, store: Path) -> None:
    visit.open("#/overview")
    latest = visit.asked("/store")["decisions"][0]["ledger"]
    question = "SELECT uid, duplicate_of FROM samples WHERE dropped_by = 'drop_exact_duplicates' LIMIT 1"
    (copy,) = ask(store, question, latest)
    page = visit.open(f"#/sample/{copy['uid']}")
    expect(page.locator(".votes tbody tr")).to_have_count(4)
    expect(page.locator(".near a.sample").first).to_be_visible()
    expect(page.locator(".page")).to_contain_text("Compared with")
    picture = page.locator(".big-picture img")
    expect(picture).to_have_js_property("complete", value=True)
    assert picture.evaluate("image => image.naturalWidth") > 16
    # Two rows with one uid are told apart by their number.
    numbers = visit.asked(f"/decisions/{latest}/samples/{copy['duplicate_of']}")
    original = visit.open(f"#/sample/{copy['duplicate_of']}?n={numbers['sample']['number']}")
    expect(original.locator(".page")).to_contain_text("Dropped as its copies")
    missing = visit.open("#/sample/nobody")
    expect(missing.locator(".empty")).to_contain_text("No such sample")


def test_clusters_are_ordered_and_lead_to_their_samples(visit: Visit) -> None:
    page = visit.open("#/clusters")
    page.get_by_label("Filter").select_option("prune_clusters")
    expect(page.locator(".group .small-text").first).to_contain_text("mean distance")
    page.get_by_label("Order").select_option("smallest")
    page.wait_for_url("**order=smallest**")
    first = page.locator(".group").first
    size = re.match(r"\d+", first.locator("header > span").last.inner_text())
    assert size is not None
    first.locator("h3 a").click()
    visit.drawn("samples")
    expect(page.locator(".matching")).to_have_text(re.compile(f"^{size.group()} samples?$"))


def test_sql_is_asked_drawn_and_downloaded(visit: Visit, tmp_path: Path) -> None:
    page = visit.open("#/sql")
    page.get_by_role("button", name="What each filter took").click()
    expect(page.locator(".answer tbody tr").first).to_be_visible()
    page.get_by_role("button", name="plot").click()
    expect(page.locator(".bars-plot rect").first).to_be_visible()
    page.get_by_label("SQL", exact=True).fill("SELECT uid, width FROM samples ORDER BY uid LIMIT 3")
    visit.press("Control+Enter")
    page.get_by_role("button", name="table").click()
    expect(page.locator(".answer tbody tr")).to_have_count(3)
    with page.expect_download() as waiting:
        page.get_by_role("button", name="csv").click()
    waiting.value.save_as(tmp_path / "answer.csv")
    uids = [line.split(",")[0].strip('"') for line in (tmp_path / "answer.csv").read_text().splitlines()]
    assert uids[1:] == page.locator(".answer td a").all_inner_texts()
    page.get_by_label("SQL", exact=True).fill("SELEC uid FROM samples")
    visit.press("Control+Enter")
    expect(page.get_by_role("alert")).to_contain_text("syntax error")
    page.get_by_label("SQL", exact=True).fill("DROP VIEW samples")
    visit.press("Control+Enter")
    expect(page.get_by_role("alert")).to_contain_text("one SELECT at a time")


def test_a_recipe_is_changed_predicted_and_saved(visit: Visit, tmp_path: Path) -> None:
    page = visit.open("#/recipe")
    decisions = visit.asked("/store")["decisions"]
    text = page.get_by_label("Recipe", exact=True)
    ran = text.input_value()
    looser = ran.replace("keep: 0.25", "keep: 0.5")
    assert looser != ran
    text.fill(looser)
    page.get_by_role("button", name="Predict").click()
    expect(page.locator(".results .big b")).to_have_text(str(decisions[1]["verdicts"]["keep"]))
    expect(page.locator(".results .group h3").first).to_have_text("dropped by prune_clusters → kept")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Save as file").click()
    assert waiting.value.suggested_filename == "stricter.yaml"
    waiting.value.save_as(tmp_path / "saved.yaml")
    assert (tmp_path / "saved.yaml").read_text() == looser
    visit.press("Escape")
    page.reload()
    expect(text).to_have_value(looser)  # what was written is not lost
    text.fill("name: x\nfilters:\n  - min_sid: 3\n")
    visit.press("Control+Enter")
    expect(page.get_by_role("alert")).to_contain_text("did you mean min_side_pixels")
    page.get_by_role("alert").get_by_role("button", name="line 3").click()
    chosen = "area => area.value.slice(area.selectionStart, area.selectionEnd)"
    assert text.evaluate(chosen) == "  - min_sid: 3"
    page.get_by_role("button", name="As it ran").click()
    expect(text).to_have_value(ran)


def test_two_decisions_are_compared(visit: Visit) -> None:
    page = visit.open("#/compare")
    here, there = visit.asked("/store")["decisions"]
    found = visit.asked(f"/decisions/{here['ledger']}/compare/{there['ledger']}")
    expect(page.locator(".results > .big")).to_contain_text(
        f"{found['kept']} kept here, {found['other']} there"
    )
    expect(page.locator(".difference .less", has_text="keep: 0.25")).to_be_visible()
    expect(page.locator(".difference .more", has_text="keep: 0.5")).to_be_visible()
    assert page.locator(".results .group").count() == len(found["changes"])


def test_hostile_captions_are_text(browser: Browser, tmp_path: Path) -> None:
    members: list[Member] = []
    for at, caption in enumerate(CAPTIONS):
        members += sample(f"{at:04d}", photo(at), caption, url="javascript:alert(5)")
    write_tar(tmp_path / "pool" / "00000.tar", members)
    curate(PLAIN, tmp_path / "pool", tmp_path / "store")
    with served(tmp_path / "store") as address, visiting(browser, address) as visit:
        page = visit.open("#/samples")
        shown = visit.cards.locator(".caption")
        assert shown.evaluate_all("all => all.map(one => one.textContent)") == list(CAPTIONS)
        assert shown.locator("*").count() == 0
        assert page.get_by_text(RIGHT_TO_LEFT).evaluate("one => one.matches(':dir(rtl)')")
        for at in range(len(CAPTIONS)):
            visit.cards.nth(at).click()
            visit.drawn("sample")
            assert page.locator("h1 .headline").text_content() == CAPTIONS[at]
            assert page.locator("h1 .headline *").count() == 0
            assert page.locator("a[href^='javascript']").count() == 0
            visit.press("Escape")
            visit.drawn("samples")
        question = quote("SELECT caption FROM samples")
        visit.open(f"#/sql?q={question}")
        expect(page.locator(".answer tbody tr")).to_have_count(len(CAPTIONS))
        assert page.locator(".answer td *:not(span)").count() == 0
        visit.open("#/overview")
        expect(page.locator(".head p")).to_have_text("<b>not bold</b>")
        assert page.evaluate("window.hacked") is None
        # No CLIP measured this pool: the page says so, and still finds a sample by its key.
        visit.open("#/samples")
        expect(page.locator(".top")).to_contain_text("no embeddings to search")
        page.locator("#search").fill("0003")
        visit.press("Enter")
        visit.drawn("sample")
        expect(page.locator("h1")).to_have_text(RIGHT_TO_LEFT)


def test_markup_of_the_pool_is_text_on_every_page(visit: Visit) -> None:
    page = visit.open("#/clusters")
    expect(page.locator(".caption", has_text="<b>bold</b>").first).to_be_visible()
    assert page.locator(".caption b").count() == 0
    visit.open("#/duplicates")
    visit.open("#/samples")
    expect(page.locator(".caption", has_text=HOSTILE[:20]).first).to_be_visible()


def test_a_service_that_stopped_is_told_and_tried_again(browser: Browser, store: Path) -> None:
    with served(store) as address:
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{address}/#/duplicates")
        expect(page.locator("#main[data-page=duplicates]")).to_be_visible()
    page.get_by_role("link", name="Clusters").click()
    expect(page.get_by_role("alert")).to_contain_text("is `curate serve` still running?")
    expect(page.get_by_role("button", name="Try again")).to_be_visible()
    context.close()


def test_stores_without_a_decision_say_so(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "store.json").write_text(json.dumps({"curate_store": 1}))
    with served(tmp_path) as address, visiting(browser, address) as visit:
        expect(visit.open("").locator(".empty")).to_contain_text("No decision yet")
    (tmp_path / "store.json").write_text(json.dumps({"curate_store": 99}))
    with served(tmp_path) as address:
        context = browser.new_context()
        page = context.new_page()
        page.goto(address)
        expect(page.get_by_role("alert")).to_contain_text("store layout 99")
        context.close()


def test_a_token_opens_the_pages_and_leaves_the_address(browser: Browser, store: Path) -> None:
    with served(store, Door(frozenset(), TOKEN)) as address, visiting(browser, address) as visit:
        page = visit.open(f"?token={TOKEN}")
        visit.drawn("overview")
        assert TOKEN not in page.url
        assert TOKEN not in page.evaluate("document.cookie")
        page.reload()
        visit.drawn("overview")
        expect(page.locator(".tile")).to_have_count(5)
