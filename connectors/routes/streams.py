"""The JSON routes of streams: apps that send over a line that the hub opens."""

from flask import Blueprint

from connectors import connections
from connectors.streams import holds
from connectors.streams.schemas import StreamOut
from connectors.streams.tables import HeldStream
from identity import audit
from identity.guard import principal, require
from kernel.database import reading, transaction
from kernel.web import operation

blueprint = Blueprint("streams", __name__)


def _shaped(row: HeldStream) -> StreamOut:
    return StreamOut(**{name: getattr(row, name) for name in StreamOut.model_fields})


@blueprint.get("/connections/<connection_id>/stream")
@require("connections:read")
@operation(summary="Show the stream of a connection", returns=StreamOut)
def show_stream(connection_id: str) -> StreamOut:
    """Return how listening goes; its state is off when nobody listens."""
    organization_id = principal().organization_id
    with reading(organization_id) as session:
        connections.find(session, organization_id, connection_id)
        row = holds.find(session, organization_id, connection_id)
        return _shaped(row) if row is not None else StreamOut()


@blueprint.post("/connections/<connection_id>/stream")
@require("connections:write")
@operation(summary="Listen to the app from now on", returns=StreamOut, status=201)
def start_stream(connection_id: str) -> StreamOut:
    """Open a line to the app; what it sends comes in as events."""
    who = principal()
    with transaction(who.organization_id) as session:
        row = holds.start(session, who.organization_id, connection_id)
        audit.record(session, who, "stream.started", connection_id)
        return _shaped(row)


@blueprint.delete("/connections/<connection_id>/stream")
@require("connections:write")
@operation(summary="Listen to the app no more", status=204)
def stop_stream(connection_id: str) -> None:
    """Listen no more; what came in stays."""
    who = principal()
    with transaction(who.organization_id) as session:
        holds.stop(session, who.organization_id, connection_id)
        audit.record(session, who, "stream.stopped", connection_id)
