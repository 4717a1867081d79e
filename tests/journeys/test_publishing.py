"""From an application as a vendor to an app on the shelf: two people at two screens."""

import re

import pytest
from factories.catalog import manifest_text
from journeys.browser import DESKTOP, PHONE, Visitor
from journeys.town import PASSWORD, Person

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("publishing")]

WRONG = "version: 1.0.0"


@pytest.fixture(scope="module")
def vendor(town, browser):
    """The owner of a firm that wants to publish, at a desk, reading Chinese."""
    visitor = Visitor(browser, town.url, size=DESKTOP, language="zh-CN")
    visitor.go("/sign-up")
    page = visitor.page
    page.fill("[name=organization_name]", "镇江软件有限公司")
    page.fill("[name=name]", "钱进")
    page.fill("[name=email]", "qian@zhenjiang.example")
    page.fill("[name=password]", PASSWORD)
    visitor.press("form[action='/sign-up'] button.btn-primary")
    return visitor


@pytest.fixture(scope="module")
def operator(town, browser):
    """The operator, on a phone, reading English."""
    return Visitor(browser, town.url, size=PHONE, language="en-GB", person=town.operator)


def main_text(visitor):
    return visitor.page.inner_text("main")


def open_card(visitor, path, heading):
    """Go to a page and return the card with this heading."""
    visitor.go(path)
    return visitor.page.locator("section.card", has_text=heading).first


def upload(visitor, text, button):
    """Choose a manifest file and press a button of the form."""
    visitor.go("/vendor/releases/new")
    file = {"name": "manifest.yaml", "mimeType": "text/yaml", "buffer": text.encode()}
    visitor.page.set_input_files("[name=file]", file)
    visitor.press(f"main form button[name={button}]")


def decide(operator, release, decision, reason=""):
    operator.go(f"/operator/review/{release}")
    operator.page.fill("[name=reason]", reason)
    operator.press(f"main button[name=decision][value={decision}]")


def test_from_an_application_to_the_shelf(town, browser, vendor, operator):
    # ask to become a vendor; the first try has a mistyped code
    vendor.go("/")
    assert vendor.page.locator(".yf-nav a[href='/vendor']").count() == 0
    vendor.go("/vendor")
    vendor.examine("publish-01-not-a-vendor")
    vendor.go("/vendor/apply")
    page = vendor.page
    page.fill("[name=name_en]", "Zhenjiang Software")
    page.fill("[name=credit_code]", "91321000MA1Q7XK283")
    vendor.press("form[action='/vendor/apply'] button[type=submit]")
    assert "信用代码" in page.inner_text("[role=alert]")
    vendor.examine("publish-02-mistyped-code")
    page.fill("[name=credit_code]", "")
    vendor.press("form[action='/vendor/apply'] button[type=submit]")
    vendor.examine("publish-03-applied")

    # the operator needs a reason to refuse, and admits
    operator.go("/")
    assert operator.page.locator("main a[href='/operator/vendors']").count() == 1
    card = open_card(operator, "/operator/vendors", "Zhenjiang Software")
    with operator.page.expect_navigation():
        card.locator("button[value=reject]").click()
    operator.page.click("main [role=alert] a")
    card = operator.page.locator("section.card", has_text="Zhenjiang Software")
    assert card.locator("textarea:focus.is-invalid").count() == 1
    operator.examine("publish-04-refusal-needs-a-reason")
    card = open_card(operator, "/operator/vendors", "Zhenjiang Software")
    with operator.page.expect_navigation():
        card.locator("button[value=approve]").click()
    assert "Zhenjiang" not in main_text(operator)
    operator.examine("publish-05-admitted")


def test_a_manifest_is_checked_line_by_line(vendor):
    good = manifest_text(id="harbour-log")
    text = good.replace(WRONG, "version: one").replace("price_fen: 9900", "price_fen: -1")
    upload(vendor, text, "check")
    found = [line.inner_text() for line in vendor.page.locator(".cat-line-finding").all()]
    lines = text.splitlines()
    wrong = {"/version": lines.index("version: one") + 1, "/plans/0/price_fen": next(
        number for number, line in enumerate(lines, 1) if "price_fen: -1" in line
    )}  # fmt: skip
    for pointer, line in wrong.items():
        assert [one for one in found if pointer in one and re.search(rf"\b{line}\b", one)], found
    # what stands in the marked line is what is wrong, and the text is not lost
    assert "version: one" in vendor.page.inner_text(f"#line-{wrong['/version']}")
    assert "version: one" in vendor.page.input_value("[name=manifest]")
    assert vendor.page.locator(f"[role=alert] a[href='#line-{wrong['/version']}']").count() == 1
    vendor.examine("publish-06-findings")
    upload(vendor, good, "check")
    assert vendor.page.locator(".cat-line-bad").count() == 0
    vendor.examine("publish-07-in-order")


def test_a_release_is_refused_sent_again_and_published(town, browser, vendor, operator):
    upload(vendor, manifest_text(id="harbour-log"), "submit")
    first = vendor.page.url.rpartition("/")[2]
    assert first.startswith("rel_")
    vendor.examine("publish-08-in-review")

    decide(operator, first, "reject")
    assert operator.page.locator("main [role=alert]").count() == 1
    operator.examine("publish-09-reason-missing")
    decide(operator, first, "reject", "请写明数据存在哪里。")
    assert "请写明数据存在哪里。" in main_text(operator)
    operator.examine("publish-10-refused")
    vendor.go(f"/vendor/releases/{first}")
    assert "请写明数据存在哪里。" in main_text(vendor)
    vendor.examine("publish-11-told-why")

    upload(vendor, manifest_text(id="harbour-log"), "submit")
    second = vendor.page.url.rpartition("/")[2]
    operator.go(f"/operator/review/{second}")
    operator.examine("publish-12-review")
    decide(operator, second, "approve")
    visitor = Visitor(browser, town.url)
    assert visitor.context.request.get("/apps/harbour-log").status == 404
    vendor.go(f"/vendor/releases/{second}")
    vendor.examine("publish-13-approved")
    vendor.press(f"form[action='/vendor/releases/{second}/publish'] button")
    vendor.examine("publish-14-published")
    vendor.go("/vendor")
    vendor.examine("publish-15-desk")
    visitor.go("/apps/harbour-log")
    visitor.examine("publish-16-on-the-shelf")
    said = [one for who in (vendor, operator, visitor) for one in who.complaints]
    assert [one for one in said if not one.startswith(("403 GET", "422 POST"))] == []


def test_the_operators_pages_are_shut_for_everybody_else(town, vendor):
    for person in (town.owner, town.vendor, Person(town.url, "qian@zhenjiang.example", PASSWORD)):
        for path in ("/operator/review", "/operator/vendors"):
            assert person.http.get(town.url + path, timeout=30).status_code == 403
