"""A connection in a browser: its health and limits; a colleague renews it from a link."""

import pytest
import requests
from journeys.browser import DESKTOP, PHONE, Visitor
from journeys.town import PASSWORD, Person

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("order")]


def firm(hub, number: int) -> Person:
    """Somebody who has connected an app that keeps to limits and sends webhooks."""
    who = {
        "organization_name": f"启航轴承{number}",
        "name": "王芳",
        "email": f"wang{number}@links.example",
    }
    requests.post(
        f"{hub.url}/api/v1/sign-up", json={**who, "password": PASSWORD}, timeout=60
    ).raise_for_status()
    person = Person(hub.url, who["email"], PASSWORD)
    wish = {
        "connector": "github",
        "name": "研发仓库 Code",
        "fields": {"key": "example-key-0123456789"},
    }
    person.connection = person.call("POST", "/connections", wish)["id"]
    return person


@pytest.mark.parametrize("language", ["zh-CN", "en-GB"])
def test_a_connection_is_looked_after_and_renewed_from_a_link(hub, browser, language):
    short = language[:2]
    person = firm(hub, 8_000 + (language == "en-GB"))
    path = f"/connections/{person.connection}"
    desk = Visitor(browser, hub.url, size=DESKTOP, language=language, person=person)
    desk.go(path)
    desk.page.fill("[name=ends_on]", "2026-12-09")
    desk.press(f"form[action='{path}/end'] button")
    desk.examine(f"connection-{short}")
    with desk.at(PHONE):
        desk.examine(f"connection-phone-{short}")
    desk.go("/connections/expiring")
    assert desk.page.locator(f"a[href='{path}']").count() == 1
    desk.examine(f"expiring-{short}")
    with desk.at(PHONE):
        desk.examine(f"expiring-phone-{short}")

    desk.go(path)
    desk.page.fill("[name=note]", "给财务小李 / for Li")
    desk.press(f"form[action='{path}/reconnect-links'] button")
    address = desk.page.locator(f"text={hub.url}/reconnect/").first.inner_text().strip()
    assert address.startswith(f"{hub.url}/reconnect/yrl_")
    desk.examine(f"link-made-{short}")

    guest = Visitor(browser, hub.url, size=PHONE, language=language)
    guest.go(address.removeprefix(hub.url))
    assert "example-key" not in guest.page.content()
    guest.examine(f"reconnect-phone-{short}")
    with guest.at(DESKTOP):
        guest.examine(f"reconnect-{short}")
    guest.page.focus("[name='fields.key']")
    guest.page.keyboard.type("another-key-0123456789")
    with guest.page.expect_navigation(wait_until="load"):
        guest.page.keyboard.press("Enter")
    # the app cannot be reached from here, or refuses the key: nothing may have changed
    assert guest.page.locator(".yf-problem, [role=alert]").count() >= 1
    guest.examine(f"reconnect-refused-phone-{short}")

    desk.press("form[action*='/reconnect-links/'] button")
    gone = Visitor(browser, hub.url, size=PHONE, language=language)
    gone.go(address.removeprefix(hub.url))
    gone.examine(f"reconnect-gone-phone-{short}")
    assert gone.page.locator("form[action^='/reconnect']").count() == 0
    desk.press("form[action$='/pause'] button")
    desk.examine(f"connection-paused-{short}")
    assert not [one for one in desk.complaints if "50" in one[:3] or "script" in one]
