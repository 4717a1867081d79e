"""The flow of the main job: a paid ticket order becomes a sale, a task and a message.

What is written where an app is missing: its steps are left out, and nothing else changes.
"""

from collections.abc import Mapping
from typing import Any

from bench.real.pretix import EVENT
from bench.real.redmine import PROJECT

PAID = "pretix.event.order.paid"
PRODUCT = "TICKET"
CHANNEL = "票务群"
# The name orders have everywhere: the event's and the order's, as codes count within an event.
REFERENCE = "${event.data.event}-${event.data.code}"


def reference(code: str) -> str:
    """Return the name under which an order of the job's event is looked for."""
    return f"{EVENT}-{code}"


def document(connections: Mapping[str, str], source_id: str) -> dict[str, Any]:
    """Return the flow's document for what comes in at a source and the apps with a connection."""
    steps = [*_order(), *_books(), *_task(), *_message()]
    return {
        "trigger": {
            "connector": "pretix",
            "trigger": "order_paid",
            "event": PAID,
            "version": 1,
            "source": source_id,
        },
        "steps": [
            {**step, "connection": connections[step["connector"]]} if "connector" in step else step
            for step in steps
            if step.get("connector") in (None, *connections)
        ],
    }


def _order() -> list[dict[str, Any]]:
    """Return the steps that fetch what the thin, unsigned notice is about."""
    return [
        {
            "key": "order",
            "kind": "action",
            "title": {"zh": "取回订单", "en": "Get the order"},
            "connector": "pretix",
            "action": "get_order",
            "input": {
                "organizer": "${event.data.organizer}",
                "event": "${event.data.event}",
                "code": "${event.data.code}",
            },
        },
        {
            "key": "is_paid",
            "kind": "filter",
            "title": {"zh": "确已付款", "en": "It is paid indeed"},
            "when": '${steps.order.output.status == "p"}',
        },
    ]


def _books() -> list[dict[str, Any]]:
    email = "${steps.order.output.email}"
    line = {
        "product": "${steps.product.output.id}",
        "unit": "${steps.product.output.unit}",
        "quantity": {"const": "1"},
        "unit_price": "${position.price}",
    }
    lines = {"each": "${steps.order.output.positions}", "as": "position", "do": line}
    return [
        {
            "key": "customer",
            "kind": "action",
            "title": {"zh": "找或建客户", "en": "Find or create the customer"},
            "connector": "tryton",
            "action": "create_party",
            "input": {"name": email, "code": email, "email": email},
        },
        {
            "key": "product",
            "kind": "action",
            "title": {"zh": "查产品", "en": "Look the product up"},
            "connector": "tryton",
            "action": "get_product",
            "input": {"code": {"const": PRODUCT}},
        },
        {
            "key": "sale",
            "kind": "action",
            "title": {"zh": "开销售单", "en": "Book the sale"},
            "connector": "tryton",
            "action": "create_sale",
            "input": {
                "party": "${steps.customer.output.id}",
                "address": "${steps.customer.output.address}",
                "reference": REFERENCE,
                "lines": lines,
            },
        },
        {
            "key": "quote",
            "kind": "action",
            "title": {"zh": "报价", "en": "Quote the sale"},
            "connector": "tryton",
            "action": "quote_sale",
            "input": {"id": "${steps.sale.output.id}"},
        },
    ]


def _task() -> list[dict[str, Any]]:
    return [
        {
            "key": "issue",
            "kind": "action",
            "title": {"zh": "建任务", "en": "Open a task"},
            "connector": "redmine",
            "action": "create_issue",
            "input": {
                "project_id": {"const": PROJECT},
                "subject": REFERENCE,
                "description": "${steps.order.output.email}：${steps.order.output.total}",
            },
        }
    ]


def _message() -> list[dict[str, Any]]:
    return [
        {
            "key": "chat",
            "kind": "action",
            "title": {"zh": "通知票务群", "en": "Tell the team"},
            "connector": "demo-chat",
            "action": "post_message",
            "input": {
                "channel": CHANNEL,
                "title": REFERENCE,
                "text": "${steps.order.output.email} 已付款 ${steps.order.output.total}",
            },
        }
    ]
