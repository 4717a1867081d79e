"""The JSON routes of drifts: how a connection's app departs from its connector."""

from typing import Any

from flask import Blueprint

from connectors.drifting import drifts, schemas
from identity import audit
from identity.guard import principal, require
from kernel.database import reading, transaction
from kernel.web import operation

blueprint = Blueprint("drifts", __name__)


@blueprint.get("/connections/<connection_id>/drifts")
@require("connections:read")
@operation(
    summary="List how the app departs from its connector", returns=schemas.DriftOut, many=True
)
def list_drifts(connection_id: str) -> Any:
    """Return what the app sends or answers that the connector does not foresee, latest first."""
    who = principal()
    with reading(who.organization_id) as session:
        return drifts.of_connection(session, who.organization_id, connection_id)


@blueprint.delete("/connections/<connection_id>/drifts")
@require("connections:write")
@operation(summary="Take departures as seen", status=204)
def dismiss_drifts(connection_id: str) -> Any:
    """Forget what was noted; what departs again is noted anew."""
    who = principal()
    with transaction(who.organization_id) as session:
        drifts.dismiss(session, who.organization_id, connection_id)
        audit.record(session, who, "connection.drifts_seen", connection_id)
