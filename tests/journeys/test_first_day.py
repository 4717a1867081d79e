"""The first day of a firm, in a real browser: from signing up to repairing a stopped run."""

import pytest
from journeys.browser import Visitor
from journeys.town import wait_for

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def sign_up(visitor, name, email):
    page = visitor.page
    visitor.go("/sign-up")
    page.fill("[name=organization_name]", name)
    page.fill("[name=name]", "王芳")
    page.fill("[name=email]", email)
    page.fill("[name=password]", "hebei-lantern-48-orchard")
    visitor.keep("02-sign-up")
    visitor.press("form[action='/sign-up'] button.btn-primary")
    assert "/sign-up" not in page.url, page.inner_text("main")[:500]


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
    owner.press("a.btn-primary[href*='install']")
    owner.keep("08-install")
    owner.press("form[action*='install'] button[type=submit]")
    assert "/rollouts/" in page.url
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
    shop.press("form[action='/_page/emit'] button")
    shop.keep("12-demo-shop")
    wait_for(lambda: newest_state(owner) == "succeeded")
    owner.keep("13-runs")
    owner.go(newest_run(owner))
    owner.keep("14-run-succeeded")

    # break the ERP: the run stops and says why
    hub.vendor("demo-erp").call("POST", "/_mock/behaviour", {"mode": "reject"})
    shop.go("/")
    shop.press("form[action='/_page/emit'] button")
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
    owner.press("form[action*='replay'] button, form[action*='retry'] button")
    wait_for(lambda: state_of(owner, run) == "succeeded")
    owner.keep("17-run-repaired")
    counted = hub.vendor("demo-erp").call("GET", "/_mock/ledger/count")
    assert counted["actions"]["create_sales_order"]["documents"] == 2
    assert owner.complaints == []
    assert shop.complaints == []


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
