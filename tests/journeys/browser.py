"""A headless Chromium for the journeys: looks at pages, keeps pictures, and refuses errors."""

import os
import shutil
from contextlib import contextmanager

from house.reading import ROOT
from playwright.sync_api import sync_playwright

PICTURES = ROOT / "artefacts" / "journeys"
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
]  # fmt: skip
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 360, "height": 780}


def chromium():
    """Return the installed browser's path, or None."""
    return os.environ.get("YANGFAN_TEST_CHROMIUM") or shutil.which("chromium")


@contextmanager
def browsing():
    """Give a browser that is closed afterwards."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield browser
        browser.close()


class Visitor:
    """One person at one screen; remembers whatever the browser complained about."""

    def __init__(self, browser, url, *, size=DESKTOP, language="zh-CN"):
        self.context = browser.new_context(viewport=size, locale=language, base_url=url)
        self.page = self.context.new_page()
        self.page.set_default_timeout(20_000)
        self.complaints = []
        self.page.on("pageerror", lambda error: self.complaints.append(f"script: {error}"))
        self.page.on("response", self._note)
        self.page.on(
            "console",
            lambda m: self.complaints.append(m.text) if "Content Security" in m.text else None,
        )

    def _note(self, response):
        if response.status >= 400:
            self.complaints.append(f"{response.status} {response.request.method} {response.url}")

    def go(self, path):
        """Open a page of the hub."""
        self.page.goto(path, wait_until="load")

    def keep(self, name):
        """Keep a picture, and make sure that nothing sticks out of the screen."""
        self.page.screenshot(path=PICTURES / f"{name}.png", full_page=True)
        wide = self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert wide <= 1, f"{name}: the page is {wide} px wider than the screen"
