"""The main job: the hub's side of it, what is sent, and where everything is looked for."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from bench.hub import Client, Hub
from bench.real import flow
from bench.real.pretix import PRICE, Pretix
from bench.real.redmine import Redmine
from bench.real.rooms import Deadline, Room
from bench.real.tryton import Tryton

CUSTOMERS = 12
SETTLE_SECONDS = 300.0
# notices are unsigned: the secret part is the address, and the order is fetched before use
SOURCE = {
    "name": "pretix",
    "scheme": "none",
    "type_rules": {
        "from": "pointer",
        "value": "/action",
        "id_pointer": "/notification_id",
        "subject_pointer": "/code",
    },
}


@dataclass
class Sent:
    """What was sold: order code → (e-mail address, tickets)."""

    orders: dict[str, tuple[str, int]] = field(default_factory=dict)

    @property
    def references(self) -> list[str]:
        """Return the names under which the orders are looked for."""
        return [flow.reference(code) for code in self.orders]

    @property
    def amount(self) -> Decimal:
        """Return what all tickets cost."""
        return sum((Decimal(PRICE) * n for _, n in self.orders.values()), Decimal("0.00"))


@dataclass(frozen=True)
class Found:
    """Where the orders are: app → how often each reference is there."""

    places: Mapping[str, Counter[str]]

    def arrived(self, wanted: Iterable[str]) -> int:
        """Return how many are in every app."""
        return sum(all(place[one] for place in self.places.values()) for one in wanted)

    @property
    def duplicates(self) -> int:
        """Return how many there are too many, over all apps."""
        return sum(n - 1 for place in self.places.values() for n in place.values())

    def strangers(self, wanted: Iterable[str]) -> int:
        """Return how many nobody sent."""
        known = set(wanted)
        return sum(one not in known for place in self.places.values() for one in place)


def connect(client: Client, hub: Hub, rooms: Iterable[Room]) -> dict[str, str]:
    """Connect every app and the demo chat over the hub's API, test each, return key → id."""
    bodies = [room.connection() for room in rooms]
    bodies.append(_chat(hub))
    found = {}
    for body in bodies:
        made = client.call("POST", "/api/v1/connections", body)
        tested = client.call("POST", f"/api/v1/connections/{made['id']}/test")
        if tested["state"] != "ready":
            raise RuntimeError(f"{body['connector']} does not take the connection: {tested}")
        found[body["connector"]] = made["id"]
    return found


def _chat(hub: Hub) -> dict[str, Any]:
    chat = hub.vendor("demo-chat")
    facts = {"installation_id": "ins_real", "organization": {"id": "org_real", "name": "扬帆"}}
    given = chat.call("POST", "/hub/install", facts)
    return {
        "connector": "demo-chat",
        "auth": "key",
        "fields": {"key": given["api_key"]},
        "settings": {"base_url": chat.url},
    }


def publish(client: Client, connections: Mapping[str, str], shop: Pretix) -> str:
    """Open a source for the shop's notices, publish the flow, return the flow's id."""
    source = client.call("POST", "/api/v1/sources", SOURCE)
    shop.send_to(source["url"])
    made = client.call(
        "POST",
        "/api/v1/flows",
        {"name": "售票", "document": flow.document(connections, source["id"])},
    )
    if made["problems"]:
        raise RuntimeError(f"the flow has problems: {json.dumps(made['problems'])}")
    client.call("POST", f"/api/v1/flows/{made['id']}/publish")
    return str(made["id"])


def sell_one(shop: Pretix, sent: Sent) -> None:
    """Let somebody order two tickets, and pay a moment later."""
    email = "lin.yue@example.com"
    code = shop.order(email, "林月", 2, is_paid=False)
    shop.pay(code)
    sent.orders[code] = (email, 2)


def sell_many(shop: Pretix, sent: Sent, numbers: Iterable[int]) -> None:
    """Let orders come in that are paid at once, from fewer customers than orders."""
    for number in numbers:
        email = f"guest{number % CUSTOMERS}@example.com"
        sent.orders[shop.order(email, f"客人{number}", is_paid=True)] = (email, 1)


def look(hub: Hub, rooms: Mapping[str, Room]) -> Found:
    """Ask every app that is written to what it has."""
    places = {"demo-chat": Counter(_messages(hub))}
    books, tasks = rooms.get("tryton"), rooms.get("redmine")
    if isinstance(books, Tryton):
        sales = [one for one in books.sales() if one["state"] == "quotation"]
        places["tryton"] = Counter(str(one["reference"]) for one in sales)
    if isinstance(tasks, Redmine):
        places["redmine"] = Counter(tasks.subjects())
    return Found(places)


def _messages(hub: Hub) -> list[str]:
    """Return the titles of all messages; a repeated request counts as one more."""
    found: list[str] = []
    after = 0
    while True:
        path = f"/_mock/ledger?action=post_message&limit=500&after={after}"
        page = hub.vendor("demo-chat").call("GET", path)
        for one in page["items"]:
            found += [str(json.loads(one["body"])["title"])] * one["count"]
        if not page["items"]:
            return found
        after = page["next"]


def wait(
    looked: Callable[[], Found], sent: Sent, deadline: Deadline, seconds: float = SETTLE_SECONDS
) -> Found:
    """Look until all that was sent has arrived or time is up; return what was seen last."""
    end = time.monotonic() + min(seconds, deadline.left())
    while True:
        found = looked()
        if found.arrived(sent.references) == len(sent.orders) or time.monotonic() > end:
            return found
        time.sleep(1)


def runs(client: Client, flow_id: str) -> str:
    """Return in a few words how a flow's newest runs stand, and what the first stuck one says."""
    page = client.call("GET", f"/api/v1/runs?flow={flow_id}&limit=100")
    every = page["items"]
    stuck = [one for one in every if one["cause"]]
    told = [f"{one['cause']} at step {one['next_step']}: {one['detail']}" for one in stuck[:1]]
    return "; ".join([str(dict(Counter(one["state"] for one in every))), *told])


def booked(books: Room | None) -> Decimal | None:
    """Return what all sales in the books come to; None without books."""
    if not isinstance(books, Tryton):
        return None
    return sum((Decimal(one["total"]) for one in books.sales()), Decimal("0.00"))
