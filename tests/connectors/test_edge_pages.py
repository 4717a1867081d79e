"""Calls, awaited events, the store, error paths and environments in a browser and over JSON."""

import pytest
from factories.connectors import make_flow, runs, settle, vendor
from factories.editors import draft, enter, form_of, post, text
from factories.identity import bearer, make_api_key
from factories.ways import bound, each, open_works, send, shape

from connectors import flows, lanes
from connectors.stores import values
from identity.tables import Organization
from kernel.database import EVERY, reading, transaction


@pytest.fixture
def app_vendor():
    lanes._slice.clear()
    with vendor() as target:
        yield target


def everything(flow_id: str) -> list[dict]:
    """One of each kind, in the shape that the form writes."""
    return [
        {
            "key": "w",
            "kind": "wait",
            "event_type": "order.shipped",
            "match": {"value": "${event.data.order_no}", "path": "data.order_no"},
            "for": "3d",
            "at_deadline": "go_on",
            "when": '${awaited.data.x == "1"}',
            "since": "step",
        },
        {
            "key": "c",
            "kind": "call",
            "flow": flow_id,
            "input": {"no": "${event.data.order_no}"},
            "on_error": {"steps": [send("sorry", "${error.message}")], "then": "end"},
        },
        {
            "key": "p",
            "kind": "store",
            "operation": "put",
            "collection": "orders",
            "entry": "${event.data.order_no}",
            "value": {"a": "${event.data.channel}", "b": 1},
            "expires": "30d",
        },
        {
            "key": "a",
            "kind": "store",
            "operation": "add",
            "collection": "counts",
            "entry": "n",
            "amount": "${event.data.amount.value}",
        },
        {"key": "l", "kind": "store", "operation": "list", "collection": "orders", "prefix": "S"},
        each("x", "${event.data.lines}", shape("y", {"z": "${item.line_id}"})),
        {
            **send("end", "完"),
            "on_error": {
                "steps": [shape("note", {"why": "${error.class}"})],
                "then": "continue",
                "on_unknown": "error_path",
            },
        },
    ]


def build(url):
    works = open_works(url, send("x", "x"))
    called = {
        "trigger": {"kind": "called", "input": {"type": "object", "required": ["no"]}},
        "steps": [shape("s", {"n": "${event.data.no}"})],
        "output": {"number": "${steps.s.output.n}"},
    }
    with transaction(EVERY) as session:
        below = make_flow(session, works.organization_id, called, name="开票").id
        document = {
            "trigger": {"event": "order.paid", "version": None},
            "steps": everything(below),
            "on_error": {"steps": [send("tell", "${error.step}")], "then": "end"},
            "environments": {"test": {"connections": {works.chat: "con_none"}}},
        }
        document = bound(document, works.erp, works.chat)
        flows.save_draft(session, works.organization_id, works.flow, document)
    return works, below, document


def test_saving_the_editor_unchanged_changes_nothing(app, app_vendor):
    works, below, document = build(app_vendor.url)
    browser = enter(app, works)
    path = f"/flows/{works.flow}/edit"
    answer = post(browser, path, **{**form_of(text(browser.get(path))), "do": "save"})
    assert answer.status_code == 303, text(answer)
    assert draft(works) == document
    works.flow = below
    before = draft(works)
    path = f"/flows/{below}/edit"
    answer = post(browser, path, **{**form_of(text(browser.get(path))), "do": "save"})
    assert answer.status_code == 303, text(answer)
    assert draft(works) == before


@pytest.mark.parametrize("language", ["zh", "en"])
def test_every_page_shows_what_there_is(app, app_vendor, language):
    works, below, _ = build(app_vendor.url)
    browser = enter(app, works)
    with transaction(EVERY) as session:
        given = {"operation": "put", "collection": "orders", "entry": "A-1", "value": "=1+1"}
        values.do(session, works.organization_id, given, None)
    works.happen(order_no="1")
    settle()
    pages = ["/stores", "/stores/orders", "/stores/orders?q=B", f"/flows/{works.flow}/environments"]
    pages += [f"/flows/{works.flow}", f"/flows/{works.flow}/edit", f"/flows/{works.flow}/canvas"]
    pages += [f"/flows/{below}/edit", f"/flows/{works.flow}/try", f"/runs/{runs()[0].id}", "/runs"]
    headers = {"accept-language": language}
    for path in pages:
        answer = browser.get(path, headers=headers)
        assert answer.status_code == 200, path
    exported = browser.get("/stores/orders/csv")
    assert "'=1+1" in text(exported)
    assert exported.headers["content-type"].startswith("text/csv")
    value_id = None
    with reading(EVERY) as session:
        value_id = values.find(session, works.organization_id, "orders", "A-1").id
    assert post(browser, f"/stores/orders/values/{value_id}/delete").status_code == 303
    assert browser.get("/stores/orders").status_code == 404


def test_whoever_may_only_look_changes_nothing(app, app_vendor):
    works, _, _ = build(app_vendor.url)
    browser = enter(app, works, role="member", name="小李")
    assert browser.get("/stores").status_code == 403
    assert post(browser, f"/flows/{works.flow}/to_test").status_code == 403


def test_a_step_is_replayed_and_sent_down_from_the_page_and_over_json(app, app_vendor):
    works = open_works(
        app_vendor.url,
        {**send("one", "一"), "on_error": {"steps": [send("sorry", "对不起")], "then": "continue"}},
        send("two", "二"),
    )
    browser = enter(app, works)
    works.happen()
    settle()
    (run,) = runs()
    answer = post(browser, f"/runs/{run.id}/from/two")
    assert answer.status_code == 303
    settle()
    assert [one.replayed_from for one in runs()] == [None, run.id]
    with transaction(EVERY) as session:
        organization = session.get(Organization, works.organization_id)
        headers = bearer(make_api_key(session, organization))
    made = app.test_client().post(
        f"/api/v1/runs/{run.id}/replay-from", json={"step": "one"}, headers=headers
    )
    assert made.status_code == 200, made.json
    assert made.json["replayed_from"] == run.id
    refused = app.test_client().post(f"/api/v1/runs/{run.id}/error-path", headers=headers)
    assert refused.status_code == 409
    shown = app.test_client().get(f"/api/v1/flows/{works.flow}/stages", headers=headers).json
    assert (shown["live"]["version"], shown["test"]) == (1, None)


def test_values_are_kept_and_read_over_json(app, app_vendor):
    works = open_works(app_vendor.url, send("x", "x"))
    with transaction(EVERY) as session:
        organization = session.get(Organization, works.organization_id)
        headers = bearer(make_api_key(session, organization))
    client = app.test_client()
    body = {"collection": "prices", "key": "BRG-1", "value": {"v": "8.80"}, "expires_seconds": 60}
    made = client.post("/api/v1/stores", json=body, headers=headers)
    assert made.status_code == 200, made.json
    found = client.get("/api/v1/stores/prices?key=BRG-1", headers=headers).json["items"]
    assert [one["value"] for one in found] == [{"v": "8.80"}]
    listed = client.get("/api/v1/stores", headers=headers).json["items"]
    assert [(one["collection"], one["count"]) for one in listed] == [("prices", 1)]
    too_large = {**body, "value": "x" * 70_000}
    assert client.post("/api/v1/stores", json=too_large, headers=headers).status_code == 409
    gone = client.delete("/api/v1/stores/prices", headers=headers)
    assert gone.status_code == 204
    assert client.get("/api/v1/stores/prices", headers=headers).status_code == 404
