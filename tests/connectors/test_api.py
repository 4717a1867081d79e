"""The JSON API of connectors, with a key, from the library to a repaired run."""

import pytest
from factories.connectors import Shop, open_shop, runs, settle, vendor
from factories.identity import bearer, make_api_key
from sqlmodel import select

from identity.tables import AuditEntry, Organization
from kernel.database import EVERY, reading, transaction


@pytest.fixture
def app_vendor():
    with vendor() as target:
        yield target


class Caller:
    """A program with an API key of a shop."""

    def __init__(self, client, shop, secret):
        self.client, self.shop, self.headers = client, shop, bearer(secret)

    def call(self, method, path, expect=200, **json):
        sent = {"json": json} if method in ("post", "patch") else {}
        answer = getattr(self.client, method)(f"/api/v1{path}", headers=self.headers, **sent)
        assert answer.status_code == expect, answer.get_data(as_text=True)
        return answer.get_json() if answer.data else None


@pytest.fixture
def api(database, client, app_vendor):
    with transaction(EVERY) as session:
        shop = Shop(session, app_vendor.url)
        organization = session.get(Organization, shop.organization_id)
        return Caller(client, shop, make_api_key(session, organization))


def test_the_library_is_open_to_programs(api):
    keys = [one["key"] for one in api.call("get", "/connectors")["items"]]
    assert {"demo-erp", "demo-chat", "demo-shop"} <= set(keys)
    erp = api.call("get", "/connectors/demo-erp")
    assert erp["auth"][0]["fields"][0]["is_secret"] is True
    assert "create_sales_order" in [one["key"] for one in erp["actions"]]
    assert api.call("get", "/connectors/nothing", 404)["code"] == "not_found"
    assert api.call("get", "/flow-templates")["items"]


def test_a_connection_is_made_changed_tested_and_revoked(api, app_vendor):
    made = api.call(
        "post",
        "/connections",
        201,
        connector="demo-erp",
        fields={"key": "very-secret-key"},
        settings={"base_url": app_vendor.url},
    )
    assert "very-secret-key" not in str(made)
    path = f"/connections/{made['id']}"
    assert api.call("post", f"{path}/test")["state"] == "ready"
    assert api.call("patch", path, name="另一个")["name"] == "另一个"
    api.call("delete", path, 204)
    assert api.call("get", path)["state"] == "revoked"
    assert api.call("delete", f"/connections/{api.shop.erp}", 409)["code"] == "in_use"
    wrong = api.call("post", "/connections", 422, connector="demo-erp")
    assert {one["pointer"] for one in wrong["errors"]} == {"/settings/base_url", "/fields/key"}


def test_a_flow_is_made_tried_published_and_paused(api, app_vendor):
    shop = api.call(
        "post",
        "/connections",
        201,
        connector="demo-shop",
        fields={"key": "k"},
        settings={"base_url": app_vendor.url},
    )["id"]
    use = {"demo-shop": shop, "demo-erp": api.shop.erp, "demo-chat": api.shop.chat}
    flow = api.call("post", "/flows", 201, template="order-to-erp-to-chat", connections=use)
    assert flow["problems"] == []
    path = f"/flows/{flow['id']}"
    trial = api.call("post", f"{path}/dry-run")
    assert trial["ok"] is True
    assert [step["state"] for step in trial["steps"]] == ["succeeded"] * 4
    assert api.call("post", f"{path}/publish")["number"] == 1
    assert api.call("post", f"{path}/pause")["state"] == "paused"
    assert api.call("post", f"{path}/resume")["state"] == "active"
    unfinished = api.call("patch", path, document={"trigger": {"event": "x"}, "steps": []})
    assert unfinished["problems"]
    assert api.call("post", f"{path}/publish", 422)["errors"]
    assert len(api.call("get", f"{path}/versions")["items"]) == 1
    api.call("delete", path, 204)
    api.call("get", path, 404)


def test_a_run_is_found_read_and_repaired(api, app_vendor):
    app_vendor.answers.append(("sales-orders", 422, {"code": "PERIOD_CLOSED"}, {}))
    with transaction(EVERY) as session:
        api.shop.order(session, 1)
        api.shop.order(session, 2)
    settle()
    assert len(api.call("get", "/runs")["items"]) == 2
    (parked,) = api.call("get", "/runs?state=parked&cause=data")["items"]
    assert "账期已关闭" in parked["say"]["zh"]
    detail = api.call("get", f"/runs/{parked['id']}")
    assert set(detail["advice"]) == {"safe", "who", "what_to_do"}
    corrected = detail["steps"][1]["input"]
    api.call("post", f"/runs/{parked['id']}/input", input={**corrected, "external_no": "B"})
    settle()
    assert api.call("get", f"/runs/{parked['id']}")["state"] == "succeeded"
    again = api.call("post", f"/runs/{parked['id']}/replay", start="beginning")
    api.call("post", f"/runs/{again['id']}/cancel")
    with reading(EVERY) as session:
        said = [one.action for one in session.exec(select(AuditEntry))]
    assert {"run.input_edited", "run.replayed", "run.cancelled"} <= set(said)


def test_parked_runs_are_replayed_together(api, app_vendor):
    app_vendor.always["sales-orders"] = (422, {"code": "PERIOD_CLOSED"})
    with transaction(EVERY) as session:
        for number in range(3):
            api.shop.order(session, number)
    settle()
    del app_vendor.always["sales-orders"]
    asked = {"flow_id": api.shop.flow, "cause": "data"}
    canary = api.call("post", "/runs/replay", **asked)["canary"]
    assert api.call("post", "/runs/replay", 409, **asked, canary=canary)["code"] == "not_now"
    settle()
    assert api.call("post", "/runs/replay", **asked, canary=canary)["replayed"] == 2
    settle()
    assert {run.state for run in runs()} == {"succeeded"}


def test_pages_of_runs_follow_the_cursor(api):
    with transaction(EVERY) as session:
        for number in range(5):
            api.shop.order(session, number)
    first = api.call("get", "/runs?limit=3")
    rest = api.call("get", f"/runs?limit=3&cursor={first['next_cursor']}")
    ids = [one["id"] for one in first["items"] + rest["items"]]
    assert len(set(ids)) == 5
    assert rest["next_cursor"] is None


def test_strangers_get_404_everywhere(api, app_vendor):
    other = open_shop(app_vendor.url, orders=1)
    (run,) = runs()
    for method, path in (
        ("get", f"/connections/{other.erp}"),
        ("patch", f"/connections/{other.erp}"),
        ("post", f"/connections/{other.erp}/test"),
        ("delete", f"/connections/{other.erp}"),
        ("get", f"/flows/{other.flow}"),
        ("post", f"/flows/{other.flow}/pause"),
        ("post", f"/flows/{other.flow}/dry-run"),
        ("get", f"/runs/{run.id}"),
        ("post", f"/runs/{run.id}/retry"),
        ("post", f"/runs/{run.id}/cancel"),
    ):
        api.call(method, path, 404)
