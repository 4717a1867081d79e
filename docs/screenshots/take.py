"""Takes the README's pictures from a fresh hub: `make shots`."""
# ruff: noqa: INP001

import sys
import time
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent.parent), str(HERE.parent.parent / "tests")]

from journeys.browser import FLAGS, chromium  # noqa: E402

from bench.hub import Hub  # noqa: E402

DESKTOP = {"width": 1280, "height": 820}
PHONE = {"width": 375, "height": 812}
PATIENCE_SECONDS = 30


def take() -> None:
    """Start a hub, let an order stop at the ERP, and take the three pictures."""
    hub = Hub()
    try:
        hub.start()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
            _front(_open(browser, hub, "zh-CN", DESKTOP))
            _stopped_run(_open(browser, hub, "zh-CN", DESKTOP), hub)
            _bundle(_open(browser, hub, "en", PHONE))
            browser.close()
    finally:
        hub.stop()


def _open(browser: Browser, hub: Hub, language: str, size: dict[str, int]) -> Page:
    context = browser.new_context(
        base_url=hub.url, locale=language, viewport=size, device_scale_factor=1.5
    )
    return context.new_page()


def _keep(page: Page, name: str) -> None:
    page.screenshot(path=HERE / f"{name}.png")


def _front(page: Page) -> None:
    page.goto("/")
    _keep(page, "home-zh")


def _stopped_run(page: Page, hub: Hub) -> None:
    page.goto("/sign-up")
    page.fill("[name=organization_name]", "滨海精密五金厂")
    page.fill("[name=name]", "王芳")
    page.fill("[name=email]", "wang@binhai.example")
    page.fill("[name=password]", "hebei-lantern-48-orchard")
    page.click("form[action='/sign-up'] button.btn-primary")
    page.wait_for_url(f"{hub.url}/")
    page.goto("/bundles/order-to-chat/install")
    page.click("form[action*='install'] button[type=submit]")
    page.wait_for_selector("main a[href='/toolbox']")
    hub.vendor("demo-erp").call("POST", "/_mock/behaviour", {"mode": "reject"})
    hub.vendor("demo-shop").call("POST", "/_mock/emit", {"trigger": "order_paid", "count": 1})
    page.goto(_parked(page))
    _keep(page, "run-zh")


def _parked(page: Page) -> str:
    """Wait for the run to stop and return its path."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        page.goto("/runs?view=parked")
        found = page.locator("main a[href^='/runs/run_']")
        if found.count():
            return str(found.first.get_attribute("href"))
        time.sleep(0.5)
    raise SystemExit("no run stopped")


def _bundle(page: Page) -> None:
    page.goto("/bundles/order-to-chat?lang=en")
    _keep(page, "bundle-phone-en")


if __name__ == "__main__":
    take()
