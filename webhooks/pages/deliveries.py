"""One delivery as a page: every attempt, what was sent, what came back."""

from typing import Any

from identity import audit
from identity.guard import principal, require
from kernel.database import reading, transaction
from kernel.errors import Problem
from webhooks import deletions, deliveries, events, lanes, payloads, replay
from webhooks.pages.drawing import blueprint, draw, go


@blueprint.get("/deliveries/<delivery_id>")
@require("deliveries:read")
def show_delivery(delivery_id: str) -> Any:
    """Show a delivery with its attempts."""
    return _draw_delivery(delivery_id)


def _draw_delivery(delivery_id: str, problem: Problem | None = None) -> Any:
    who = principal()
    with reading(who.organization_id) as session:
        delivery = deliveries.get(session, who.organization_id, delivery_id)
        endpoint = deletions.remembered(session, who.organization_id, delivery.endpoint_id)
        event = events.get(session, who.organization_id, delivery.event_id)
        waits_for = lanes.head_of(session, delivery) if delivery.lane is not None else None
        tries = deliveries.attempts_of(session, who.organization_id, delivery_id)
    return draw(
        "delivery.html",
        problem=problem,
        delivery=delivery,
        endpoint=endpoint,
        event=event,
        is_referred=payloads.is_referred(event.body, endpoint.model_dump()),
        waits_for=waits_for if delivery.state in ("due", "waiting") else None,
        tries=[(one, one.response_body.decode("utf-8", "replace")) for one in tries],
    )


@blueprint.post("/deliveries/<delivery_id>/resend")
@require("deliveries:replay")
def resend_delivery(delivery_id: str) -> Any:
    """Send it again."""
    return _act(delivery_id, replay.resend, "delivery.resent", "resent")


@blueprint.post("/deliveries/<delivery_id>/cancel")
@require("deliveries:replay")
def cancel_delivery(delivery_id: str) -> Any:
    """Take it off the road."""
    return _act(delivery_id, replay.cancel, "delivery.cancelled", "cancelled")


def _act(delivery_id: str, verb: Any, action: str, done: str) -> Any:
    who = principal()
    try:
        with transaction(who.organization_id) as session:
            verb(session, who.organization_id, delivery_id)
            audit.record(session, who, action, delivery_id)
    except Problem as problem:
        return _draw_delivery(delivery_id, problem)
    return go(f"/deliveries/{delivery_id}", done)
