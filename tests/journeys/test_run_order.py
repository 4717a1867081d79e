"""A firm lets a flow run in order; one run fails and holds the others until somebody acts."""

import pytest
import requests
from journeys.browser import DESKTOP, PHONE, Visitor
from journeys.town import PASSWORD, Person, wait_for

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("order")]

WORDS = {
    "zh-CN": {
        "behind": "3 次运行在排队", "failed": "前面的运行失败了",
        "order": "所有运行按事件的先后逐个进行",
        "skip": "跳过", "retry": "重试", "publish": "发布", "save": "保存草稿",
    },
    "en-GB": {
        "behind": "3 runs wait behind run", "failed": "behind a run that failed",
        "order": "All runs go one after another", "skip": "Skip it", "retry": "Retry",
        "publish": "Publish", "save": "Save the draft",
    },
}  # fmt: skip


def firm(hub, number: int) -> Person:
    """Somebody whose shop, ERP and chat are joined."""
    who = {
        "organization_name": f"顺序五金{number}",
        "name": "何洁",
        "email": f"he{number}@order.example",
    }
    requests.post(
        f"{hub.url}/api/v1/sign-up", json={**who, "password": PASSWORD}, timeout=60
    ).raise_for_status()
    person = Person(hub.url, who["email"], PASSWORD)
    rollout = person.call("POST", "/bundles/order-to-chat/install", {})
    wait_for(lambda: person.call("GET", f"/rollouts/{rollout['id']}")["state"] == "active")
    person.flow = person.call("GET", "/flows")["items"][0]["id"]
    return person


def runs(person, *states: str) -> list[dict]:
    chosen = "&".join(f"state={state}" for state in states)
    return person.call("GET", f"/runs?flow={person.flow}&{chosen}")["items"]


@pytest.mark.parametrize(
    ("size", "language"), [(DESKTOP, "zh-CN"), (PHONE, "en-GB")], ids=["desktop-zh", "phone-en"]
)
def test_a_run_that_failed_holds_the_others_until_it_is_skipped(hub, browser, size, language):
    words, short = WORDS[language], language[:2]
    person = firm(hub, size["width"])
    shop, erp = hub.vendor("demo-shop"), hub.vendor("demo-erp")
    visitor = Visitor(browser, hub.url, size=size, language=language, person=person)
    page = visitor.page
    visitor.go(f"/flows/{person.flow}/edit")
    page.select_option("select[name=order]", "flow")
    visitor.examine(f"order-edit-{short}")
    visitor.press(f".form-actions button:has-text('{words['save']}')")
    assert page.input_value("select[name=order]") == "flow"
    visitor.go(f"/flows/{person.flow}")
    visitor.press(f"button:has-text('{words['publish']}')")
    assert words["order"] in page.inner_text("main")

    erp.call("POST", "/_mock/behaviour", {"mode": "reject"})
    shop.call("POST", "/_mock/emit", {"trigger": "order_paid", "count": 4})
    wait_for(lambda: len(runs(person, "parked")) == 1 and len(runs(person, "waiting")) == 3)
    erp.call("POST", "/_mock/behaviour", {"mode": "ok"})
    (failed,), (*_, second) = runs(person, "parked"), runs(person, "waiting")
    told = person.call("GET", f"/runs/{second['id']}")
    assert (told["waits_for"], told["next_at"]) == (failed["id"], None)

    visitor.go(f"/flows/{person.flow}")
    assert words["behind"] in page.inner_text("main")
    visitor.examine(f"order-flow-{short}")
    visitor.go(f"/runs/{second['id']}")
    assert words["failed"] in page.inner_text("#run-live")
    visitor.examine(f"order-waits-{short}")
    visitor.go("/runs")
    visitor.examine(f"order-runs-{short}")
    visitor.go(f"/runs/{failed['id']}")
    visitor.examine(f"order-failed-{short}")
    visitor.press(f".yf-problem button:has-text('{words['skip']}')")
    wait_for(lambda: len(runs(person, "succeeded")) == 3)
    assert [run["id"] for run in runs(person, "cancelled")] == [failed["id"]]
    assert not visitor.complaints
