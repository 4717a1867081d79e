"""The JSON routes of looks for missing events; each belongs to a source."""

from flask import Blueprint

from connectors import reconcile_schemas, reconciliations
from connectors.tables import Reconciliation
from identity import audit
from identity.guard import principal, require
from kernel.database import reading, store_now, transaction
from kernel.web import operation

blueprint = Blueprint("reconciliations", __name__)


def _shaped(
    one: Reconciliation, status: reconciliations.Status
) -> reconcile_schemas.ReconciliationOut:
    return reconcile_schemas.ReconciliationOut(
        source_id=one.id,
        connection_id=one.connection_id,
        input=one.input,
        state=status.state,
        complete_until=status.complete_until,
        last_at=one.last_at,
        next_at=one.next_at,
        counts=reconcile_schemas.CountsOut(
            found=one.found_count,
            asked=one.asked_count,
            fetched=one.fetched_count,
            failed=one.failed_count,
        ),
        missing=[reconcile_schemas.MissingOut.model_validate(entry) for entry in one.missing],
        problem=one.problem,
    )


@blueprint.get("/sources/<source_id>/reconciliation")
@require("sources:read")
@operation(summary="Show the look for missing events", returns=reconcile_schemas.ReconciliationOut)
def show_reconciliation(source_id: str) -> reconcile_schemas.ReconciliationOut:
    """Return how the look for a source's missing events stands; 404 when nobody looks."""
    with reading(principal().organization_id) as session:
        one = reconciliations.get(session, principal().organization_id, source_id)
        return _shaped(one, reconciliations.status(one, store_now(session)))


@blueprint.put("/sources/<source_id>/reconciliation")
@require("sources:write")
@operation(
    summary="Let the hub look for missing events",
    body=reconcile_schemas.ReconciliationIn,
    returns=reconcile_schemas.ReconciliationOut,
)
def set_up_reconciliation(
    source_id: str, body: reconcile_schemas.ReconciliationIn
) -> reconcile_schemas.ReconciliationOut:
    """Say over which connection the sender is asked; the first look begins at once."""
    who = principal()
    with transaction(who.organization_id) as session:
        one = reconciliations.set_up(
            session,
            who.organization_id,
            source_id,
            connection_id=body.connection_id,
            values=body.input,
        )
        audit.record(session, who, "reconciliation.set_up", source_id)
        return _shaped(one, reconciliations.status(one, store_now(session)))


@blueprint.post("/sources/<source_id>/reconciliation")
@require("sources:write")
@operation(
    summary="Look for missing events now", returns=reconcile_schemas.ReconciliationOut, status=202
)
def look_for_missing(source_id: str) -> reconcile_schemas.ReconciliationOut:
    """Let the next worker look at once, and ask anew for what was given up."""
    who = principal()
    with transaction(who.organization_id) as session:
        one = reconciliations.look_now(session, who.organization_id, source_id)
        audit.record(session, who, "reconciliation.asked", source_id)
        return _shaped(one, reconciliations.status(one, store_now(session)))
