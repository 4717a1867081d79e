"""The whole way against the lab's vendors: event → run → ERP → chat, exactly once, and how fast."""

import json
import threading
import time
import urllib.request
from urllib.parse import urlsplit

import pytest
from factories.connectors import Shop, rows, runs, vendor
from factories.identity import make_organization

from connectors import connections, flows
from connectors.engine import flow_templates
from connectors.lab import mock_vendor
from connectors.tables import Run
from kernel import clock
from kernel.database import EVERY, transaction
from kernel.settings import settings_override
from webhooks import drain, events
from webhooks.events import NewEvent

TEMPLATE = flow_templates.find("order-to-erp-to-chat")


@pytest.fixture(autouse=True)
def wired(app):
    """The hooks that the application installs."""
    return app


@pytest.fixture
def lab(database, tmp_path):
    """The demo shop, ERP and chat on free ports."""
    vendors = mock_vendor.serve(base_port=0, state_dir=tmp_path)
    allowed = tuple(urlsplit(one.url).netloc for one in vendors.running)
    try:
        with settings_override(outbound_allow=allowed):
            yield vendors
    finally:
        vendors.close()


def call(url: str, body: dict | None = None) -> dict:
    """Call a vendor's own doors."""
    request = urllib.request.Request(
        url,
        data=None if body is None else json.dumps(body).encode(),
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=5) as answer:
        return json.loads(answer.read() or b"{}")


def install(lab, session) -> str:
    """An organization whose three apps are installed and joined by the template's flow."""
    owner = make_organization(session).id
    chosen = {}
    for one in lab.running:
        who = {"installation_id": "ins_1", "organization": {"id": owner, "name": "明华"}}
        given = call(f"{one.url}/hub/install", who)
        key = given.get("api_key") or given["data"]["api_key"]
        chosen[one.key] = connections.create(
            session, owner, one.key, fields={"key": key}, settings={"base_url": one.url}
        ).id
    session.flush()
    flow = flows.create_from_template(session, owner, TEMPLATE.key, chosen)
    session.flush()
    flows.publish(session, owner, flow.id)
    flow.listens_connection_id = None  # the orders of this test come in by themselves
    return owner


def order(number: int) -> NewEvent:
    data = {**TEMPLATE.sample["data"], "order_no": f"SO-{number}"}
    return NewEvent(
        type="order.paid", version=1, body=json.dumps(data).encode(), dedupe_key=f"o-{number}"
    )


def count(lab, key: str, action: str) -> int:
    """How many documents an action made in an app; a repeated request makes none."""
    return call(f"{lab[key].url}/_mock/ledger/count")["actions"][action]["documents"]


def test_orders_are_booked_and_told_exactly_once(lab):
    with transaction(EVERY) as session:
        owner = install(lab, session)
        events.accept(session, owner, None, [order(number) for number in range(20)])
        again = events.accept(session, owner, None, [order(number) for number in range(20)])
    assert all(one.is_duplicate for one in again)
    drain.drain("worker")
    assert {run.state for run in runs()} == {"succeeded"}
    assert count(lab, "demo-erp", "create_sales_order") == 20
    assert count(lab, "demo-chat", "post_message") == 20


def test_an_events_page_names_the_run_it_started(lab):
    with transaction(EVERY) as session:
        owner = install(lab, session)
        stranger = make_organization(session).id
        (one,) = events.accept(session, owner, None, [order(1)])
    drain.drain("worker")
    with transaction(EVERY) as session:
        found = [t for look in events.TRACES for t in look(session, owner, one.id)]
        assert [(trace.href, trace.state) for trace in found] == [
            (f"/runs/{runs()[0].id}", "succeeded")
        ]
        assert [t for look in events.TRACES for t in look(session, stranger, one.id)] == []


def test_a_vendor_that_is_down_for_a_while_loses_nothing(lab):
    with transaction(EVERY) as session:
        owner = install(lab, session)
        events.accept(session, owner, None, [order(number) for number in range(5)])
    call(f"{lab['demo-erp'].url}/_mock/behaviour", {"mode": "down"})
    drain.drain("worker")
    assert {(run.state, run.cause) for run in runs()} == {("waiting", "down")}
    call(f"{lab['demo-erp'].url}/_mock/behaviour", {"mode": "ok"})
    with clock.shifted(seconds=10):
        assert drain.drain("worker") == 5
    assert {run.state for run in runs()} == {"succeeded"}
    assert count(lab, "demo-erp", "create_sales_order") == 5
    assert drain.drain("worker") == 0


def test_two_drains_at_once_do_nothing_twice(lab):
    with transaction(EVERY) as session:
        owner = install(lab, session)
        events.accept(session, owner, None, [order(number) for number in range(60)])
    threads = [threading.Thread(target=drain.drain, args=(f"worker-{n}",)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [run.state for run in runs()] == ["succeeded"] * 60
    assert count(lab, "demo-erp", "create_sales_order") == 60
    assert count(lab, "demo-chat", "post_message") == 60


@pytest.mark.slow
def test_500_orders_pass_quickly(database, capsys):
    orders = 500
    with vendor() as target:
        with transaction(EVERY) as session:
            shop = Shop(session, target.url)
            events.accept(session, shop.organization_id, None, list(paid(orders)))
        began = time.perf_counter()
        drain.drain("worker")
        seconds = time.perf_counter() - began
        made = len(target.orders()), len(target.messages())
    assert made == (orders, orders)
    assert [run.state for run in rows(Run)] == ["succeeded"] * orders
    with capsys.disabled():
        print(f" [{database.url.split(':')[0]}: {orders / seconds:.0f} runs/s, two calls each]")
    assert orders / seconds > 25  # a tenth of what a quiet machine does


def paid(orders: int):
    """Paid orders in the shape of the factory's flow."""
    from factories.connectors import ORDER

    for number in range(orders):
        body = json.dumps({**ORDER, "order_no": f"SO-{number}"}).encode()
        yield NewEvent(type="order.paid", body=body, dedupe_key=f"o-{number}")
