"""The card on a connection's page with the webhooks that the hub orders from the app itself."""

from typing import Any

from connectors import connections
from connectors.pages.connections import draw_one
from connectors.pages.drawing import blueprint, go, typed, typed_under
from connectors.subscriptions import ordering
from identity import audit
from identity.guard import principal, require
from kernel.database import transaction
from kernel.errors import Problem


@blueprint.post("/connections/<connection_id>/webhooks")
@require("connections:write")
def order_webhook(connection_id: str) -> Any:
    """Order a webhook from the app; it is there within a minute."""
    who = principal()
    try:
        with transaction(who.organization_id) as session:
            hook = ordering.order(
                session,
                who.organization_id,
                connection_id,
                typed("trigger"),
                typed_under("input"),
            )
            audit.record(session, who, "webhook.ordered", hook.id)
    except Problem as problem:
        return draw_one(connection_id, problem)
    return go(f"/connections/{connection_id}", done="webhook_ordered")


@blueprint.post("/connections/<connection_id>/webhooks/<source_id>/look")
@require("connections:write")
def look_for_webhook(connection_id: str, source_id: str) -> Any:
    """Ask the app at once whether a webhook is there."""
    who = principal()
    with transaction(who.organization_id) as session:
        connections.find(session, who.organization_id, connection_id)
        ordering.look_now(session, who.organization_id, source_id)
        audit.record(session, who, "webhook.looked", source_id)
    return go(f"/connections/{connection_id}", done="webhook_looked")


@blueprint.post("/connections/<connection_id>/webhooks/<source_id>/end")
@require("connections:write")
def end_webhook(connection_id: str, source_id: str) -> Any:
    """Let the app send no more."""
    who = principal()
    with transaction(who.organization_id) as session:
        connections.find(session, who.organization_id, connection_id)
        ordering.end(session, who.organization_id, source_id)
        audit.record(session, who, "webhook.ended", source_id)
    return go(f"/connections/{connection_id}", done="webhook_ended")
