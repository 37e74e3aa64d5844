"""Takes the pictures of docs/explorer.md from a service over the demo's store.

`curate demo`, `curate serve demo-out/store`, then
`python docs/screenshots.py http://127.0.0.1:8000`; CHROMIUM names the browser where it is not on the path.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

IMAGES = Path(__file__).parent / "images"
SMALL = (1280, 800)
LARGE = (1920, 1080)
COLOURS = 256
MOST_BYTES = 200_000
SQL = (
    "SELECT floor(clip_cosine * 40) / 40 AS cosine_from, count(*) AS samples,\n"
    "  avg((verdict = 'keep')::INT) AS kept_share\n"
    "FROM samples WHERE clip_cosine > 0.45\nGROUP BY 1 ORDER BY 1"
)


def main() -> None:
    """Writes every picture, at most 200 KB each."""
    address = sys.argv[1].rstrip("/")
    program = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    expect.set_options(timeout=60_000)  # the first search loads a model
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for name, (width, height), dark in (
            ("overview", SMALL, False),
            ("signals", SMALL, False),
            ("samples", LARGE, True),
            ("sample", LARGE, True),
            ("sql", SMALL, False),
        ):
            context = browser.new_context(
                viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
            )
            page = context.new_page()
            SHOWN[name](page, address)
            page.wait_for_load_state("networkidle")
            write(page.screenshot(), IMAGES / f"explorer-{name}.png")
            context.close()
        browser.close()


def opened(page: Page, address: str, place: str) -> None:
    """Opens a page of the explorer and waits until it is drawn."""
    page.goto(f"{address}/#/{place}")
    expect(page.locator("#main[data-page]")).to_be_visible()


def overview(page: Page, address: str) -> None:
    """The waterfall."""
    opened(page, address, "overview")


def signals(page: Page, address: str) -> None:
    """A range drawn on the histogram of CLIP's cosine."""
    opened(page, address, "signals")
    box = page.locator("[data-column=clip_cosine] .chart").bounding_box()
    if box is None:
        raise SystemExit("the decision has no clip_cosine")  # noqa: TRY003
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.925, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] + 4, middle, steps=5)
    page.mouse.up()
    expect(page.locator(".panel .big")).to_be_visible()
    page.wait_for_timeout(1000)  # the last round of counting


def samples(page: Page, address: str) -> None:
    """A search by text."""
    opened(page, address, "samples?q=two+red+fish")


def sample(page: Page, address: str) -> None:
    """A sample that was dropped as a copy."""
    opened(page, address, 'samples?c=[{"column":"dropped_by","one_of":["drop_copies"]}]')
    page.locator("a.sample").first.click()
    expect(page.locator(".near a.sample").first).to_be_visible()


def sql(page: Page, address: str) -> None:
    """An answer as a plot."""
    opened(page, address, "sql?view=plot")
    page.get_by_label("SQL", exact=True).fill(SQL)
    page.keyboard.press("Control+Enter")
    page.get_by_label("What the bars show").select_option("2")
    page.get_by_role("button", name="Run", exact=True).focus()


SHOWN = {"overview": overview, "signals": signals, "samples": samples, "sample": sample, "sql": sql}


def write(content: bytes, path: Path) -> None:
    """The picture with a palette, which halves it several times; without one where that is enough."""
    image = Image.open(io.BytesIO(content)).convert("RGB")
    colours = COLOURS
    while True:
        stream = io.BytesIO()
        image.quantize(colours, dither=Image.Dither.NONE).save(stream, "PNG", optimize=True)
        if stream.tell() <= MOST_BYTES or colours <= 16:
            path.write_bytes(stream.getvalue())
            return
        colours //= 2


if __name__ == "__main__":
    main()
