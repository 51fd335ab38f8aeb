"""Headless Chromium on the console. Whatever goes wrong in a page fails the test that opened it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from tests.support.console import Browser
from tests.support.waiting import FOREVER_S

# They take long to import, in each of the suite's workers, most of which open no page.
if TYPE_CHECKING:
    from playwright import sync_api
    from playwright.sync_api import ConsoleMessage, Page

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
needs_chromium = pytest.mark.skipif(
    PROGRAM is None, reason="needs Chromium (apt-get install chromium)"
)
SCREENSHOTS = "PREMBLYD_SCREENSHOTS"  # names a folder for them
WIDE, PHONE, HEIGHT = 1440, 360, 800  # pixels
PAPER = 718  # A4, with the margins that Chromium leaves
CUT_OFF = """[...document.querySelectorAll("*")]
    .filter(each => getComputedStyle(each).overflowX != "visible")
    .filter(each => each.scrollWidth > each.clientWidth)
    .map(each => each.outerHTML.slice(0, 200))"""
Scheme = Literal["light", "dark"]
SCREENS: tuple[tuple[int, Scheme], ...] = ((WIDE, "light"), (PHONE, "dark"))
FOREVER_MS = FOREVER_S * 1000
# Chromium says so of every answer that is no 200; the tests look at the page itself.
_ANSWERED = "Failed to load resource: the server responded with a status of"
_LISTEN = """
document.addEventListener("securitypolicyviolation", (violation) => {
    console.error(`CSP: ${violation.violatedDirective} ${violation.sourceFile}`);
});
"""


@contextmanager
def launched() -> "Iterator[sync_api.Browser]":
    """Run Chromium."""
    from playwright import sync_api

    sync_api.expect.set_options(timeout=FOREVER_MS)
    with sync_api.sync_playwright() as playwright:
        # Root, and a container, can't have Chromium's sandbox. It meets our own pages alone.
        browser = playwright.chromium.launch(
            executable_path=PROGRAM, chromium_sandbox=False, timeout=FOREVER_MS
        )
        yield browser
        browser.close()


@contextmanager
def file_opened(file: Path) -> "Iterator[Page]":
    """Open a page that is a file. Fail if it asks for anything else or opens a dialog, and if it
    can't be read on each screen and on paper. A screenshot of each screen is kept, if somebody
    asked for them."""
    asked: list[str] = []
    with launched() as browser:
        page = browser.new_page()
        page.set_default_timeout(FOREVER_MS)
        page.on("request", lambda request: asked.append(request.url))
        page.on("dialog", lambda dialog: asked.append(dialog.message))
        page.goto(file.as_uri())
        for width in (WIDE, PHONE):
            page.set_viewport_size({"width": width, "height": HEIGHT})
            if folder := os.environ.get(SCREENSHOTS):
                page.screenshot(path=Path(folder) / f"{file.stem}-{width}.png", full_page=True)
            assert overflow_px(page) == 0
            assert serious_faults(page) == []
        page.emulate_media(media="print")
        page.set_viewport_size({"width": PAPER, "height": HEIGHT})
        assert page.evaluate(CUT_OFF) == [], "paper has no scroll bars"
        page.emulate_media(media="screen")
        page.set_viewport_size({"width": PHONE, "height": HEIGHT})
        assert asked == [file.as_uri()]
        yield page


@dataclass(slots=True, kw_only=True)
class Chromium:
    """A browser's process, the console that it looks at, and where its screenshots go."""

    browser: "sync_api.Browser"
    own: Browser  # who is signed in
    screenshots: Path | None

    @property
    def url(self) -> str:
        return f"http://{self.own.address}"

    @contextmanager
    def window(
        self,
        *,
        width: int = WIDE,
        javascript: bool = True,
        signed_in: bool = True,
        expected: tuple[str, ...] = (),
    ) -> "Iterator[Page]":
        """Open a window of its own, with its own cookies. Fail if a script threw, something was
        refused by the CSP, a dialog opened or another host was asked; `expected` are parts of
        messages that may come."""
        context = self.browser.new_context(
            base_url=self.url,
            viewport={"width": width, "height": HEIGHT},
            java_script_enabled=javascript,
            reduced_motion="reduce",
        )
        context.set_default_timeout(FOREVER_MS)
        context.add_init_script(_LISTEN)
        if signed_in:
            for name, value in self.own.cookies.items():
                cookie: Any = {"name": name, "value": value, "url": self.url, "sameSite": "Strict"}
                context.add_cookies([cookie])
        page = context.new_page()
        faults = _watch(page, self.url)
        try:
            yield page
            found = [fault for fault in faults if not any(part in fault for part in expected)]
            assert found == []
        finally:
            context.close()

    def resize(self, page: "Page", width: int, scheme: Scheme) -> None:
        """Show a page on another screen."""
        page.set_viewport_size({"width": width, "height": HEIGHT})
        page.emulate_media(color_scheme=scheme)

    def picture(self, page: "Page", name: str) -> None:
        """Keep a screenshot of the whole page, if somebody asked for them."""
        if self.screenshots is not None:
            self.screenshots.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=self.screenshots / f"{name}.png", full_page=True)


@contextmanager
def chromium(own: Browser, folder: Path | None = None) -> Iterator[Chromium]:
    """Run Chromium. Screenshots go to `folder`, or to the one that PREMBLYD_SCREENSHOTS names;
    without either, none are made."""
    if asked := os.environ.get(SCREENSHOTS):
        folder = Path(asked)
    with launched() as browser:
        yield Chromium(browser=browser, own=own, screenshots=folder)


def _watch(page: "Page", url: str) -> list[str]:
    """Return a list that gets what goes wrong in a page from now on."""
    faults: list[str] = []

    def heard(message: "ConsoleMessage") -> None:
        if message.type in {"error", "warning"} and not message.text.startswith(_ANSWERED):
            faults.append(f"console: {message.text}")

    def asked(dialog: "sync_api.Dialog") -> None:
        faults.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def requested(request: "sync_api.Request") -> None:
        if not request.url.startswith((f"{url}/", "data:")):
            faults.append(f"request: {request.url}")

    page.on("console", heard)
    page.on("dialog", asked)
    page.on("pageerror", lambda error: faults.append(f"script: {error}"))
    page.on("request", requested)
    page.on("popup", lambda popup: faults.append(f"window: {popup.url}"))
    return faults


def overflow_px(page: "Page") -> int:
    """Return by how much a page is wider than its window."""
    page.wait_for_load_state()  # with its style: a form may have led here
    width: int = page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    return width


def serious_faults(page: "Page") -> list[str]:
    """Return what axe finds that keeps people from using a page."""
    from axe_playwright_python.sync_playwright import Axe

    page.wait_for_load_state()
    violations: list[dict[str, Any]] = Axe().run(page).response["violations"]
    return [
        f"{found['id']}: {node['html'][:200]}"
        for found in violations
        if found["impact"] in {"serious", "critical"}
        for node in found["nodes"]
    ]
