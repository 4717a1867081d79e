"""Events over JSON: sending, looking back, repeating."""

import base64
from typing import Any

from flask import Blueprint, request

from identity import audit
from identity.guard import principal, require
from kernel import documents
from kernel.database import reading, transaction
from kernel.errors import N_
from kernel.web import Page, operation, page_of
from webhooks import events, intake
from webhooks.endpoint_schemas import DeliveryOut
from webhooks.events import Accepted
from webhooks.schemas import AcceptedOut, EventDetailOut, EventIn, EventOut
from webhooks.tables import EVENT, Event

blueprint = Blueprint("events", __name__)

audit.name_actions(
    {
        "event.replayed": N_("repeated an event"),
        "event.reconsidered": N_("checked a rejected event again"),
    }
)


def detail(event: Event) -> EventDetailOut:
    """Shape an event with its data."""
    shown = EventOut.model_validate(event, from_attributes=True).model_dump()
    is_json = event.content_type == "application/json"
    data: Any = documents.parse(event.body) if is_json else base64.b64encode(event.body).decode()
    return EventDetailOut(
        **shown, content_type=event.content_type, headers=event.headers, data=data
    )


@blueprint.post("/events")
@require("events:send")
@operation(summary="Send an event", body=EventIn, returns=AcceptedOut, status=202)
def send_event(body: EventIn) -> AcceptedOut:
    accepted: Accepted = intake.send(
        principal().organization_id,
        type=body.type,
        data=body.data,
        version=body.version,
        subject=body.subject,
        occurred_at=body.occurred_at,
        key=request.headers.get("Idempotency-Key") or body.id,
    )
    return AcceptedOut(id=accepted.id, duplicate=accepted.is_duplicate)


@blueprint.get("/events")
@require("events:read")
@operation(summary="List events", returns=EventOut, many=True)
def list_events() -> Page:
    organization_id = principal().organization_id
    wanted = events.listing(
        organization_id,
        state=request.args.get("state"),
        event_type=request.args.get("type"),
        source_id=request.args.get("source_id"),
        subject=request.args.get("subject"),
    )
    with reading(organization_id) as session:
        cursor, limit = request.args.get("cursor"), request.args.get("limit", 50, type=int)
        return page_of(session, wanted, EVENT.c.id, cursor=cursor, limit=limit)


@blueprint.get("/events/<event_id>")
@require("events:read")
@operation(summary="Show an event with its data", returns=EventDetailOut)
def show_event(event_id: str) -> EventDetailOut:
    organization_id = principal().organization_id
    with reading(organization_id) as session:
        return detail(events.get(session, organization_id, event_id))


@blueprint.get("/events/<event_id>/deliveries")
@require("deliveries:read")
@operation(summary="Show where an event went", returns=DeliveryOut, many=True)
def list_event_deliveries(event_id: str) -> Page:
    organization_id = principal().organization_id
    with reading(organization_id) as session:
        event = events.get(session, organization_id, event_id)
        return Page(events.deliveries_of(session, organization_id, event.id), None)


@blueprint.post("/events/<event_id>/replay")
@require("events:replay")
@operation(summary="Route a stored event once more", returns=EventOut)
def replay_event(event_id: str) -> Event:
    actor = principal()
    with transaction(actor.organization_id) as session:
        event = events.replay(session, actor.organization_id, event_id)
        audit.record(session, actor, "event.replayed", event.id)
    return event


@blueprint.post("/events/<event_id>/reconsider")
@require("events:replay")
@operation(summary="Check a rejected event against today's rules", returns=EventOut)
def reconsider_event(event_id: str) -> Event:
    actor = principal()
    event = intake.reconsider(actor.organization_id, event_id)
    with transaction(actor.organization_id) as session:
        audit.record(session, actor, "event.reconsidered", event.id)
    return event
