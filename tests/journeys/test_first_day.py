"""The first day of a firm, in a real browser: from signing up to repairing a stopped run."""

import time

import pytest
from journeys.browser import DESKTOP, PHONE, Visitor, browsing, chromium

from bench.hub import Hub

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(chromium() is None, reason="Chromium is not installed"),
]


@pytest.fixture(scope="module")
def hub():
    made = Hub()
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def browser():
    with browsing() as opened:
        yield opened


def sign_up(visitor, name, email):
    page = visitor.page
    visitor.go("/sign-up")
    page.fill("[name=organization_name]", name)
    page.fill("[name=name]", "王芳")
    page.fill("[name=email]", email)
    page.fill("[name=password]", "hebei-lantern-48-orchard")
    visitor.keep("02-sign-up")
    page.locator("form[action='/sign-up'] button.btn-primary").click()
    page.wait_for_load_state()
    assert "/sign-up" not in page.url, page.inner_text("main")[:500]


def wait_for(check, seconds=20):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = check()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError("it did not happen in time")


def runs_page(visitor):
    visitor.go("/runs")
    return visitor.page.inner_text("main")


def newest_run(visitor):
    visitor.go("/runs")
    return visitor.page.locator("main a[href^='/runs/run_']").first.get_attribute("href")


def test_from_signing_up_to_a_repaired_run(hub, browser):
    owner = Visitor(browser, hub.url)
    page = owner.page
    owner.go("/")
    owner.keep("01-front")
    sign_up(owner, "滨海精密五金厂", "wang@binhai.example")
    owner.keep("03-my-hub-new")

    # browse a slot, open the bundle, install it with progress
    owner.go("/slots")
    owner.keep("04-slots")
    owner.go("/slots/marketing")
    owner.keep("05-slot")
    owner.go("/bundles")
    owner.keep("06-bundles")
    owner.go("/bundles/order-to-chat")
    owner.keep("07-bundle")
    page.locator("a.btn-primary[href*='install']").first.click()
    page.wait_for_load_state()
    owner.keep("08-install")
    page.locator("form[action*='install'] button[type=submit]").click()
    page.wait_for_url("**/rollouts/**")
    owner.keep("09-rollout-running")
    page.wait_for_selector("main a[href='/toolbox']", timeout=30_000)
    wait_for(lambda: page.locator("[hx-trigger*='every'], [hx-trigger*='load delay']").count() == 0)
    owner.keep("10-rollout-done")

    owner.go("/toolbox")
    owner.keep("11-toolbox")
    assert page.locator(f"main a[href^='http://127.0.0.1:{hub.vendor_port}']").count() >= 1

    # an order flows
    shop = Visitor(browser, f"http://127.0.0.1:{hub.vendor_port}")
    shop.go("/")
    shop.page.locator("form[action='/_page/emit'] button").click()
    shop.page.wait_for_load_state()
    shop.keep("12-demo-shop")
    wait_for(lambda: newest_state(owner) == "succeeded")
    owner.keep("13-runs")
    owner.go(newest_run(owner))
    owner.keep("14-run-succeeded")

    # break the ERP: the run stops and says why
    hub.vendor("demo-erp").call("POST", "/_mock/behaviour", {"mode": "reject"})
    shop.go("/")
    shop.page.locator("form[action='/_page/emit'] button").click()
    wait_for(lambda: newest_state(owner) == "parked")
    owner.go(newest_run(owner))
    owner.keep("15-run-parked")
    said = page.inner_text("main")
    assert "账期" in said, said[:800]
    owner.go("/")
    owner.keep("16-my-hub-needs-me")

    # repair, replay
    hub.vendor("demo-erp").call("POST", "/_mock/behaviour", {"mode": "ok"})
    run = newest_run(owner)
    owner.go(run)
    page.locator("form[action*='replay'] button, form[action*='retry'] button").first.click()
    confirm_if_asked(page)
    wait_for(lambda: state_of(owner, run) == "succeeded")
    owner.keep("17-run-repaired")
    counted = hub.vendor("demo-erp").call("GET", "/_mock/ledger/count")
    assert counted["actions"]["create_sales_order"]["documents"] == 2
    assert owner.complaints == []
    assert shop.complaints == []


def confirm_if_asked(page):
    dialog = page.locator("dialog[open] button[value=yes]")
    if dialog.count():
        dialog.click()
    page.wait_for_load_state()


def api(visitor, path):
    answer = visitor.context.request.get(path, headers={"Accept": "application/json"})
    assert answer.ok, answer.text()
    return answer.json()


def newest_state(visitor):
    items = api(visitor, "/api/v1/runs")["items"]
    visitor.go("/runs")
    return items[0]["state"] if items else None


def state_of(visitor, run):
    state = api(visitor, f"/api/v1{run}")["state"]
    visitor.go(run)
    return state


PAGES = [
    "/", "/slots", "/slots/production", "/apps", "/apps/erpnext", "/bundles",
    "/bundles/order-to-chat", "/compare?a=erpnext&a=odoo-ce", "/events-catalogue",
    "/events-catalogue/order.paid", "/toolbox", "/flows", "/flows/new", "/runs", "/events",
    "/sources", "/sources/new", "/endpoints", "/endpoints/new", "/connections", "/connectors",
    "/connectors/demo-erp", "/installations", "/settings", "/settings/members",
    "/settings/api-keys", "/settings/audit", "/settings/event-types", "/me", "/me/security",
    "/help", "/developers",
]  # fmt: skip


@pytest.mark.parametrize(
    ("size", "language"),
    [(DESKTOP, "zh-CN"), (DESKTOP, "en-GB"), (PHONE, "zh-CN"), (PHONE, "en-GB")],
    ids=["desktop-zh", "desktop-en", "phone-zh", "phone-en"],
)
def test_every_page_fits_its_screen_and_speaks_its_language(hub, browser, size, language):
    visitor = Visitor(browser, hub.url, size=size, language=language)
    sign_up(visitor, "南湖电子", f"li-{size['width']}-{language}@nanhu.example")
    short = f"{'phone' if size is PHONE else 'desktop'}-{language[:2]}"
    for path in PAGES:
        visitor.go(path)
        visitor.keep(f"{short}{path.replace('/', '-').split('?')[0]}")
        words = visitor.page.inner_text("main h1")
        has_chinese = any("\u4e00" <= letter <= "\u9fff" for letter in words)
        assert has_chinese == (language == "zh-CN") or "南湖" in words, (path, words)
    assert visitor.complaints == []


def test_no_link_is_dead(hub, browser):
    """Follow every link of every page a new owner can reach, once."""
    visitor = Visitor(browser, hub.url)
    sign_up(visitor, "东山食品", "chen@dongshan.example")
    seen, waiting = set(), list(PAGES)
    while waiting and len(seen) < 400:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        answer = visitor.context.request.get(path, headers={"Accept": "text/html"})
        assert answer.status in (200, 303), (path, answer.status)
        if "text/html" in answer.headers.get("content-type", ""):
            waiting += links_of(visitor, answer.text())
    assert len(seen) > 150


def links_of(visitor, html):
    found = visitor.page.evaluate(
        """html => [...new DOMParser().parseFromString(html, 'text/html')
            .querySelectorAll('a[href]')].map(a => a.getAttribute('href'))
            .filter(h => h.startsWith('/') && !h.startsWith('//'))""",
        html,
    )
    return [href.split("#")[0] for href in found]
