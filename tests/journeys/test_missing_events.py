"""A shop loses its webhooks for good; the hub finds what is missing, by itself and when told to."""

import pytest
import requests
from journeys.browser import DESKTOP, PHONE, Visitor
from journeys.town import PASSWORD, Person, wait_for

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("missing")]

LOST = 5


@pytest.fixture(scope="module")
def firm(hub):
    """Somebody whose shop, ERP and chat are joined."""
    who = {"organization_name": "漏单五金", "name": "何洁", "email": "he@lost.example"}
    requests.post(
        f"{hub.url}/api/v1/sign-up", json={**who, "password": PASSWORD}, timeout=60
    ).raise_for_status()
    person = Person(hub.url, who["email"], PASSWORD)
    rollout = person.call("POST", "/bundles/order-to-chat/install", {})
    wait_for(lambda: person.call("GET", f"/rollouts/{rollout['id']}")["state"] == "active")
    person.source = person.call("GET", "/sources")["items"][0]["id"]
    return person


def events(firm) -> list[dict]:
    return firm.call("GET", f"/events?source_id={firm.source}&limit=100")["items"]


@pytest.mark.parametrize(
    ("size", "language", "look_now"),
    [(DESKTOP, "zh-CN", "立即检查"), (PHONE, "en-GB", "Look now")],
    ids=["desktop-zh", "phone-en"],
)
def test_somebody_looks_for_what_the_shop_lost(hub, firm, browser, size, language, look_now):
    shop = hub.vendor("demo-shop")
    before = {event["id"] for event in events(firm)}
    shop.call("POST", "/_mock/behaviour", {"mode": "lossy", "share": 1})
    sent = shop.call("POST", "/_mock/emit", {"trigger": "order_paid", "count": LOST})
    assert sent["lost"] >= LOST
    shop.call("POST", "/_mock/behaviour", {"mode": "ok"})
    assert {event["id"] for event in events(firm)} == before

    visitor = Visitor(browser, hub.url, size=size, language=language, person=firm)
    visitor.go(f"/sources/{firm.source}")
    visitor.examine(f"missing-before-{language[:2]}")
    visitor.press(f"#missing button:has-text('{look_now}')")
    assert visitor.page.url.endswith(f"/sources/{firm.source}#missing")
    visitor.keep(f"missing-looking-{language[:2]}")
    # the card draws itself anew until the look is over
    visitor.page.wait_for_selector("#missing:not([aria-busy])", timeout=30_000)
    words = visitor.page.inner_text("#missing")
    assert {"zh-CN": "没有遗漏", "en-GB": "Nothing is missing"}[language] in words
    visitor.examine(f"missing-after-{language[:2]}")

    fresh = [event for event in events(firm) if event["id"] not in before]
    assert len(fresh) == LOST
    visitor.go(f"/events/{fresh[0]['id']}")
    told = {"zh-CN": "由平台主动补回", "en-GB": "Fetched by the hub"}[language]
    assert told in visitor.page.inner_text("main")
    visitor.examine(f"missing-event-{language[:2]}")
    assert not visitor.complaints
