"""Somebody builds a flow that asks; it is decided on a phone, and the flow goes on."""

import pytest
from journeys.browser import DESKTOP, PHONE, Visitor
from journeys.test_run_order import firm
from journeys.town import wait_for

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("order")]

WORDS = {
    "zh-CN": {"waits": "审批需要您决定", "approve": "同意", "gone": "没有等您决定的事"},
    "en-GB": {"waits": "asks for your decision", "approve": "Approve", "gone": "Nothing waits"},
}


def define(person, name: str) -> None:
    """Let a firm have an event type of its own."""
    words = {"zh": "发票已扫描", "en": "Invoice scanned"}
    named = {"name": name, "title": words, "schema": {"type": "object"}, "sample": {}}
    person.call("POST", "/custom-event-types", named)


def press(visitor, value: str) -> None:
    visitor.press(f"button[name=do][value='{value}']")


@pytest.mark.parametrize("language", ["zh-CN", "en-GB"])
def test_a_flow_is_built_by_keyboard_asks_on_a_phone_and_goes_on(hub, browser, language):
    words, short = WORDS[language], language[:2]
    person = firm(hub, 7_000 + len(language) + (language == "en-GB"))
    define(person, "invoice.scanned")
    made = person.call("POST", "/flows", {"name": "付款 Pay", "document": {
        "trigger": {"event": "invoice.scanned", "version": None}, "steps": []
    }})  # fmt: skip
    desk = Visitor(browser, hub.url, size=DESKTOP, language=language, person=person)
    desk.go(f"/flows/{made['id']}/edit")
    press(desk, "add:branch")
    press(desk, "add:approval@0/0")
    page = desk.page
    page.fill("[name='s0.w0.left']", "${event.data.kind}")
    page.select_option("[name='s0.w0.op']", "==")
    page.fill("[name='s0.w0.right']", "big")
    page.fill("[name='s1.subject']", "付 ${event.data.no}？")
    page.focus("[name='s1.subject']")
    with page.expect_navigation(wait_until="load"):
        page.keyboard.press("Enter")  # saves, as in every form
    assert page.input_value("[name='s1.subject']") == "付 ${event.data.no}？"
    press(desk, "add:map")
    page.fill("[name='s2.r0.target']", "no")
    page.fill("[name='s2.r0.source']", "${event.data.no}")
    desk.press(".form-actions button[value='save']")
    desk.examine(f"ways-edit-{short}")
    with desk.at(PHONE):
        desk.examine(f"ways-edit-phone-{short}")
    person.call("POST", f"/flows/{made['id']}/publish")

    person.call(
        "POST", "/events", {"type": "invoice.scanned", "data": {"no": "F-7", "kind": "big"}}
    )
    (asked,) = wait_for(lambda: person.call("GET", "/approvals?state=open")["items"])
    phone = Visitor(browser, hub.url, size=PHONE, language=language, person=person)
    phone.go("/")
    assert words["waits"] in phone.page.inner_text("main")
    phone.go("/approvals")
    phone.examine(f"approvals-phone-{short}")
    phone.press(f"a[href='/approvals/{asked['id']}']")
    assert "付 F-7？" in phone.page.inner_text("main, header, body")
    phone.page.fill("textarea[name=comment]", "可以")
    phone.examine(f"approval-phone-{short}")
    box = phone.page.locator("button[value=approve]").bounding_box()
    assert box["height"] >= 44
    phone.press("button[value=approve]")
    wait_for(lambda: person.call("GET", f"/runs/{asked['run_id']}")["state"] == "succeeded")
    phone.go("/approvals")
    assert words["gone"] in phone.page.inner_text("main")
    desk.go(f"/runs/{asked['run_id']}")
    desk.examine(f"ways-run-{short}")
    assert not desk.complaints, desk.complaints
    assert not phone.complaints, phone.complaints
