"""A headless Chromium for the journeys: looks at pages, keeps pictures, and refuses errors."""

import os
import shutil
from contextlib import contextmanager
from functools import cache

from house.reading import ROOT
from playwright.sync_api import sync_playwright

PICTURES = ROOT / "artefacts" / "journeys"
# a picture of every page in both sizes and languages, for people who want to look at them
WITH_PICTURES = "YANGFAN_TEST_PICTURES" in os.environ
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
]  # fmt: skip
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 360, "height": 780}
# in axe's own words; what is only “minor” or “moderate” is looked at by hand
GRAVE = ("serious", "critical")


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


@cache
def axe_source():
    """The text of axe-core, which looks for what shuts people out."""
    return (ROOT / "node_modules" / "axe-core" / "axe.min.js").read_text("utf-8")


# What would not be counted is not looked for: other rules, what only axe's own reports need,
# paths to elements and a second look at style sheets.
_LOOK = """grave => axe.run(document, {
    rules: Object.fromEntries(axe._audit.rules
        .filter(rule => !grave.includes(rule.impact)).map(rule => [rule.id, {enabled: false}])),
    resultTypes: ['violations'], selectors: false, preload: false,
})"""


def barriers(page):
    """What axe finds on a page and calls serious or critical: rule, element, why."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(axe_source() + ";0")
    found = page.evaluate(_LOOK, GRAVE)["violations"]
    return [
        f"{one['id']}: {node['html'][:160]} ({node['failureSummary'].splitlines()[-1].strip()})"
        for one in found
        if one["impact"] in GRAVE
        for node in one["nodes"]
    ]


class Visitor:
    """One person at one screen; remembers whatever the browser complained about.

    One who looks closely has axe at hand on every page, which is cheaper than to bring it to each.
    """

    def __init__(self, browser, url, *, size=DESKTOP, language="zh-CN", person=None, closely=False):
        self.context = browser.new_context(viewport=size, locale=language, base_url=url)
        if closely:
            self.context.add_init_script(axe_source())
        if person is not None:
            self.context.add_cookies(person.cookies())
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

    def press(self, selector):
        """Press what leads to another page or draws this one anew; say yes when it asks first."""
        button = self.page.locator(selector).first
        is_asking = button.get_attribute("data-confirm")
        with self.page.expect_navigation(wait_until="load"):
            button.click()
            if is_asking:
                self.page.click("#confirm button[value=yes]")

    def keep(self, name):
        """Keep a picture, and make sure that nothing sticks out of the screen."""
        self.page.screenshot(path=PICTURES / f"{name}.png", full_page=True)
        assert not self.overhang(), f"{name}: {self.overhang()}"

    @contextmanager
    def at(self, size):
        """Look at the same page at another screen, and come back to this one."""
        usual = self.page.viewport_size
        self.page.set_viewport_size(size)
        yield
        self.page.set_viewport_size(usual)

    def overhang(self):
        """Say by how much the page is wider than the screen; nothing when it fits."""
        wide = self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        return [f"the page is {wide} px wider than the screen"] if wide > 1 else []

    def examine(self, name):
        """Keep a picture of a page on the way, and make sure that everybody can use it."""
        self.keep(name)
        found = barriers(self.page)
        assert not found, "\n".join([name, *found])
