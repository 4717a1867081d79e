"""Firms on a hub: signed up over the public API, each with a source and a way to the target."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from bench import orders
from bench.hub import Client
from bench.load import Door

Way = Callable[[Client, str, str], None]  # given the source's id and the target's address
SOURCE = {"name": "Shop", "scheme": "standard_webhooks", "unknown_types": "reject"}
FIVE_FIELDS = {
    "number": "${event.data.order_no}",
    "buyer": "${event.data.customer.name}",
    "total": "${money(event.data.total.value)}",
    "paid_at": "${event.data.paid_at}",
    "payment": {
        "code_table": {
            "table": {"wechat_pay": "微信支付", "alipay": "支付宝", "bank_transfer": "银行转账"},
            "of": "${event.data.method}",
            "unknown": "keep",
        }
    },
}


@dataclass(frozen=True)
class Firm:
    """An organization of a hub under test, and where its events come in."""

    client: Client
    organization_id: str
    source_id: str
    door: Door


def sign_up(hub_url: str, name: str, way: Way, target_url: str) -> Firm:
    """Sign an organization up, give it a source and connect the target behind it."""
    client = Client(hub_url)
    organization = client.sign_up(name)["organization"]
    source = client.call("POST", "/api/v1/sources", SOURCE)
    way(client, source["id"], target_url)
    address = urlsplit(source["url"])
    door = Door(address.port or 80, address.path, source["secret"])
    return Firm(client, organization["id"], source["id"], door)


def add_flow(client: Client, source_id: str, url: str) -> None:
    """Map five fields of each order and post them with a key."""
    connection = client.call(
        "POST",
        "/api/v1/connections",
        {
            "connector": "generic-http",
            "auth": "key",
            "fields": {"key": "bench-key-0123456789"},
            "settings": {"base_url": url},
        },
    )
    flow = client.call(
        "POST",
        "/api/v1/flows",
        {"name": "Orders", "document": flow_document(source_id, connection["id"])},
    )
    client.call("POST", f"/api/v1/flows/{flow['id']}/publish", {})


def flow_document(source_id: str, connection_id: str) -> dict[str, Any]:
    """Write the flow: a mapping of five fields, and one request."""
    return {
        "trigger": {"event": orders.TYPE, "version": 1, "source": source_id},
        "steps": [
            {"key": "order", "kind": "map", "title": "Order", "mapping": FIVE_FIELDS},
            {
                "key": "send",
                "kind": "action",
                "title": "Send",
                "connector": "generic-http",
                "action": "request",
                "connection": connection_id,
                "input": {"method": "POST", "path": "/orders", "body": "${steps.order.output}"},
            },
        ],
    }


def add_endpoint(client: Client, _source_id: str, url: str) -> None:
    """Subscribe an endpoint: whole orders as signed CloudEvents."""
    client.call("POST", "/api/v1/endpoints", {"url": url, "event_types": [orders.TYPE]})
