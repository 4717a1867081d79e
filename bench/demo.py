"""The main job without a browser: a fresh hub, a bundle, GitHub's payloads and 500 orders.

Prints what it does; the last line is one JSON line of figures. The exit code is not 0 if anything
that was accepted did not arrive.
"""

import json
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import requests

from bench import github_examples
from bench.github_examples import Example
from bench.hub import Client, Hub
from bench.sink import Sink

ORDERS = 500
SENDERS = 8
SETTLE_SECONDS = 120


@dataclass
class Sent:
    """What was sent and what the hub said: event id → moment of sending."""

    accepted: dict[str, float] = field(default_factory=dict)
    rejected: list[str] = field(default_factory=list)
    surprises: list[str] = field(default_factory=list)


def main() -> int:
    """Run the demo and return the exit code."""
    hub = Hub()
    sink = Sink(hub.sink_port)
    try:
        say(f"hub ready after {hub.start():.1f} s at {hub.url}")
        figures = run(hub, sink)
    except Exception:
        say(hub.tail())
        raise
    finally:
        hub.stop()
        sink.stop()
    print(json.dumps(figures, ensure_ascii=False))
    return 0 if figures["lost"] == 0 and figures["duplicates"] == 0 else 1


def say(text: str) -> None:
    """Tell the person watching."""
    print(text, flush=True)


def run(hub: Hub, sink: Sink) -> dict[str, Any]:
    """Do the whole job and return the figures."""
    client = Client(hub.url)
    client.sign_up()
    rollout, install_s = client.install("order-to-chat")
    if rollout["state"] != "active":
        raise RuntimeError(f"the bundle did not install: {rollout}")
    say(f"bundle installed in {install_s:.2f} s")

    endpoint = client.call(
        "POST", "/api/v1/endpoints", {"url": sink.url, "event_types": ["github.*", "order.*"]}
    )
    sink.secret = endpoint["secret"]

    source, payloads = prepare_github(client)
    started = time.time()
    sent = send_github(source, payloads)
    send_orders(hub)
    say(f"{len(sent.accepted)} GitHub payloads accepted, {ORDERS} orders on their way")
    through = wait_for_arrival(hub, sink, sent)
    return figures_of(sink, sent, started, through, install_s)


# --- (a) GitHub's payloads -----------------------------------------------------------------------


def prepare_github(client: Client) -> tuple[dict[str, Any], list[Example]]:
    """Register the published schemas, open a source, judge every payload with jsonschema."""
    schemas = github_examples.schemas()
    for event, schema in schemas.items():
        client.call(
            "POST",
            "/api/v1/custom-event-types",
            {
                "name": f"github.{event}",
                "title": {"zh": f"GitHub {event}", "en": f"GitHub {event}"},
                "schema": schema,
            },
        )
    source = client.call("POST", "/api/v1/sources", github_examples.SOURCE)
    payloads = github_examples.examples(schemas)
    say(f"{len(payloads)} payloads, {len(schemas)} schemas")
    return source, payloads


def send_github(source: dict[str, Any], payloads: list[Example]) -> Sent:
    """Send every published payload, signed; note ids, rejections and any disagreement."""
    sent = Sent()
    with ThreadPoolExecutor(SENDERS) as pool:
        for part in range(SENDERS):
            pool.submit(_send_some, payloads[part::SENDERS], source, sent)
    report_rejections(sent, payloads)
    return sent


def _send_some(payloads: list[Example], source: dict[str, Any], sent: Sent) -> None:
    with requests.Session() as http:
        for example in payloads:
            headers = github_examples.signed_headers(example, source["secret"], str(uuid.uuid4()))
            at = time.time()
            answer = http.post(source["url"], data=example.body, headers=headers, timeout=30)
            if answer.status_code == 202:
                sent.accepted[answer.json()["accepted"][0]["id"]] = at
            else:
                sent.rejected.append(example.name)
            if (answer.status_code == 202) != example.fits:
                sent.surprises.append(f"{example.name}: {answer.status_code} {answer.text[:200]}")


def report_rejections(sent: Sent, payloads: list[Example]) -> None:
    """List by name what the published schemas refuse, and fail if the hub judged otherwise."""
    say(f"{len(sent.rejected)} payloads do not fit the published schemas:")
    for name in sorted(sent.rejected):
        say(f"  rejected {name}")
    judged = len(sent.accepted) + len(sent.rejected)
    if sent.surprises or judged != len(payloads):
        raise RuntimeError(
            f"{judged} of {len(payloads)} judged; the hub and jsonschema disagree on: "
            + "; ".join(sent.surprises[:5])
        )


# --- (b) orders ----------------------------------------------------------------------------------


def send_orders(hub: Hub) -> None:
    """Let the shop send its orders."""
    shop = hub.vendor("demo-shop")
    shop.call("POST", "/_mock/emit", {"trigger": "order_paid", "count": ORDERS})


@dataclass
class Through:
    """Where the orders are."""

    accepted: int  # by the hub
    arrived: int  # through both the ERP and the chat
    doubled: int  # documents a vendor made twice for one order, or requests it got twice


def orders_through(hub: Hub) -> Through:
    """Ask all three vendors."""
    sent = hub.vendor("demo-shop").call("GET", "/_mock/ledger/count")["emissions"]
    found = [
        hub.vendor(key).call("GET", "/_mock/ledger/count")["actions"].get(action, {})
        for key, action in (("demo-erp", "create_sales_order"), ("demo-chat", "post_message"))
    ]
    documents = [counted.get("documents", 0) for counted in found]
    requests_got = [counted.get("requests", 0) for counted in found]
    accepted = sent.get("taken", 0)
    return Through(
        accepted=accepted,
        arrived=min(*documents, accepted),
        doubled=sum(requests_got) - sum(documents) + sum(max(0, d - ORDERS) for d in documents),
    )


def wait_for_arrival(hub: Hub, sink: Sink, sent: Sent) -> Through:
    """Wait until all has arrived or time is up; return where the orders are."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < deadline:
        missing = [i for i in sent.accepted if i not in sink.ledger.arrivals]
        through = orders_through(hub)
        orders_out = len(sink.ledger.arrivals) - (len(sent.accepted) - len(missing))
        if not missing and through.arrived == ORDERS == orders_out:
            break
        time.sleep(0.1)
    else:
        say(f"not arrived in time: {len(missing)} payloads; orders {through}, {orders_out} out")
    time.sleep(1)  # a second copy of anything would be under way by now
    return orders_through(hub)


# --- figures -------------------------------------------------------------------------------------


def figures_of(
    sink: Sink, sent: Sent, started: float, orders: Through, install_s: float
) -> dict[str, Any]:
    """Put the ledgers of both sides together."""
    arrivals = sink.ledger.arrivals
    arrived = [i for i in sent.accepted if i in arrivals]
    delays = sorted((arrivals[i].at - sent.accepted[i]) * 1000 for i in arrived)
    # what the shop could not hand over counts as lost too
    accepted = len(sent.accepted) + ORDERS
    delivered = len(arrived) + orders.arrived
    seconds = max(a.at for a in arrivals.values()) - started
    return {
        "accepted": accepted,
        "rejected": len(sent.rejected),
        "delivered": delivered,
        "lost": accepted - delivered + sink.ledger.forged,
        "duplicates": sink.ledger.duplicates + orders.doubled,
        "p50_ms": round(delays[len(delays) // 2], 1),
        "p99_ms": round(delays[int(len(delays) * 0.99)], 1),
        "events_per_s": round(accepted / seconds, 1),
        "install_s": round(install_s, 2),
    }


if __name__ == "__main__":
    sys.exit(main())
