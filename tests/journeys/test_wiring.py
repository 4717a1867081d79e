"""A firm wires paid orders to its ERP and its chat, from nothing; every act is counted."""

import json
import time

import pytest
import requests
from journeys.browser import DESKTOP, PHONE, Visitor
from journeys.town import PASSWORD, Person, wait_for

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("wiring")]

MOST_ACTS = 40
ORDER = {
    "order_no": "SO-2026-7001",
    "channel": "web-shop",
    "payment_no": "42000011890001",
    "method": "wechat_pay",
    "amount": {"value": "352.00", "currency": "CNY"},
    "paid_at": "2026-11-24T10:00:00+08:00",
    "customer": {"id": "C-1", "name": "无锡恒达电机有限公司", "phone": "+86 510 8000 1234"},
    "lines": [
        {
            "line_id": "1",
            "item": {"sku": "BRG-6204", "name": "深沟球轴承 6204-2RS"},
            "quantity": {"value": "4", "unit_code": "C62"},
            "unit_price": {"value": "88.00", "currency": "CNY"},
            "line_amount": {"value": "352.00", "currency": "CNY"},
        }
    ],
}
TEXT = "新订单 ${event.data.order_no}，单据 ${steps.do1.output.document_no}"


def firm(hub, number: int, apps=("demo-erp", "demo-chat")) -> Person:
    """Somebody whose ERP and chat are connected, with a source that anything may send to."""
    who = {
        "organization_name": f"接线五金{number}",
        "name": "何洁",
        "email": f"he{number}@wiring.example",
    }
    requests.post(
        f"{hub.url}/api/v1/sign-up", json={**who, "password": PASSWORD}, timeout=60
    ).raise_for_status()
    person = Person(hub.url, who["email"], PASSWORD)
    for app in apps:
        rollout = person.call("POST", f"/apps/{app}/install", {})
        path = f"/rollouts/{rollout['id']}"
        wait_for(lambda path=path: person.call("GET", path)["state"] == "active")
    assert person.call("GET", "/flows")["items"] == []
    named = {"name": "网店 Shop", "scheme": "none"}
    person.source = person.call("POST", "/sources", named)["url"]
    return person


def send_order(person, number: str) -> None:
    """A real order, through the source's door."""
    envelope = {"specversion": "1.0", "type": "order.paid", "id": number, "source": "/shop"}
    answer = requests.post(
        person.source,
        json={**envelope, "data": {**ORDER, "order_no": number}},
        headers={"Content-Type": "application/cloudevents+json"},
        timeout=30,
    )
    assert answer.status_code == 202, answer.text


def arrives(hub, number: str) -> None:
    """Wait until both apps have what the order became."""
    erp, chat = hub.vendor("demo-erp"), hub.vendor("demo-chat")

    def there(vendor, action: str) -> list:
        found = vendor.call("GET", f"/_mock/ledger?action={action}")
        return [one for one in found["items"] if number in str(one)]

    wait_for(lambda: there(erp, "create_sales_order") and there(chat, "post_message"))
    (sent,) = there(erp, "create_sales_order")
    assert "BRG-6204" in str(sent)
    assert "无锡恒达电机有限公司" in str(sent)


class Hands:
    """A mouse and a keyboard that count: a click, a choice or a filled field is one act."""

    def __init__(self, page) -> None:
        self.page, self.acts, self.begun = page, 0, time.monotonic()

    def _settled(self) -> None:
        self.page.evaluate("window.yangfanCanvas && window.yangfanCanvas.idle()")

    def click(self, selector: str) -> None:
        self.acts += 1
        self.page.locator(selector).first.click()
        self._settled()

    def follow(self, selector: str) -> None:
        self.acts += 1
        with self.page.expect_navigation(wait_until="load"):
            self.page.locator(selector).first.click()

    def fill(self, selector: str, text: str) -> None:
        self.acts += 1
        self.page.locator(selector).first.fill(text)
        self.page.locator(selector).first.dispatch_event("change")
        self._settled()

    def choose(self, selector: str, value: str) -> None:
        self.acts += 1
        self.page.locator(selector).first.select_option(value)
        self._settled()

    def pick(self, target: str, typed: str, path: str) -> None:
        """Search the fields that may go into one, and take one of them."""
        field = f"input[data-target='{target}']"
        self.page.locator(field).click()
        self.page.locator(field).press_sequentially(typed)
        self.page.locator(f"#picker-list [role=option]:has-text('{path}')").first.click()
        self.acts += 3
        self._settled()

    def report(self, way: str) -> None:
        seconds = round(time.monotonic() - self.begun, 1)
        print(json.dumps({"wired": way, "acts": self.acts, "seconds": seconds}))


def test_a_flow_is_wired_on_the_canvas_from_nothing(hub, browser):
    person = firm(hub, 1)
    visitor = Visitor(browser, hub.url, size=DESKTOP, language="zh-CN", person=person)
    page = visitor.page
    visitor.go("/flows")
    hands = Hands(page)
    hands.follow("main a[href='/flows/new']")
    hands.fill("[name=name]", "付款单记账并通知")
    hands.follow("form[action='/flows'] button[type=submit]")
    hands.follow("a[href$='view=canvas']")
    hands.fill("[name=event]", "order.paid")
    hands.click("[data-plus=trigger]")
    hands.click("#add-step button[value=action]")
    hands.choose("[name='s0.does']", "demo-erp|create_sales_order")
    assert page.input_value("[name='s0.connection']"), "an app that is connected once is chosen"
    hands.click("button[name=do][value='match:0']")
    hands.pick("external_no", "dingdanhao", "event.data.order_no")
    hands.pick("ordered_at", "fksj", "event.data.paid_at")
    visitor.examine("wiring-canvas-erp")
    hands.click("[data-plus='/steps/0']")
    hands.click("#add-step button[value=action]")
    hands.choose("[name='s1.does']", "demo-chat|post_message")
    hands.fill("input[data-target=channel]", "订单群")
    hands.fill("input[data-target=text]", TEXT)
    box = page.inner_text("[data-node='/steps/1']")
    assert "样例" in box, box  # the chat's sample answer, told to be one
    visitor.examine("wiring-canvas-done")
    # the last word is still on its way to the hub when the page is left
    hands.acts += 1
    page.locator("[name='s1.title']").fill("告诉订单群")
    hands.follow("button[name=do][value=try]")
    hands.follow("form[action$='/try'] button[type=submit]")
    assert page.locator(".yf-note.yf-good").count() == 1, page.inner_text("main")
    assert "告诉订单群" in page.inner_text("main")
    hands.follow("main a[href$='/edit']")
    assert page.url.endswith("/canvas"), "the canvas is remembered"
    hands.follow("button[name=do][value=publish]")
    hands.follow("form[action$='/publish'] button")
    send_order(person, "SO-WIRED-1")
    arrives(hub, "SO-WIRED-1")
    hands.report("canvas")
    assert hands.acts <= MOST_ACTS
    assert not visitor.complaints, visitor.complaints


class Keys:
    """A keyboard and nothing else."""

    def __init__(self, page) -> None:
        self.page, self.acts, self.begun = page, 0, time.monotonic()

    def to(self, selector: str) -> None:
        """Press Tab until something is reached; the way there is no act of its own."""
        for _ in range(400):
            if self.page.evaluate("s => document.activeElement?.matches(s)", selector):
                return
            self.page.keyboard.press("Tab")
        raise AssertionError(f"Tab does not lead to {selector}")

    def write(self, selector: str, text: str) -> None:
        self.to(selector)
        self.page.keyboard.press("ControlOrMeta+A")
        self.page.keyboard.insert_text(text)
        self.acts += 1

    def enter(self, selector: str) -> None:
        self.to(selector)
        with self.page.expect_navigation(wait_until="load"):
            self.page.keyboard.press("Enter")
        self.acts += 1

    def choose(self, selector: str, value: str) -> None:
        self.to(selector)
        for _ in range(300):
            if self.page.input_value(selector) == value:
                break
            self.page.keyboard.press("ArrowDown")
        assert self.page.input_value(selector) == value
        self.acts += 1

    def pick(self, target: str, typed: str) -> None:
        """Type a few letters, go down to the first field that fits, and take it."""
        self.to(f"input[data-target='{target}']")
        self.page.keyboard.type(typed)
        self.page.keyboard.press("ArrowDown")
        self.page.keyboard.press("Enter")
        self.acts += 3

    report = Hands.report


def test_a_flow_is_wired_by_keyboard_alone_in_the_list(hub, browser):
    person = firm(hub, 2)
    visitor = Visitor(browser, hub.url, size=DESKTOP, language="en-GB", person=person)
    page = visitor.page
    visitor.go("/flows/new")
    keys = Keys(page)
    keys.write("form[action='/flows'] [name=name]", "Paid orders")
    keys.enter("form[action='/flows'] button[type=submit]")
    keys.write("[name=event]", "order.paid")
    keys.enter("#editor button[value='add:action']")
    keys.choose("[name='s0.does']", "demo-erp|create_sales_order")
    keys.enter("#editor button[value='apply:0']")
    keys.enter("#editor button[value='match:0']")
    keys.pick("external_no", "order no")
    keys.pick("ordered_at", "paid at")
    keys.enter("#editor button[value='add:action']")
    keys.choose("[name='s1.does']", "demo-chat|post_message")
    keys.enter("#editor button[value='apply:1']")
    keys.write("#step-1 input[data-target=channel]", "orders")
    keys.write("#step-1 input[data-target=text]", TEXT)
    keys.enter("#editor .form-actions button[value=save]")
    visitor.examine("wiring-list-done")
    keys.enter("#editor .form-actions button[value=publish]")
    keys.enter("form[action$='/publish'] button")
    send_order(person, "SO-WIRED-2")
    arrives(hub, "SO-WIRED-2")
    keys.report("list")
    assert keys.acts <= MOST_ACTS
    assert not visitor.complaints, visitor.complaints


@pytest.mark.parametrize(
    ("size", "language"), [(DESKTOP, "zh-CN"), (PHONE, "en-GB")], ids=["desktop-zh", "phone-en"]
)
def test_the_canvas_is_walked_by_keyboard(hub, browser, size, language):
    person = firm(hub, 10 + size["width"], apps=())
    inside = {"key": "one", "kind": "map", "mapping": {"sku": "${item.sku}"}}
    steps = [
        {"key": "fork", "kind": "branch", "else": [], "ways": [
            {"key": "a", "when": '${event.data.method == "x"}', "steps": [inside]}]},
        {"key": "last", "kind": "delay", "for": "1h"},
    ]  # fmt: skip
    document = {"trigger": {"event": "order.paid", "version": None}, "steps": steps}
    made = person.call("POST", "/flows", {"name": "走走 Walk", "document": document})["id"]
    visitor = Visitor(browser, hub.url, size=size, language=language, person=person)
    page = visitor.page
    visitor.go(f"/flows/{made}/canvas")
    page.wait_for_selector("[data-node='/steps/1']")

    def press(key: str, at: str) -> None:
        page.keyboard.press(key)
        page.evaluate("window.yangfanCanvas.idle()")
        page.wait_for_function("at => document.activeElement.dataset.node === at", arg=at)

    def kinds() -> list[str]:
        found = person.call("GET", f"/flows/{made}")["document"]["steps"]
        return [one["kind"] for one in found]

    page.focus("[data-node=trigger]")
    press("ArrowDown", "/steps/0")
    press("ArrowDown", "/steps/0/ways/0/steps/into")
    press("ArrowRight", "/steps/0/else/into")
    press("ArrowLeft", "/steps/0/ways/0/steps/into")
    press("ArrowDown", "/steps/0/ways/0/steps/0")
    press("ArrowDown", "/steps/1")
    press("Alt+ArrowUp", "/steps/0")
    assert kinds() == ["delay", "branch"]
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.activeElement.id === 'panel-title'")
    page.keyboard.press("Escape")
    page.wait_for_function("() => document.activeElement.dataset.node === '/steps/0'")
    page.keyboard.press("+")
    page.keyboard.press("Enter")  # an action: the first thing one looks for
    page.wait_for_selector("[data-node='/steps/2']")
    assert kinds() == ["delay", "action", "branch"]
    page.evaluate("window.yangfanCanvas.idle()")
    page.focus("[data-node='/steps/1']")
    page.keyboard.press("Delete")
    page.locator("#confirm button[value=yes]").click()
    page.wait_for_function("() => !document.querySelector(\"[data-node='/steps/2']\")")
    assert kinds() == ["delay", "branch"]
    visitor.examine(f"canvas-walk-{language[:2]}")
    with page.expect_navigation(wait_until="load"):
        page.locator("a[href$='view=list']").first.click()
    assert page.locator("form[data-editor=list]").count() == 1
    assert not visitor.complaints, visitor.complaints
