"""A service on loopback and a real Chromium to look at it with."""

from __future__ import annotations

import os
import re
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, ViewportSize, expect, sync_playwright

from curate.console import Bounds
from curate.serve.app import make_app
from curate.serve.library import Library
from curate.serve.security import Door
from curate.serve.settings import Service
from tests.end_to_end.conftest import absent
from transforms.store import Store

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
LAPTOP: ViewportSize = {"width": 1280, "height": 800}
DESK: ViewportSize = {"width": 1920, "height": 1080}
BOUNDS = Bounds(seconds=5, memory_mib=256)
# A machine with other work to do takes its time.
expect.set_options(timeout=20_000)
# Chromium says this of every answer with such a status; the page says it better.
REFUSED = re.compile(r"Failed to load resource: the server responded with a status of 4\d\d")


def find_chromium() -> str:
    """The browser's program: of the variable CHROMIUM, else on the path; skips where there is none."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is None:
        absent("no Chromium: install it, or name its program in CHROMIUM")
    return str(found)


@contextmanager
def started_browser() -> Iterator[Browser]:
    """A headless Chromium."""
    program = find_chromium()
    with sync_playwright() as playwright:
        # Its sandbox needs rights that containers do not have; it opens nothing but our own pages.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def served(store: Path, door: Door | None = None) -> Iterator[str]:
    """The address of a service over this store, on a free port."""
    service = Service(Library(Store.at(str(store))), BOUNDS)
    app = make_app(service, door or Door())
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="warning", ws="none", timeout_graceful_shutdown=2)
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)


@dataclass
class Visit:
    """One tab, and everything that went wrong in it.

    Attributes:
        address: of the service; faults: errors of scripts and the console, dialogs, foreign requests.
    """

    page: Page
    address: str
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(20_000)
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.faults.append(f"script: {error}"))
        self.page.on("request", lambda asked: self._look(asked.url))
        self.page.on("dialog", self._dismiss)

    def open(self, place: str) -> Page:
        """The page at this place, such as `#/samples`, drawn."""
        self.page.goto(f"{self.address}/{place}")
        self.drawn()
        return self.page

    def drawn(self, name: str | None = None) -> None:
        """Waits until a page stands there, of this name where one is given."""
        expect(self.page.locator(f"#main[data-page{'' if name is None else f'={name}'}]")).to_be_visible()

    def press(self, *keys: str) -> None:
        """Presses keys one after the other."""
        for key in keys:
            self.page.keyboard.press(key)

    @property
    def cards(self) -> Locator:
        """The samples that are listed."""
        return self.page.locator(".results a.sample")

    @property
    def uids(self) -> list[str]:
        """The uids of the samples that are listed."""
        found: list[str] = self.cards.evaluate_all("cards => cards.map(card => card.dataset.uid)")
        return found

    def asked(self, path: str, body: Any = None) -> Any:
        """What the service answers to this page."""
        return self.page.evaluate(
            "([path, body]) => fetch(path, body === null ? {} : {method: 'POST', body: JSON.stringify(body), "
            "headers: {'content-type': 'application/json'}}).then(answer => answer.json())",
            [f"/api{path}", body],
        )

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"} and not REFUSED.match(message.text):
            self.faults.append(f"{message.type}: {message.text}")

    def _look(self, address: str) -> None:
        if not address.startswith((self.address, "data:", "blob:")):
            self.faults.append(f"asks {address}")

    def _dismiss(self, dialog: Any) -> None:
        self.faults.append(f"dialog: {dialog.message}")
        dialog.dismiss()


@contextmanager
def visiting(browser: Browser, address: str, size: ViewportSize = LAPTOP) -> Iterator[Visit]:
    """A tab of its own, without anything remembered; fails where something went wrong in it."""
    context = browser.new_context(viewport=size, accept_downloads=True)
    visit = Visit(context.new_page(), address)
    try:
        yield visit
    finally:
        context.close()
    assert visit.faults == []
