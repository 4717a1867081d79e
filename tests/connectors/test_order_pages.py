"""What people and programs see of the order of runs: keys, the editor, the pages, the API."""

import json
import re
from types import SimpleNamespace

import pytest
from factories.connectors import Shop, rows
from factories.identity import bearer, make_api_key, make_member, sign_in
from factories.webhooks import in_transaction, make_event, routed_by

from connectors import flow_checks, flow_editing, flows, loading, order_keys, recording
from connectors.tables import Flow, Run
from identity.tables import Organization
from kernel import clock
from kernel.database import EVERY, transaction

BY_ORDER = "${event.data.order_no}"


def event(data: object, subject: str | None = None) -> SimpleNamespace:
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    return SimpleNamespace(
        id="evt_1", type="order.paid", version=1, subject=subject, occurred_at=clock.now(),
        origin="src_1", body=body,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("order_key", "data", "value"),
    [
        ("flow", {"order_no": "1"}, ""),
        ("subject", {}, "SO-9"),
        (BY_ORDER, {"order_no": "SO-1"}, "SO-1"),
        (BY_ORDER, {"order_no": 17}, "17"),
        (BY_ORDER, {"order_no": "17"}, "17"),
        (BY_ORDER, {"order_no": True}, "true"),
        (BY_ORDER, {"order_no": {"a": 1}}, '{"a":1}'),
        (BY_ORDER, {"order_no": None}, ""),
        (BY_ORDER, {}, ""),
        (BY_ORDER, [], ""),
        (BY_ORDER, b"{", ""),
        (BY_ORDER, {"order_no": "a\x00b"}, "a\ufffdb"),
        ("${event.data.a}/${event.data.b}", {"a": "x", "b": 2}, "x/2"),
        ("${event.data.a}/${event.data.b}", {"a": "x"}, ""),
        ("${lower(event.data.order_no)}", {"order_no": "SO-1"}, "so-1"),
        ('${event.data.n > 3 ? "big" : "small"}', {"n": 5}, "big"),
        ("${event.subject}", {}, "SO-9"),
    ],
)
def test_the_value_of_an_event(order_key, data, value):
    assert order_keys.value_of(order_key, event(data, "SO-9")) == value


def test_long_values_are_told_apart_and_can_be_indexed():
    one, two = (
        order_keys.value_of(BY_ORDER, event({"order_no": "长" * 9_000 + end})) for end in "ab"
    )
    assert one != two
    assert len(one) <= order_keys.MAX_LENGTH
    assert order_keys.value_of(BY_ORDER, event({"order_no": "长" * 400})) == "长" * 400


SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"order_no": {"type": "string"}},
}


@pytest.mark.parametrize(
    ("order_key", "told"),
    [
        ("none", None),
        ("flow", None),
        ("subject", None),
        (BY_ORDER, None),
        ("${event.subject}", None),
        ("${lower(event.data.order_no)}", None),
        ("${event.data.order_nr}", "没有 event.data.order_nr"),
        ("${event.colour}", "没有 event.colour"),
        ("${steps.erp.output}", ""),
        ("order_no", "取一个字段"),
        ("${}", "取一个字段"),
        ("${'x'}", "取一个字段"),
        ("${event.data.order_no", ""),
        ("${event.data.order_no + }", ""),
        ("${" + "event.data.order_no + " * 400 + "'x'}", "500"),
        ("${event.data.list.map(a, event.data.list.map(b, a + b))}", ""),
    ],
)
def test_what_may_be_an_order_key(order_key, told):
    found = order_keys.check(order_key, SCHEMA)
    assert bool(found) == (told is not None), found
    assert told is None or told in found[0]["zh"]
    assert all(one["en"] for one in found)


def test_only_a_text_can_be_one():
    document = {"trigger": {"event": "order.paid", "order_key": 7}, "steps": []}
    assert [one["pointer"] for one in flow_checks.check_shape(document)] == ["/trigger/order_key"]


@pytest.mark.parametrize(
    ("choice", "value", "written"),
    [
        ("none", BY_ORDER, None),
        ("", "", None),
        ("flow", "x", "flow"),
        ("subject", "", "subject"),
        ("value", BY_ORDER, BY_ORDER),
        ("value", " event.data.order_no ", BY_ORDER),
        ("value", "", "${}"),
    ],
)
def test_two_fields_of_a_form_say_it(choice, value, written):
    assert flow_editing.order_key_of(choice, value) == written
    shown = flow_editing.order_parts({"order_key": written})
    assert shown == (choice or "none", written if choice == "value" else "")


# --- pages and API -------------------------------------------------------------------------------


@pytest.fixture
def desk(client):
    """An owner at a browser, whose flow runs in order, with a key for the API."""
    with transaction(EVERY) as session:
        client.shop = Shop(session, "http://127.0.0.1:9", order_key="flow")
        organization = session.get(Organization, client.shop.organization_id)
        sign_in(client, session, make_member(session, organization))
        client.key = make_api_key(session, organization)
    return client


def page(desk, path: str, language: str = "zh") -> str:
    answer = desk.get(f"{path}?lang={language}")
    assert answer.status_code == 200
    return answer.get_data(as_text=True)


def post(desk, path: str, **form):
    token = re.search(r'name="csrf-token" content="([^"]*)"', page(desk, "/flows"))[1]
    return desk.post(path, data={"csrf_token": token, **form})


def call(desk, method: str, path: str, body=None):
    answer = desk.open(f"/api/v1{path}", method=method, json=body, headers=bearer(desk.key))
    return answer.status_code, answer.get_json()


def fail_the_first(desk, count: int = 4) -> list[Run]:
    """Orders come in; the first of them fails for good."""
    owner = desk.shop.organization_id
    for number in range(count):
        in_transaction(
            lambda s, n=number: make_event(s, owner, type="order.paid", subject=f"SO-{n}")
        )
    (follow_up,) = routed_by("w1").follow_ups
    (moving,) = loading.load_born(follow_up.args[1])
    moving.park("data", {"zh": "账期已关闭", "en": "The period is closed"})
    recording.record("w1", [moving])
    return rows(Run)


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_flows_page_says_who_waits_behind_whom(desk, language):
    failed, *_ = fail_the_first(desk)
    shown = page(desk, f"/flows/{desk.shop.flow}", language)
    wanted = {
        "zh": ("所有运行按事件的先后逐个进行", "3 次运行在排队，排在最前面的是", "跳过", "重试"),
        "en": ("All runs go one after another", "3 runs wait behind run", "Skip it", "Retry"),
    }[language]
    assert all(words in shown for words in wanted)
    assert f'action="/runs/{failed.id}/retry"' in shown
    assert f'action="/runs/{failed.id}/cancel"' in shown


def test_a_flow_without_an_order_says_so(desk):
    with transaction(EVERY) as session:
        flows.find(session, desk.shop.organization_id, desk.shop.flow).order_key = None
    assert "各次运行同时进行" in page(desk, f"/flows/{desk.shop.flow}")


@pytest.mark.parametrize("language", ["zh", "en"])
def test_a_run_that_waits_says_for_whom(desk, language):
    failed, second, *_ = fail_the_first(desk)
    shown = page(desk, f"/runs/{second.id}", language)
    assert {"zh": "前面的运行失败了", "en": "behind a run that failed"}[language] in shown
    assert {"zh": "排队中", "en": "Waits for its turn"}[language] in shown
    assert f'action="/runs/{failed.id}/cancel"' in shown
    assert f'action="/runs/{second.id}/retry"' not in shown
    held = page(desk, f"/runs/{failed.id}", language)
    assert {"zh": "有 3 次运行按事件先后排在它后面", "en": "3 runs wait behind this one"}[
        language
    ] in held
    assert {"zh": "跳过", "en": "Skip it"}[language] in held


def test_who_may_only_look_gets_no_buttons(client):
    with transaction(EVERY) as session:
        client.shop = Shop(session, "http://127.0.0.1:9", order_key="flow")
        organization = session.get(Organization, client.shop.organization_id)
        sign_in(client, session, make_member(session, organization, role="purchaser"))
    failed, *_ = fail_the_first(client)
    shown = page(client, f"/flows/{client.shop.flow}")
    assert f"/runs/{failed.id}" in shown
    assert f'action="/runs/{failed.id}/cancel"' not in shown
    assert f'action="/runs/{failed.id}/retry"' not in shown


def test_skipping_lets_the_next_go(desk):
    failed, *_ = fail_the_first(desk)
    assert post(desk, f"/runs/{failed.id}/cancel").status_code == 303
    assert [run.state for run in rows(Run)] == ["cancelled", "due", "waiting", "waiting"]
    assert "排在最前面的是" not in page(desk, f"/flows/{desk.shop.flow}")
    assert "前面还有一次运行" in page(desk, f"/runs/{rows(Run)[2].id}")
    status, refused = call(desk, "POST", f"/runs/{rows(Run)[2].id}/retry")
    assert (status, refused["code"]) == (409, "not_now")
    assert refused["detail"]


def test_the_editor_shows_and_keeps_the_order(desk):
    path = f"/flows/{desk.shop.flow}/edit"
    assert '<option value="flow" selected>' in page(desk, path)
    form = {"event": "order.paid", "version": "1", "count": "0", "revision": "0"}
    answer = post(desk, path, order="value", order_value="event.data.order_no", do="save", **form)
    assert answer.status_code == 303
    (flow,) = rows(Flow)
    assert flow.draft["trigger"]["order_key"] == BY_ORDER
    assert flow.order_key == "flow", "what runs has not changed yet"
    shown = page(desk, path)
    assert '<option value="value" selected>' in shown
    assert f'value="{BY_ORDER}"' in shown
    form["revision"] = "1"
    post(desk, path, order="value", order_value="event.data.nothing_like_it", do="save", **form)
    assert "来源里没有 event.data.nothing_like_it" in page(desk, path)
    form["revision"] = "2"
    post(desk, path, order="none", order_value=BY_ORDER, do="save", **form)
    assert "order_key" not in rows(Flow)[0].draft["trigger"]


def test_the_api_takes_it_and_tells_who_waits(desk):
    failed, second, *_ = fail_the_first(desk)
    path = f"/flows/{desk.shop.flow}"
    assert call(desk, "GET", path)[1]["order_key"] == "flow"
    _, told = call(desk, "GET", f"/runs/{second.id}")
    assert (told["waits_for"], told["runs_behind"], told["order_key"]) == (failed.id, 2, "")
    _, told = call(desk, "GET", f"/runs/{failed.id}")
    assert (told["waits_for"], told["runs_behind"]) == (None, 3)
    document = {
        "trigger": {"event": "order.paid", "order_key": "${event.data.nothing}"},
        "steps": [],
    }
    status, changed = call(desk, "PATCH", path, {"document": document})
    assert status == 200
    assert "/trigger/order_key" in {one["pointer"] for one in changed["problems"]}
    status, refused = call(desk, "POST", f"{path}/publish")
    assert status == 422
    assert "/trigger/order_key" in {one["pointer"] for one in refused["errors"]}
    document["trigger"]["order_key"] = ["flow"]
    assert call(desk, "PATCH", path, {"document": document})[0] == 422
    spec = desk.get("/api/v1/openapi.json").get_json()["components"]["schemas"]
    assert "order_key" in spec["DraftIn"]["properties"]["document"]["description"]
    assert "order_key" in spec["FlowOut"]["properties"]
    assert {"waits_for", "runs_behind"} <= set(spec["RunDetailOut"]["properties"])


def test_a_version_keeps_its_order(desk):
    path = f"/flows/{desk.shop.flow}"
    _, versions = call(desk, "GET", f"{path}/versions")
    found = versions["items"] if isinstance(versions, dict) else versions
    assert found[0]["document"]["trigger"]["order_key"] == "flow"
