"""The two buttons of the card on a connection's page about the stream that the hub listens to."""

from typing import Any

from connectors.pages.connections import draw_one
from connectors.pages.drawing import blueprint, go
from connectors.streams import holds
from identity import audit
from identity.guard import principal, require
from kernel.database import transaction
from kernel.errors import Problem


@blueprint.post("/connections/<connection_id>/stream")
@require("connections:write")
def start_stream(connection_id: str) -> Any:
    """Listen to the app from now on."""
    who = principal()
    try:
        with transaction(who.organization_id) as session:
            holds.start(session, who.organization_id, connection_id)
            audit.record(session, who, "stream.started", connection_id)
    except Problem as problem:
        return draw_one(connection_id, problem)
    return go(f"/connections/{connection_id}", done="stream_started")


@blueprint.post("/connections/<connection_id>/stream/stop")
@require("connections:write")
def stop_stream(connection_id: str) -> Any:
    """Listen to the app no more; what came in stays."""
    who = principal()
    with transaction(who.organization_id) as session:
        holds.stop(session, who.organization_id, connection_id)
        audit.record(session, who, "stream.stopped", connection_id)
    return go(f"/connections/{connection_id}", done="stream_stopped")
