"""The lab vendors, called as the hub calls them: idempotency, faults, signed events, restarts."""

import http.client
import json
import socket
import threading
import time

import pytest
from standardwebhooks import Webhook

from connectors import rehearsals
from connectors.engine import answers, flow_templates, listings, loader, reconcile, requests
from connectors.engine.connector import ConnectionValues
from connectors.lab import (
    mock_vendor,
    vendor_answers,
    vendor_calls,
    vendor_events,
    vendor_looks,
)
from connectors.lab.vendor_server import Server
from kernel import clock, documents
from kernel.http import Failure, Response, send
from kernel.settings import settings_override
from webhooks import signing

FACTS = {
    "installation": {"id": "ins_1"},
    "organization": {"id": "org_1", "name": "启航五金"},
    "effect_key": "ins_1",
}


@pytest.fixture
def vendors(tmp_path):
    running = mock_vendor.serve(base_port=0, state_dir=tmp_path)
    allowed = tuple(one.url.removeprefix("http://") for one in running.running)
    with settings_override(outbound_allow=allowed):
        yield running
    running.close()


@pytest.fixture
def sink():
    """A hub that takes events: set `status` to make it refuse them."""

    class Sink:
        def __init__(self):
            self.taken, self.status = [], 202
            self.lock = threading.Lock()
            self.server = Server("127.0.0.1", 0, self)
            self.server.start()
            self.url = f"http://127.0.0.1:{self.server.port}/in/token"

        def __call__(self, environ, start):
            raw = environ["wsgi.input"].read()
            headers = {
                name[5:].replace("_", "-").lower(): value
                for name, value in environ.items()
                if name.startswith("HTTP_")
            }
            with self.lock:
                self.taken.append((self.status, headers, raw))
            start(f"{self.status} X", [])
            return [b"{}"]

        def wait(self, count, status=202):
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:
                with self.lock:
                    found = [one for one in self.taken if one[0] == status]
                if len(found) >= count:
                    return found
                time.sleep(0.02)
            raise AssertionError(f"only {len(self.taken)} events came")

    made = Sink()
    yield made
    made.server.stop()


def talk(vendor, method, path, body=None, **headers):
    connection = http.client.HTTPConnection(vendor.url.removeprefix("http://"), timeout=10)
    raw = None if body is None else body if isinstance(body, bytes | str) else json.dumps(body)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, raw, named)
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    try:
        return answer.status, json.loads(text or b"null")
    except ValueError:
        return answer.status, text.decode()


def lifecycle(vendor, step, connection, **facts):
    connector = loader.find(vendor.key)
    outcome = send(requests.build_lifecycle(connector, step, connection, {**FACTS, **facts}))
    return answers.read_lifecycle(connector, step, outcome)


def install(vendor):
    bare = ConnectionValues({"base_url": vendor.url})
    answer = lifecycle(vendor, "install", bare)
    assert answer.kind == "ok", answer
    return ConnectionValues({"base_url": vendor.url}, "key", answer.output["credentials"])


def act(vendor, action, connection, values=None, key="effect-1"):
    connector = loader.find(vendor.key)
    values = values or connector.actions[action].sample["input"]
    outcome = send(requests.build(connector, action, values, connection, key))
    return answers.read(connector, action, outcome)


def behave(vendor, mode, **more):
    status, _ = talk(vendor, "POST", "/_mock/behaviour", {"mode": mode, **more})
    assert status == 200


@pytest.mark.parametrize("key", mock_vendor.DEMO)
def test_install_is_idempotent_and_uninstall_ends_in_absent(vendors, key):
    vendor = vendors[key]
    first, second = install(vendor), install(vendor)
    assert first == second
    assert lifecycle(vendor, "test", first).kind == "ok"
    assert lifecycle(vendor, "uninstall", first).kind == "ok"
    assert lifecycle(vendor, "test", first).kind == "reauth"


@pytest.mark.parametrize("key", mock_vendor.DEMO)
def test_every_action_answers_what_its_schema_promises(vendors, key):
    vendor = vendors[key]
    connection = install(vendor)
    for name in loader.find(key).actions:
        answer = act(vendor, name, connection)
        assert (answer.kind, answer.detail) == ("ok", ""), answer


def test_a_key_is_honoured_once_and_the_answer_is_the_same(vendors):
    erp = vendors["demo-erp"]
    connection = install(erp)
    made = {act(erp, "create_sales_order", connection).output["document_no"] for _ in range(5)}
    assert made == {"XS-20261122-0001"}
    other = act(erp, "create_sales_order", connection, key="effect-2")
    assert other.output["document_no"] == "XS-20261122-0002"
    status, ledger = talk(erp, "GET", "/_mock/ledger?action=create_sales_order")
    assert status == 200
    assert [(one["key"], one["count"]) for one in ledger["items"]] == [
        ("effect-1", 5),
        ("effect-2", 1),
    ]
    counts = talk(erp, "GET", "/_mock/ledger/count")[1]["actions"]["create_sales_order"]
    assert counts == {"documents": 2, "requests": 6}


def test_a_key_reused_for_other_content_is_refused(vendors):
    erp = vendors["demo-erp"]
    connection = install(erp)
    act(erp, "create_sales_order", connection)
    sample = loader.find("demo-erp").actions["create_sales_order"].sample["input"]
    answer = act(erp, "create_sales_order", connection, {**sample, "external_no": "SO-other"})
    assert answer.kind == "fail"
    assert "other content" in answer.detail


def test_one_key_from_many_threads_makes_one_document(vendors):
    erp = vendors["demo-erp"]
    connection = install(erp)
    found = []

    def work():
        found.append(act(erp, "create_sales_order", connection).output["document_no"])

    threads = [threading.Thread(target=work) for _ in range(16)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert found == ["XS-20261122-0001"] * 16
    counts = talk(erp, "GET", "/_mock/ledger/count")[1]["actions"]["create_sales_order"]
    assert counts == {"documents": 1, "requests": 16}


def test_faults_look_like_the_real_ones_and_end(vendors):
    erp = vendors["demo-erp"]
    connection = install(erp)
    seen = {}
    for mode in ("down", "reject", "unauthorized", "rate_limited"):
        behave(erp, mode, times=1, seconds=33)
        answer = act(erp, "create_sales_order", connection)
        seen[mode] = (answer.kind, answer.cause)
        if mode == "rate_limited":
            assert answer.after_seconds >= 33
        assert talk(erp, "GET", "/_mock/behaviour")[1] == {"mode": "ok"}
    assert seen == {
        "down": ("retry", "down"),
        "reject": ("fail", "data"),
        "unauthorized": ("reauth", "auth"),
        "rate_limited": ("retry", "limit"),
    }
    assert act(erp, "create_sales_order", connection).kind == "ok"
    assert talk(erp, "GET", "/_mock/ledger/count")[1]["refused"] == {"create_sales_order": 4}


def test_a_named_case_of_rejection_can_be_chosen(vendors):
    erp = vendors["demo-erp"]
    connection = install(erp)
    behave(erp, "reject", case="period_closed")
    assert "账期已关闭" in act(erp, "create_sales_order", connection).say["zh"]
    behave(erp, "reject", case="unknown_sku")
    assert "货号" in act(erp, "create_sales_order", connection).say["zh"]


def test_a_lost_answer_has_an_effect_and_the_retry_finds_it(vendors):
    erp = vendors["demo-erp"]
    connection = install(erp)
    behave(erp, "lost", times=1)
    found = []
    # A thread of its own has a connection of its own: libcurl by itself sends a request again
    # when a connection it had kept open turns out to be dead.
    other = threading.Thread(
        target=lambda: found.append(act(erp, "create_sales_order", connection))
    )
    other.start()
    other.join()
    assert (found[0].kind, found[0].cause) == ("retry", "down")
    again = act(erp, "create_sales_order", connection)
    assert again.output["document_no"] == "XS-20261122-0001"
    counts = talk(erp, "GET", "/_mock/ledger/count")[1]["actions"]["create_sales_order"]
    assert counts == {"documents": 1, "requests": 2}


def test_a_slow_app_is_slow(vendors):
    erp = vendors["demo-erp"]
    connection = install(erp)
    behave(erp, "slow", times=1, seconds=0.3)
    started = time.monotonic()
    assert act(erp, "create_sales_order", connection).kind == "ok"
    assert time.monotonic() - started >= 0.3


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda body: body.pop("lines"), "lines"),
        (lambda body: body.update(total=176), "total"),
        (lambda body: body["lines"][0].update(quantity=2), "quantity"),
        (lambda body: body.update(extra=1), "extra"),
    ],
)
def test_a_request_that_is_not_the_actions_is_refused(vendors, change, word):
    erp = vendors["demo-erp"]
    connection = install(erp)
    connector = loader.find("demo-erp")
    sample = connector.actions["create_sales_order"].sample["input"]
    built = requests.build(connector, "create_sales_order", sample, connection, "k")
    body = documents.parse(built.body)
    change(body)
    named = {name.replace("-", "_"): value for name, value in built.headers.items()}
    status, answer = talk(erp, "POST", "/api/sales-orders", body, **named)
    assert status == 400
    assert word in answer["message"]
    assert talk(erp, "POST", "/api/sales-orders", "{", **named)[0] == 400
    assert talk(erp, "POST", "/api/nothing", {}, **named)[0] == 404


def test_the_body_schema_follows_the_manifest():
    action = loader.find("demo-erp").actions["create_sales_order"]
    schema = vendor_answers.body_schema(action)
    assert set(schema["required"]) == {
        "external_no", "order_date", "currency", "total", "customer", "lines",
    }  # fmt: skip
    assert schema["properties"]["lines"]["items"]["properties"]["quantity"]["pattern"]


def subscribe(vendors, sink):
    shop = vendors["demo-shop"]
    connection = install(shop)
    answer = lifecycle(shop, "subscribe", connection, hook={"url": sink.url})
    assert answer.kind == "ok", answer
    return shop, connection, answer.output


def test_events_are_signed_canonical_and_each_has_its_own_number(vendors, sink):
    shop, connection, saved = subscribe(vendors, sink)
    again = lifecycle(shop, "subscribe", connection, hook={"url": sink.url})
    assert again.output == saved
    status, sent = talk(shop, "POST", "/_mock/emit", {"trigger": "order_paid", "count": 30})
    assert (status, sent["subscriptions"], len(sent["events"])) == (202, 1, 30)
    taken = sink.wait(30)
    numbers = set()
    for _, headers, raw in taken:
        body = Webhook(saved["hook_secret"]).verify(raw, headers)
        assert body["type"] == "order.paid"
        numbers.add(body["data"]["order_no"])
        numbers.add(body["data"]["payment_no"])
    assert len(numbers) == 60
    assert {headers["webhook-id"] for _, headers, _ in taken} == set(sent["events"])
    template = flow_templates.find("order-to-erp-to-chat")
    event = {**template.sample, "data": documents.parse(taken[0][2])["data"]}
    assert rehearsals.rehearse(template.document, event).state == "succeeded"


def test_data_of_an_event_can_be_given(vendors, sink):
    shop, _, _ = subscribe(vendors, sink)
    data = {"reason": "缺货", "order_no": "SO-7"}
    talk(shop, "POST", "/_mock/emit", {"trigger": "order_cancelled", "data": data})
    body = documents.parse(sink.wait(1)[0][2])
    assert body["data"]["reason"] == "缺货"
    assert body["data"]["order_no"] == "SO-7"
    assert body["type"] == "order.cancelled"


def test_what_the_hub_did_not_take_is_sent_again_under_the_same_id(vendors, sink):
    sink.status = 503
    shop, _, _ = subscribe(vendors, sink)
    sent = talk(shop, "POST", "/_mock/emit", {"trigger": "order_paid"})[1]
    sink.wait(1, status=503)
    sink.status = 202
    taken = sink.wait(1)
    assert {headers["webhook-id"] for _, headers, _ in sink.taken} == set(sent["events"])
    assert len(taken) == 1


def test_after_unsubscribe_nothing_comes(vendors, sink):
    shop, connection, saved = subscribe(vendors, sink)
    for _ in range(2):
        assert lifecycle(shop, "unsubscribe", connection, state=saved["state"]).kind == "ok"
    sent = talk(shop, "POST", "/_mock/emit", {"trigger": "order_paid"})[1]
    assert sent["subscriptions"] == 0


def test_events_go_to_this_computer_only(vendors):
    shop = vendors["demo-shop"]
    connection = install(shop)
    for url in ("http://10.0.0.1/x", "https://hub.example.com/in/x", "ftp://127.0.0.1/x", "x"):
        assert lifecycle(shop, "subscribe", connection, hook={"url": url}).kind == "fail"


def test_the_ledger_survives_a_restart(tmp_path):
    first = mock_vendor.serve(["demo-erp"], base_port=0, state_dir=tmp_path)
    port = first.running[0].server.port
    allowed = (f"127.0.0.1:{port}",)
    with settings_override(outbound_allow=allowed):
        connection = install(first["demo-erp"])
        made = act(first["demo-erp"], "create_sales_order", connection)
        first.close()
        second = mock_vendor.serve(["demo-erp"], base_port=port, state_dir=tmp_path)
        again = act(second["demo-erp"], "create_sales_order", connection)
        new = act(second["demo-erp"], "create_sales_order", connection, key="effect-2")
        second.close()
    assert again.output == made.output
    assert new.output["document_no"] == "XS-20261122-0002"


def test_events_that_waited_are_sent_after_a_restart(tmp_path, sink):
    sink.status = 503
    first = mock_vendor.serve(["demo-shop"], base_port=0, state_dir=tmp_path)
    with settings_override(outbound_allow=(first.running[0].url.removeprefix("http://"),)):
        subscribe(first, sink)
    sent = talk(first["demo-shop"], "POST", "/_mock/emit", {"trigger": "order_paid"})[1]
    sink.wait(1, status=503)
    first.close()
    sink.status = 202
    second = mock_vendor.serve(["demo-shop"], base_port=0, state_dir=tmp_path)
    [taken] = sink.wait(1)
    second.close()
    assert taken[1]["webhook-id"] == sent["events"][0]


@pytest.mark.parametrize("key", mock_vendor.DEMO)
@pytest.mark.parametrize(("language", "word"), [("zh", "模拟故障"), ("en", "Simulate a fault")])
def test_the_page_reads_in_both_languages_and_runs_no_code(vendors, key, language, word):
    vendor = vendors[key]
    connection = install(vendor)
    action = list(loader.find(key).actions)[-1]
    act(vendor, action, connection)
    status, page = talk(vendor, "GET", f"/?lang={language}")
    assert status == 200
    assert word in page
    assert loader.find(key).actions[action].title[language] in page
    assert ("下一笔订单" in page or "Place an order" in page) is (key == "demo-shop")
    assert "<script" not in page
    assert talk(vendor, "GET", "/style.css")[0] == 200


def test_what_came_in_is_shown_as_text(vendors):
    chat = vendors["demo-chat"]
    connection = install(chat)
    evil = {"channel": "订单群", "text": "<img src=x onerror=alert(1)>"}
    assert act(chat, "post_message", connection, evil).kind == "ok"
    page = talk(chat, "GET", "/")[1]
    assert "<img" not in page
    assert "&lt;img" in page


def test_the_forms_place_an_order_and_switch_a_fault(vendors, sink):
    shop, _, _ = subscribe(vendors, sink)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    named = {name.replace("-", "_"): value for name, value in form.items()}
    status, _ = talk(shop, "POST", "/_page/emit", "trigger=order_paid&count=1&lang=zh", **named)
    assert status == 303
    sink.wait(1)
    assert talk(shop, "POST", "/_page/behaviour", "mode=down", **named)[0] == 303
    assert talk(shop, "GET", "/api/ping")[0] == 503
    assert "停机" in talk(shop, "GET", "/")[1]
    other = {**named, "Origin": "https://evil.example"}
    assert talk(shop, "POST", "/_page/behaviour", "mode=ok", **other)[0] == 403
    cross = {**named, "Sec_Fetch_Site": "cross-site"}
    assert talk(shop, "POST", "/_page/behaviour", "mode=ok", **cross)[0] == 403


def test_odd_switches_are_refused(vendors):
    shop = vendors["demo-shop"]
    assert talk(shop, "POST", "/_mock/behaviour", {"mode": "odd"})[0] == 422
    assert talk(shop, "POST", "/_mock/emit", {"trigger": "odd"})[0] == 422
    assert talk(shop, "POST", "/_mock/emit", "[")[0] == 400
    assert talk(shop, "GET", "/_mock/odd")[0] == 404
    assert talk(shop, "POST", "/_mock/reset", {})[0] == 200


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n",
    ],
)
def test_broken_requests_end_the_connection_and_nothing_else(vendors, raw):
    import socket

    shop = vendors["demo-shop"]
    with socket.create_connection(("127.0.0.1", shop.server.port), timeout=5) as peer:
        peer.sendall(raw)
        answer = b""
        try:
            while more := peer.recv(4096):
                answer += more
        except ConnectionResetError:
            pass
    assert b" 200 " not in answer
    assert talk(shop, "GET", "/style.css")[0] == 200


def test_a_vendor_that_is_gone_is_a_failure_the_engine_reads(vendors):
    connection = ConnectionValues({"base_url": "http://127.0.0.1:9"}, "key", {"key": "x"})
    with settings_override(outbound_allow=("127.0.0.1:9",)):
        request = requests.build(loader.find("demo-erp"), "get_stock", {"sku": "A"}, connection, "")
        outcome = send(request)
    assert isinstance(outcome, Failure)
    assert not isinstance(outcome, Response)
    assert answers.read(loader.find("demo-erp"), "get_stock", outcome).kind == "retry"


def test_the_page_tells_the_firms_time_and_names_every_field(vendors):
    erp = vendors["demo-erp"]
    assert act(erp, "create_sales_order", install(erp)).kind == "ok"
    page = talk(erp, "GET", "/")[1]
    assert '+08:00">' in page
    assert "下单日期" in page
    assert "order_date" not in page


def test_a_connection_that_was_closed_meanwhile_is_no_try():
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer_once_and_hang_up():
            for _ in range(2):
                taken, _ = listening.accept()
                with taken:
                    taken.recv(65_536)
                    taken.sendall(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}")

        thread = threading.Thread(target=answer_once_and_hang_up)
        thread.start()
        url, kept = f"http://127.0.0.1:{listening.getsockname()[1]}/in/x", {}
        assert [vendor_events.post(url, {}, b"{}", kept) for _ in range(2)] == [202, 202]
        thread.join()


# --- looks for missing events --------------------------------------------------------------------


def subscribed(vendor, url, installation="ins_1"):
    bare = ConnectionValues({"base_url": vendor.url})
    named = {"installation": {"id": installation}}
    key = lifecycle(vendor, "install", bare, **named).output["credentials"]
    values = ConnectionValues({"base_url": vendor.url}, "key", key)
    assert lifecycle(vendor, "subscribe", values, hook={"url": url}, **named).kind == "ok"
    return values


def listed(vendor, key, values, given=None, **look):
    """Every item of a vendor's list, over all its pages, and how many pages that were."""
    connector = vendor.app.connector
    plan = connector.triggers[key].reconcile
    found, page, pages = [], None, 0
    while True:
        asked = {"page": page, **look}
        request = requests.build_list(connector, plan, values, given or {}, asked)
        answer = listings.read_list(connector, plan, {}, send(request))
        assert answer.kind == "ok", answer
        found += answer.output["items"]
        page, pages = reconcile.next_page(plan, answer.output), pages + 1
        if page is None:
            return plan, found, pages


def test_a_vendor_that_loses_webhooks_lists_them_all_the_same(vendors, sink):
    shop = vendors["demo-shop"]
    values = subscribed(shop, sink.url)
    shop.app.behave({"mode": "lossy", "share": 0.3})
    sent = shop.app.emit({"trigger": "order_paid", "count": 120})
    assert 10 < sent["lost"] < 70
    taken = {one[1]["webhook-id"]: one for one in sink.wait(120 - sent["lost"])}
    plan, items, pages = listed(shop, "order_paid", values, since="2026-01-01T00:00:00Z")
    assert pages == 3
    made = [reconcile.rebuilt(plan, item) for item in items]
    assert [one.headers["webhook-id"] for one in made] == sent["events"]
    # what is listed is word for word what the webhook brought
    bodies = {one.headers["webhook-id"]: documents.parse(one.raw) for one in made}
    assert all(bodies[key] == documents.parse(one[2]) for key, one in taken.items())


def test_a_vendor_lists_what_is_new_and_what_is_its_callers(vendors, sink):
    shop = vendors["demo-shop"]
    values = subscribed(shop, sink.url)
    shop.app.emit({"trigger": "order_paid", "count": 2})
    assert listed(shop, "order_paid", values, since="2126-01-01T00:00:00Z")[1] == []
    other = subscribed(shop, sink.url + "2", installation="ins_2")
    assert listed(shop, "order_paid", other, since="2026-01-01T00:00:00Z")[1] == []
    assert len(listed(shop, "order_paid", values, since="2026-01-01T00:00:00Z")[1]) == 2


def test_every_connector_that_looks_has_a_vendor_that_lists_and_sends_again(tmp_path, sink):
    running = mock_vendor.serve(["github"], base_port=0, state_dir=tmp_path)
    try:
        app = running["github"].app
        app.behave({"mode": "lossy", "share": 1})
        app._subscribe_by_hand({"url": sink.url, "secret": "example-secret"})
        sent = app.emit({"trigger": "issues", "count": 3})
        assert sent["lost"] == 3
        call = vendor_calls.Call("GET", "/x", {"per_page": "2"}, {}, b"", {})
        look = app.looks["push.list"]
        page = vendor_looks.answer(app.connector, app.ledger, look, call, None)
        found = [reconcile.delivery(look.plan, one) for one in page.body]
        assert [one.message_id for one in found] == sent["events"][:0:-1]
        assert {(one.type, one.is_failed) for one in found} == {("github.issues", True)}
        assert "cursor=" in page.headers["Link"]
        again = vendor_calls.Call("POST", "/x", {}, {}, b"", {"id": str(found[0].id)})
        redeliver = app.looks["push.redeliver"]
        assert vendor_looks.answer(app.connector, app.ledger, redeliver, again, None).status == 202
        ((_, headers, raw),) = sink.wait(1)
        assert headers["x-github-delivery"] == found[0].message_id
        options = ("github", raw, headers, ("example-secret",), {}, clock.now())
        assert signing.verify(*options).dedupe_id == found[0].message_id
        page = vendor_looks.answer(app.connector, app.ledger, look, call, None)
        assert not reconcile.delivery(look.plan, page.body[0]).is_failed
    finally:
        running.close()


def test_the_page_follows_the_browser_until_somebody_chooses(vendors):
    shop = vendors["demo-shop"]
    english = {"Accept_Language": "en-GB,en;q=0.9"}
    assert '<html lang="en">' in talk(shop, "GET", "/", **english)[1]
    assert '<html lang="zh-CN">' in talk(shop, "GET", "/?lang=zh", **english)[1]
    assert '<html lang="zh-CN">' in talk(shop, "GET", "/")[1]


def test_an_items_name_is_not_a_customers():
    names = vendor_answers.labels(loader.find("demo-erp"), "en")
    shown = vendor_answers.example({"customer": {"name": "A"}, "lines": [{"name": "B"}]}, names)
    assert "Customer name A" in shown
    assert "Item name B" in shown
