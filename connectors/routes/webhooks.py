"""The JSON routes of webhooks that the hub orders from apps."""

from datetime import datetime
from typing import Any

from flask import Blueprint
from pydantic import BaseModel, Field

from connectors import connections
from connectors.schemas import Name, Strict
from connectors.subscriptions import ordering
from identity import audit
from identity.guard import principal, require
from kernel.database import reading, transaction
from kernel.web import operation

blueprint = Blueprint("ordered_webhooks", __name__)


class WebhookOrderIn(Strict):
    """Which trigger, and what the app needs to know, such as the repository."""

    trigger: Name
    input: dict[str, Any] = Field(default_factory=dict)


class OrderedWebhookOut(BaseModel):
    """A webhook that the hub has ordered from an app; its id is that of its source."""

    id: str
    connection_id: str
    trigger_key: str
    input: dict[str, Any]
    state: str = Field(description="wanted | active | stuck | leaving | gone")
    remote_id: str | None
    expires_at: datetime | None
    looked_at: datetime | None
    next_at: datetime | None
    problem: dict[str, Any] | None
    ledger: list[dict[str, Any]] = Field(description="What was done when, the newest first.")


@blueprint.get("/connections/<connection_id>/webhooks")
@require("connections:read")
@operation(summary="List ordered webhooks", returns=OrderedWebhookOut, many=True)
def list_webhooks(connection_id: str) -> Any:
    """Return the webhooks that the hub has ordered over a connection."""
    who = principal()
    with reading(who.organization_id) as session:
        found = connections.find(session, who.organization_id, connection_id)
        return ordering.of_connection(session, found)


@blueprint.post("/connections/<connection_id>/webhooks")
@require("connections:write")
@operation(summary="Order a webhook", body=WebhookOrderIn, returns=OrderedWebhookOut, status=201)
def order_webhook(connection_id: str, body: WebhookOrderIn) -> Any:
    """Open a source and let the hub order the app's webhook to it."""
    who = principal()
    with transaction(who.organization_id) as session:
        hook = ordering.order(session, who.organization_id, connection_id, body.trigger, body.input)
        audit.record(session, who, "webhook.ordered", hook.id)
        return hook


@blueprint.post("/connections/<connection_id>/webhooks/<source_id>/look")
@require("connections:write")
@operation(summary="Look for an ordered webhook", returns=OrderedWebhookOut)
def look_for_webhook(connection_id: str, source_id: str) -> Any:
    """Ask the app at once whether a webhook is there; a missing one is ordered again."""
    who = principal()
    with transaction(who.organization_id) as session:
        connections.find(session, who.organization_id, connection_id)
        audit.record(session, who, "webhook.looked", source_id)
        return ordering.look_now(session, who.organization_id, source_id)


@blueprint.delete("/connections/<connection_id>/webhooks/<source_id>")
@require("connections:write")
@operation(summary="End an ordered webhook", status=204)
def end_webhook(connection_id: str, source_id: str) -> Any:
    """Let the hub end a webhook at the app; its source takes nothing in any more."""
    who = principal()
    with transaction(who.organization_id) as session:
        connections.find(session, who.organization_id, connection_id)
        ordering.end(session, who.organization_id, source_id)
        audit.record(session, who, "webhook.ended", source_id)
