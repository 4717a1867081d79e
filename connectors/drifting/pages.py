"""The button of the card about how a connection's app departs from its connector."""

from typing import Any

from connectors.drifting import drifts
from connectors.pages.drawing import blueprint, go
from identity import audit
from identity.guard import principal, require
from kernel.database import transaction


@blueprint.post("/connections/<connection_id>/drifts/seen")
@require("connections:write")
def dismiss_drifts(connection_id: str) -> Any:
    """Forget what was noted; what departs again is noted anew."""
    who = principal()
    with transaction(who.organization_id) as session:
        drifts.dismiss(session, who.organization_id, connection_id)
        audit.record(session, who, "connection.drifts_seen", connection_id)
    return go(f"/connections/{connection_id}", done="drifts_seen")
