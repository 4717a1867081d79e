"""AI assistants at /mcp, called with the protocol's own client over a real server."""

import asyncio
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx2
import pytest
import uvicorn
from factories.connectors import Vendor, make_connection, vendor
from factories.identity import make_api_key, make_member, make_organization
from factories.webhooks import rows
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client

from connectors import approvals
from connectors.approvals import Judge
from connectors.assistants import access, calling, calls, door
from connectors.tables import Approval, Flow, Run
from kernel.database import EVERY, transaction
from kernel.settings import settings_override
from marketplace.front import Front
from webhooks import drain, quotas
from webhooks.tables import Event

ORDER = {
    "external_no": "SO-1",
    "ordered_at": "2026-11-22T09:30:00+08:00",
    "currency": "CNY",
    "total": "176.00",
    "customer": {"name": "扬州启航轴承有限公司"},
    "lines": [{"sku": "BRG-6204", "quantity": "2", "unit_price": "88.00"}],
}


@contextmanager
def served(app):
    """The application at an address of its own, as the hub serves it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = uvicorn.Config(Front(app), host="127.0.0.1", port=port, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(5)


class Firm:
    """An organization with an ERP, its key, and an assistant that uses it."""

    def __init__(self, erp: Vendor, url: str, level: str) -> None:
        self.url, self.erp = url, erp
        with transaction(EVERY) as session:
            self.organization = make_organization(session)
            self.owner = self.organization.id
            self.boss = make_member(session, self.organization, role="owner")
            self.connection = make_connection(
                session, self.owner, settings={"base_url": erp.url}, name="账房"
            ).id
            self.key = make_api_key(session, self.organization)
        self.give(level)

    def give(self, level: str) -> None:
        with transaction(self.owner) as session:
            access.give(session, self.owner, self.connection, level)

    def name(self, action: str) -> str:
        return f"{action}-{self.connection[-10:].lower()}"

    def ask(self, work, *, key: str | None = None, language: str = "en"):
        """Let the official client do something over a connection of its own."""

        async def go():
            sent = {"Authorization": f"Bearer {key or self.key}"}
            async with httpx2.AsyncClient(headers=sent, timeout=30) as http:
                transport = streamable_http_client(
                    f"{self.url}/mcp?lang={language}", http_client=http
                )
                async with Client(transport) as client:
                    return await work(client)

        return asyncio.run(go())

    def tools(self, **how):
        async def work(client):
            return (await client.list_tools()).tools

        return {tool.name: tool for tool in self.ask(work, **how)}

    def use(self, name: str, given: dict, **how):
        async def work(client):
            return await client.call_tool(name, given)

        found = self.ask(work, **how)
        assert json.loads(found.content[0].text) == found.structured_content
        return found.structured_content, bool(found.is_error)


@contextmanager
def draining():
    """A worker that carries out what is there, as long as the test runs."""
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            drain.drain("assistant-worker")
            time.sleep(0.02)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(10)


@pytest.fixture
def firm(app):
    with vendor() as erp, served(app) as url, draining():
        yield Firm(erp, url, access.ASK)


def test_what_is_not_given_is_not_there(firm):
    firm.give(access.NONE)
    assert not [name for name in firm.tools() if name.endswith(firm.connection[-10:].lower())]
    told, is_error = firm.use(firm.name("get_stock"), {"input": {"sku": "BRG-6204"}})
    assert is_error
    assert told["state"] == "refused"
    firm.give(access.READ)
    offered = firm.tools()
    assert firm.name("get_stock") in offered
    assert firm.name("create_sales_order") not in offered
    told, is_error = firm.use(firm.name("create_sales_order"), {"input": ORDER})
    assert is_error
    assert firm.erp.orders() == []


def test_tools_say_what_they_are(firm):
    offered = firm.tools()
    create = offered[firm.name("create_sales_order")]
    assert create.annotations.read_only_hint is False
    assert "approves first" in create.description
    assert create.input_schema["properties"]["input"]["required"]
    assert offered[firm.name("get_stock")].annotations.read_only_hint is True
    assert all(len(name) <= 64 for name in offered)
    assert "改变数据" in firm.tools(language="zh")[create.name].description


def test_a_dry_run_shows_the_request_without_secrets_and_sends_nothing(firm):
    told, is_error = firm.use(firm.name("create_sales_order"), {"input": ORDER, "dry_run": True})
    assert not is_error
    assert told["state"] == "dry_run"
    assert told["request"]["body"]["external_no"] == "SO-1"
    assert "key-0123" not in json.dumps(told)
    assert firm.erp.orders() == []
    assert rows(Event) == []


def test_a_change_waits_for_a_person_and_is_done_once(firm):
    told, is_error = firm.use(firm.name("create_sales_order"), {"input": ORDER, "request_id": "r1"})
    assert not is_error
    assert told["state"] == "waits_for_approval"
    assert firm.erp.orders() == []
    (asked,) = rows(Approval)
    assert "SO-1" in asked.text
    again, _ = firm.use(firm.name("create_sales_order"), {"input": ORDER, "request_id": "r1"})
    assert again["call_id"] == told["call_id"]
    decide(firm, asked.id, "approve")
    told = settled(firm, told["call_id"])
    assert told["state"] == "done"
    assert told["output"]["document_no"]
    assert told["decided"]["decision"] == "approved"
    assert len(firm.erp.orders()) == 1
    assert len(rows(Run)) == 1
    other = {"input": {**ORDER, "external_no": "SO-2"}, "request_id": "r1"}
    told, is_error = firm.use(firm.name("create_sales_order"), other)
    assert is_error
    assert told["code"] == "id_reused"


def test_what_a_person_refuses_is_not_done(firm):
    told, _ = firm.use(firm.name("create_sales_order"), {"input": ORDER})
    decide(firm, rows(Approval)[0].id, "refuse")
    told = settled(firm, told["call_id"])
    assert told["state"] == "not_approved"
    assert firm.erp.orders() == []


@pytest.mark.parametrize("is_long", [False, True])
def test_no_value_passes_for_another_or_pushes_it_out(is_long):
    note = "x" * 100_000 if is_long else "nothing\nÿ\u2028\u202eamount: 1\r\n\namount: 1"
    shown = calls._summary({**{f"note{number}": note for number in range(30)}, "amount": "999999",
                            "odd\namount: 1": 1})  # fmt: skip
    lines = shown.splitlines()
    assert [line for line in lines if line.startswith("amount")] == ["amount: 999999"]
    assert len(shown) <= 4_000
    assert not is_long or "characters" in shown
    assert not is_long or "more fields" in lines[-1]


def test_calls_count_as_events_and_have_their_size(firm, monkeypatch):
    tool = firm.name("create_sales_order")
    quotas.forget()
    with settings_override(quota_per_minute=1, quota_burst=2, quota_per_day=1000):
        found = [
            firm.use(tool, {"input": {**ORDER, "external_no": f"SO-{number}"}})[0]
            for number in range(3)
        ]
    quotas.forget()
    assert [one["state"] for one in found][:2] == ["waits_for_approval"] * 2
    assert found[2]["code"] == "organization_minute_quota"
    assert len(rows(Approval)) == 2
    monkeypatch.setattr(calls, "MAX_BYTES", 100)
    told, is_error = firm.use(tool, {"input": ORDER})
    assert is_error
    assert told["code"] == "too_large"


def decide(firm, approval_id: str, decision: str) -> None:
    judge = Judge(firm.boss.user_id, firm.boss.id, "owner", "老板")
    with transaction(firm.owner) as session:
        approvals.decide(session, firm.owner, approval_id, decision, judge)


def settled(firm, call_id: str) -> dict:
    for _ in range(60):
        told, _ = firm.use("check_call", {"call_id": call_id})
        if told["state"] not in ("under_way", "waits_for_approval"):
            return told
        time.sleep(0.1)
    raise AssertionError(told)


def test_without_asking_a_change_is_done_at_once_and_the_app_says_no_in_words(firm):
    firm.give(access.ACT)
    told, is_error = firm.use(firm.name("create_sales_order"), {"input": ORDER})
    assert not is_error
    assert told["state"] == "done"
    assert len(firm.erp.orders()) == 1
    firm.erp.always["sales-orders"] = (422, {"code": "UNKNOWN_SKU", "message": "BRG-9"})
    told, is_error = firm.use(
        firm.name("create_sales_order"), {"input": {**ORDER, "external_no": "SO-2"}}
    )
    assert is_error
    assert (told["state"], told["cause"]) == ("stopped", "data")
    assert told["page"].endswith(told["run_id"])
    assert len(rows(Flow)) == 1, "one flow stands behind the tool"


def test_many_first_calls_at_once_make_one_flow(firm):
    firm.give(access.ACT)
    found = []

    def work(number: int) -> None:
        order = {**ORDER, "external_no": f"SO-{number}"}
        found.append(firm.use(firm.name("create_sales_order"), {"input": order})[0]["state"])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["done"] * 6
    assert len(firm.erp.orders()) == 6
    assert len(rows(Flow)) == 1


def test_arguments_that_do_not_fit_are_told_place_by_place(firm):
    broken = {**ORDER, "lines": "none"}
    told, is_error = firm.use(firm.name("create_sales_order"), {"input": broken})
    assert is_error
    assert told["problems"][0]["at"].startswith("/input/lines") or told["problems"]
    assert rows(Event) == []


def test_a_key_without_the_right_sees_and_does_nothing(firm):
    with transaction(EVERY) as session:
        weak = make_api_key(session, firm.organization, permissions=["events:read"])
        other = make_organization(session)
        strange = make_api_key(session, other)
    assert firm.tools(key=weak) == {}
    told, is_error = firm.use(firm.name("get_stock"), {"input": {"sku": "1"}}, key=weak)
    assert is_error
    assert told["state"] == "refused"
    told, is_error = firm.use(firm.name("get_stock"), {"input": {"sku": "1"}}, key=strange)
    assert is_error
    assert told["state"] == "refused"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer yfk_nonsense"}, 401),
        ({"Authorization": "Basic eDp5"}, 401),
        ({"Origin": "https://evil.example"}, 403),
    ],
)
def test_whoever_cannot_prove_who_they_are_is_refused(firm, headers, status):
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    accept = {"Accept": "application/json, text/event-stream"}
    answer = httpx2.post(f"{firm.url}/mcp", json=body, headers={**accept, **headers})
    assert answer.status_code == status


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
def test_no_stream_stays_open(firm, method):
    sent = {"Authorization": f"Bearer {firm.key}", "Accept": "text/event-stream"}
    answer = httpx2.request(method, f"{firm.url}/mcp", headers=sent, timeout=5)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_one_organizations_calls_leave_room_for_others(firm, monkeypatch):
    go_on, waiting = threading.Event(), threading.Semaphore(0)

    def slow(*_):
        waiting.release()
        go_on.wait(20)
        return calls.Told({"state": "done"})

    monkeypatch.setattr(calls, "call", slow)
    monkeypatch.setattr(door, "WAITING_EACH", 9)
    with transaction(EVERY) as session:
        other = make_api_key(session, make_organization(session, slug="others"))
    sent = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-06-18"}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": {"name": "anything", "arguments": {}}}  # fmt: skip
    listing = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}

    def ask(key, what):
        headers = {**sent, "Authorization": f"Bearer {key}"}
        return httpx2.post(f"{firm.url}/mcp", headers=headers, json=what, timeout=30)

    with ThreadPoolExecutor(10) as many:
        asked = [many.submit(ask, firm.key, body) for _ in range(9)]
        try:
            for _ in range(calling.THREADS_EACH):
                assert waiting.acquire(timeout=10)
            assert ask(other, listing).status_code == 200
            until = time.monotonic() + 10
            while ask(firm.key, listing).status_code != 503 and time.monotonic() < until:
                pass
            assert ask(firm.key, listing).status_code == 503
        finally:
            go_on.set()
        assert [one.result().status_code for one in asked] == [200] * 9
    assert ask(firm.key, listing).status_code == 200


def test_no_sender_can_say_what_an_assistant_asked_for(firm):
    """A webhook of the connection's own app with an assistant's event type starts nothing."""
    from connectors import routing
    from webhooks.ready import ReadyEvent

    firm.give(access.ACT)
    firm.use(firm.name("create_sales_order"), {"input": ORDER})
    (flow,) = rows(Flow)
    event = next(one for one in rows(Event))
    names = {name: getattr(event, name) for name in ReadyEvent.__slots__ if hasattr(event, name)}
    mine = type("E", (), {**names, "source_id": None, "version": None})
    forged = type("E", (), {**names, "source_id": "src_x", "version": None})
    assert routing.hears(flow, mine, None)
    assert not routing.hears(flow, forged, firm.connection)


def test_flows_are_drafted_checked_and_tried_but_not_published(firm):
    facts, _ = firm.use("list_wiring", {})
    assert facts["connections"][0]["connection"] == firm.connection
    document = {
        "trigger": {"event": "order.paid"},
        "steps": [
            {
                "key": "stock",
                "kind": "action",
                "connector": "demo-erp",
                "connection": firm.connection,
                "action": "get_stock",
                "input": {"sku": "${event.data.order_no}"},
            }
        ],
    }
    told, _ = firm.use("check_flow", {"document": document})
    assert told == {"ok": True, "problems": []}
    tried, is_error = firm.use(
        "try_flow", {"document": document, "event": {"data": {"order_no": "SO-1"}}}
    )
    assert not is_error
    assert "SO-1" in tried["steps"][0]["request"]["url"]
    drafted, _ = firm.use("draft_flow", {"name": "查库存", "document": document})
    (flow,) = rows(Flow)
    assert (flow.id, flow.state) == (drafted["flow_id"], "draft")
    broken, is_error = firm.use("draft_flow", {"name": "x", "document": {"steps": 1}})
    assert is_error
    assert broken["problems"]


def test_a_paused_tool_takes_nothing(firm):
    firm.give(access.ACT)
    firm.use(firm.name("create_sales_order"), {"input": ORDER})
    (flow,) = rows(Flow)
    from connectors import flows

    with transaction(firm.owner) as session:
        flows.pause(session, firm.owner, flow.id)
    events = len(rows(Event))
    told, is_error = firm.use(
        firm.name("create_sales_order"), {"input": {**ORDER, "external_no": "SO-9"}}
    )
    assert is_error
    assert told["code"] == "tool_paused"
    assert len(rows(Event)) == events


def test_a_call_under_way_is_not_waited_for_for_ever(firm, monkeypatch):
    monkeypatch.setattr(calls, "WAIT_SECONDS", 0.3)
    firm.give(access.ACT)
    held = firm.erp.hold("sales-orders")
    try:
        began = time.monotonic()
        told, _ = firm.use(firm.name("create_sales_order"), {"input": ORDER})
        assert told["state"] == "under_way"
        assert time.monotonic() - began < 8
    finally:
        held.set()
    assert settled(firm, told["call_id"])["state"] == "done"
