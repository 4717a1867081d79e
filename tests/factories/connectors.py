"""The smallest valid rows of connectors, and a vendor (ERP and chat) that remembers."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from factories.identity import make_organization
from factories.webhooks import make_event, row, rows

from connectors import advance, claims, connections, flows, hooks, routing
from connectors.resting import waits
from connectors.tables import Run, Step
from kernel.database import EVERY, transaction
from kernel.settings import settings_override
from webhooks import fan_out
from webhooks.fan_out import Routed
from webhooks.ready import ReadyEvent
from webhooks.tables import Event

__all__ = ["claims", "fan_out", "hooks", "row", "rows"]

ORDER = {
    "order_no": "SO-1001",
    "currency": "CNY",
    "buyer": {"name": "扬州启航轴承有限公司", "phone": "013800000000"},
    "total": {"value": "176.00", "currency": "CNY"},
    "lines": [{"item": {"sku": "BRG-6204"}, "quantity": {"value": "2"}, "price": "88.00"}],
}


CALL_SECONDS = 9.0  # a little less than the demo apps' manifests wait for an answer


class Vendor:
    """A demo ERP and chat in one: creates once per idempotency key, answers as it is told."""

    def __init__(self) -> None:
        self.url = ""
        self.calls: list[tuple[str, str, dict[str, str], dict]] = []  # method, path, headers, body
        self.made: dict[str, dict[str, dict]] = {"sales-orders": {}, "messages": {}, "token": {}}
        self.answers: list[tuple[str, int, dict, dict[str, str]]] = []  # path part, status, body, …
        self.always: dict[str, tuple[int, dict]] = {}
        self.good_keys: set[str] | None = None
        self.delay_seconds: dict[str, float] = {}
        self.holds: dict[str, threading.Event] = {}
        self.keep_silent_after: str | None = None  # does the work, then hangs up
        self.tokens = 0
        self.lock = threading.Lock()

    def orders(self) -> list[dict]:
        """What stands in the ERP."""
        return list(self.made["sales-orders"].values())

    def messages(self) -> list[dict]:
        """What stands in the chat."""
        return list(self.made["messages"].values())

    def hold(self, part: str) -> threading.Event:
        """Answer calls to a path only when the event is set, or its caller gives up."""
        return self.holds.setdefault(part, threading.Event())

    def waits_for_messages(self, number: int) -> bool:
        """Tell whether so many messages came, within what callers wait for a held answer."""
        until = time.monotonic() + CALL_SECONDS
        while len(self.messages()) < number and time.monotonic() < until:
            time.sleep(0.02)
        return len(self.messages()) == number

    def keys(self, part: str) -> list[str]:
        """The idempotency keys of the calls to a path, in order."""
        return [
            headers.get("idempotency-key", "") for _, path, headers, _ in self.calls if part in path
        ]

    def answer(self, path: str, headers: dict[str, str], body: dict) -> tuple[int, dict, dict]:
        """Decide what to answer."""
        for position, (part, status, said, more) in enumerate(self.answers):
            if part in path:
                del self.answers[position]
                return status, said, more
        for part, (status, said) in self.always.items():
            if part in path:
                return status, said, {}
        if path.endswith("/token"):
            self.tokens += 1
            return 200, {"access_token": f"tok-{self.tokens}", "expires_in": 7200}, {}
        key = headers.get("authorization", "").removeprefix("Bearer ")
        if self.good_keys is not None and key not in self.good_keys:
            return 401, {"code": 40100, "message": "bad key", "ok": False, "error": "bad"}, {}
        effect = headers.get("idempotency-key") or f"none-{len(self.calls)}"
        if path.endswith("/api/ping"):
            return 200, {"code": 0, "ok": True, "data": {}, "message": {}}, {}
        if path.endswith("/sales-orders"):
            made = self.made["sales-orders"].setdefault(
                effect, {**body, "document_no": f"XS-{len(self.made['sales-orders']) + 1}"}
            )
            data = {"document_no": made["document_no"], "status": "booked"}
            return 200, {"code": 0, "data": data}, {}
        made = self.made["messages"].setdefault(
            effect, {**body, "message_no": f"MSG-{len(self.made['messages']) + 1}"}
        )
        sent = {
            "message_no": made["message_no"],
            "channel": str(body.get("channel")),
            "posted_at": "2026-11-22T09:30:02+08:00",
        }
        return 200, {"ok": True, "message": sent}, {}


@contextmanager
def vendor():
    """Serve a Vendor on a free local port that outbound calls may reach."""
    target = Vendor()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _take(self):
            raw = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            is_json = headers.get("content-type", "").startswith("application/json")
            body = json.loads(raw) if raw and is_json else {"raw": raw.decode()}
            with target.lock:
                target.calls.append((self.command, self.path, headers, body))
                status, said, more = target.answer(self.path, headers, body)
                silent = bool(target.keep_silent_after and target.keep_silent_after in self.path)
            for part, event in target.holds.items():
                if part in self.path:
                    event.wait(2 * CALL_SECONDS)
            for part, seconds in target.delay_seconds.items():
                if part in self.path:
                    threading.Event().wait(seconds)
            if silent:
                self.close_connection = True
                return
            raw = json.dumps(said).encode()
            head = [f"HTTP/1.1 {status} X", "content-type: application/json"]
            head += [f"{name}: {value}" for name, value in more.items()]
            head.append(f"content-length: {len(raw)}")
            self.wfile.write("\r\n".join(head).encode() + b"\r\n\r\n" + raw)

        do_POST = do_GET = _take  # noqa: N815

        def log_message(self, *args):
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.03,), daemon=True).start()
    port = server.server_address[1]
    target.url = f"http://127.0.0.1:{port}"
    try:
        with settings_override(outbound_allow=(f"127.0.0.1:{port}",)):
            yield target
    finally:
        server.shutdown()
        server.server_close()


def make_connection(session, organization_id: str, url: str = "http://127.0.0.1:9", **over):
    """A ready connection to the demo ERP."""
    values = {
        "connector_key": "demo-erp",
        "name": "进销存",
        "fields": {"key": "key-0123456789"},
        "settings": {"base_url": url},
        **over,
    }
    connection = connections.create(session, organization_id, **values)
    session.flush()
    return connection


def order_document(erp: str, chat: str, **trigger) -> dict:
    """A paid order becomes an ERP document, then a chat message that names it."""
    return {
        "trigger": {"event": "order.paid", "version": None, **trigger},
        "steps": [
            {"key": "enough", "kind": "filter", "when": "${event.data.total.value != '0.00'}"},
            {
                "key": "erp",
                "kind": "action",
                "connector": "demo-erp",
                "connection": erp,
                "action": "create_sales_order",
                "input": {
                    "external_no": "${event.data.order_no}",
                    "ordered_at": "${event.time}",
                    "currency": "${event.data.currency}",
                    "total": "${event.data.total.value}",
                    "customer": {"name": "${event.data.buyer.name}"},
                    "lines": {
                        "each": "${event.data.lines}",
                        "do": {
                            "sku": "${item.item.sku}",
                            "quantity": "${item.quantity.value}",
                            "unit_price": "${item.price}",
                        },
                    },
                },
            },
            {
                "key": "chat",
                "kind": "action",
                "connector": "demo-chat",
                "connection": chat,
                "action": "post_message",
                "input": {
                    "channel": "订单群",
                    "text": "订单 ${event.data.order_no} 已记账 ${steps.erp.output.document_no}",
                },
            },
        ],
    }


def make_flow(session, organization_id: str, document: dict, *, publish: bool = True, **over):
    """A flow, published without asking the checks (they have tests of their own)."""
    flow = flows.create(session, organization_id, over.pop("name", "订单记账"), document, **over)
    session.flush()
    if publish:
        publish_unchecked(session, flow)
    return flow


def publish_unchecked(session, flow):
    """Publish a draft as it is."""
    from connectors.tables import FlowVersion
    from kernel import clock, ids

    version = FlowVersion(
        organization_id=flow.organization_id,
        id=ids.new_id("flv"),
        flow_id=flow.id,
        number=(flow.published_version or 0) + 1,
        document=flow.draft,
        published_at=clock.now(),
    )
    session.add(version)
    session.flush()
    flows._listen(flow, version)
    waits.listen(session, flow.organization_id, flow.id, version.document)
    flow.state, flow.draft = "active", None
    session.add(flow)
    session.flush()
    return version


class Shop:
    """An organization with an ERP, a chat and the order flow between them."""

    def __init__(self, session, url: str, name: str = "明华五金", **trigger) -> None:
        self.organization_id = make_organization(session, name=name).id
        self.erp = make_connection(session, self.organization_id, url).id
        self.chat = make_connection(
            session, self.organization_id, url, connector_key="demo-chat", name="群聊"
        ).id
        document = order_document(self.erp, self.chat, **trigger)
        self.flow = make_flow(session, self.organization_id, document).id

    def order(self, session, number: int = 1, **data) -> str:
        """A paid order arrives and is routed; gives the event's id."""
        body = {**ORDER, "order_no": f"SO-{number}", **data}
        event_id = make_event(
            session, self.organization_id, type="order.paid", body=json.dumps(body).encode()
        )
        session.flush()
        start_runs(session, [ready(session.get(Event, (self.organization_id, event_id)))])
        return event_id


def start_runs(session, events) -> None:
    """Route events and leave their runs as due."""
    plan_runs(session, events, Routed("nobody", room=0))


def plan_runs(session, events, routed) -> None:
    """Route events to flows alone."""
    planned = routing.plan(session, events, routed)
    fan_out.write_down(session, [planned] if planned else [], routed)


def ready(event: Event) -> ReadyEvent:
    """An event as the router sees it."""
    return ReadyEvent(**{name: getattr(event, name) for name in ReadyEvent.__dataclass_fields__})


def open_shop(url: str, orders: int = 0, **over) -> Shop:
    """A Shop in a transaction of its own, with some orders."""
    with transaction(EVERY) as session:
        shop = Shop(session, url, **over)
        for number in range(1, orders + 1):
            shop.order(session, number)
    return shop


def settle(worker_id: str = "worker-1") -> int:
    """Advance until nothing is ready; gives how many runs were taken."""
    total = 0
    while taken := advance.advance(worker_id):
        total += taken
    return total


def runs() -> list[Run]:
    """Every run, by id."""
    return rows(Run)


def steps(run_id: str) -> list[Step]:
    """A run's steps in order."""
    return sorted((one for one in rows(Step) if one.run_id == run_id), key=lambda s: s.position)
