"""The smallest valid rows of webhooks, signed requests, and a target that remembers."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from factories import identity

from kernel import clock
from kernel.database import EVERY, reading, transaction, write
from kernel.http import Response
from kernel.settings import settings_override
from webhooks import endpoints, events, fan_out, ready, signing, sources
from webhooks.events import NewEvent
from webhooks.fan_out import Routed

ORDER = {
    "order_no": "SO-1001",
    "lines": [{"sku": "A-1", "quantity": 2}],
    "total": {"value": "12.50", "currency": "CNY"},
}


OK = Response(status=200, headers={}, body=b"ok", truncated=False, elapsed_ms=1)


def status(code, **headers) -> Response:
    """An answer of a target."""
    return Response(status=code, headers=headers, body=b"", truncated=False, elapsed_ms=1)


def answering(*results):
    """A sender that gives these results in turn, the last one for ever, and counts its calls."""
    left = list(results)
    sent = []

    def send(requests):
        sent.extend(requests)
        return [left.pop(0) if len(left) > 1 else left[0] for _ in requests]

    send.sent = sent
    return send


def seat_of_integrator(client) -> str:
    """Sign a new organization's integrator in; returns the organization's id."""

    def setup(session):
        member = identity.make_member(session, role="integrator")
        identity.sign_in(client, session, member)
        return member.organization_id

    return in_transaction(setup)


def make_source(session, organization_id: str, **over):
    """A source that takes Standard Webhooks."""
    source = sources.create(session, organization_id, **{"name": "Shop", **over})
    session.flush()
    return source


def make_endpoint(session, organization_id: str, url: str = "http://127.0.0.1:9/", **over):
    """An active endpoint that wants everything."""
    values = {"url": url, "event_types": ["*"], **over}
    state = values.pop("state", "active")
    endpoint = endpoints.register(session, organization_id, **values)
    endpoint.state = state
    session.flush()
    return endpoint


def make_event(session, organization_id: str, source_id: str | None = None, **over) -> str:
    """A stored, ready event; gives its id."""
    values = {"type": "test.happened", "body": json.dumps(ORDER).encode(), **over}
    return events.accept(session, organization_id, source_id, [NewEvent(**values)])[0].id


def more_events(count: int, organization_id: str = "org_a", **over) -> list[str]:
    """So many stored, ready events in a transaction of their own; gives their ids."""
    return in_transaction(
        lambda session: [make_event(session, organization_id, **over) for _ in range(count)]
    )


def endpoint_with_events(
    count: int = 0, organization_id: str = "org_a", **over
) -> tuple[str, list[str]]:
    """An endpoint and so many events that are ready for it; gives its id and theirs."""
    made = in_transaction(lambda session: make_endpoint(session, organization_id, **over).id)
    return made, more_events(count, organization_id)


def signed(source, body: bytes, message_id: str = "msg_1", **headers: str) -> dict[str, str]:
    """Standard Webhooks headers a sender of this source would use."""
    return {
        "content-type": "application/json",
        **signing.sign(message_id, body, [sources.secret_of(source)], clock.now()),
        **headers,
    }


def rows(model) -> list:
    """Every row of a table, by id."""
    from sqlmodel import select

    with reading(EVERY) as session:
        return list(session.exec(select(model).order_by(model.id)))


def row(model, row_id: str):
    """One row by its id."""
    return next(one for one in rows(model) if one.id == row_id)


def in_transaction(work):
    """Run `work(session)` in a transaction of its own."""
    with transaction(EVERY) as session:
        return work(session)


def states(model) -> list[str]:
    """The state of every row of a table, by id."""
    return [one.state for one in rows(model)]


def routed_by(worker_id: str, **over):
    """Route what is new for a worker, as a drain does up to the commit."""
    return write(
        lambda session: fan_out.route(session, ready.take(session), Routed(worker_id, **over))
    )


class Sink:
    """A local HTTP target: remembers what came and answers as told."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.status = 200
        self.headers: dict[str, str] = {}
        self.delay_seconds = 0.0
        self.lock = threading.Lock()
        self.url = ""


@contextmanager
def sink():
    """Serve a Sink on a free local port that outbound calls may reach."""
    target = Sink()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else every answer waits 40 ms for the caller's kernel

        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            with target.lock:
                headers = {name.lower(): value for name, value in self.headers.items()}
                target.requests.append((self.path, headers, body))
            if target.delay_seconds:
                threading.Event().wait(target.delay_seconds)
            self.send_response(target.status)
            for name, value in target.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.03,), daemon=True)
    thread.start()
    port = server.server_address[1]
    target.url = f"http://127.0.0.1:{port}/hook"
    try:
        with settings_override(outbound_allow=(f"127.0.0.1:{port}",)):
            yield target
    finally:
        server.shutdown()
        server.server_close()
