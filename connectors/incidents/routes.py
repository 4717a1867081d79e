"""The JSON routes of incidents and repairs."""

from typing import Any

from flask import Blueprint, request

from connectors.incidents import incidents, repairs, schemas
from connectors.incidents.tables import BulkRepair, Incident
from connectors.pages import incident_words
from identity import audit
from identity.guard import principal, require
from kernel.database import reading, transaction
from kernel.web import Page, operation, page_of

blueprint = Blueprint("incidents", __name__)


@blueprint.get("/incidents")
@require("runs:read")
@operation(summary="List the incidents", returns=schemas.IncidentOut, many=True)
def list_incidents() -> Any:
    """Return incidents, the newest first; filters: state (open, closed), kind, assignee."""
    who, given = principal(), request.args
    chosen = incidents.select_all(
        who.organization_id, given.get("state"), given.get("kind"), given.get("assignee")
    )
    limit = given.get("limit", 50, type=int)
    with reading(who.organization_id) as session:
        page = page_of(session, chosen, Incident.id, cursor=given.get("cursor"), limit=limit)
    return Page([incident_words.out(one) for one in page.items], page.next_cursor)


@blueprint.get("/incidents/<incident_id>")
@require("runs:read")
@operation(summary="Read an incident", returns=schemas.IncidentOut)
def read_incident(incident_id: str) -> Any:
    """Return what happened, what is safe, who has to act, and what was tried."""
    who = principal()
    with reading(who.organization_id) as session:
        return incident_words.out(incidents.find(session, who.organization_id, incident_id))


@blueprint.patch("/incidents/<incident_id>")
@require("runs:replay")
@operation(summary="Assign or annotate an incident", body=schemas.IncidentIn,
           returns=schemas.IncidentOut)  # fmt: skip
def change_incident(incident_id: str, body: schemas.IncidentIn) -> Any:
    """Say who looks after an incident ("" for nobody), and what is to be remembered."""
    who = principal()
    with transaction(who.organization_id) as session:
        incident = incidents.find(session, who.organization_id, incident_id)
        if body.assignee_id is not None:
            incident = incidents.assign(session, who.organization_id, incident_id, body.assignee_id)
        if body.note is not None:
            incident = incidents.write_note(session, who.organization_id, incident_id, body.note)
        audit.record(session, who, "incident.changed", incident_id)
        return incident_words.out(incident)


@blueprint.post("/incidents/<incident_id>/done")
@require("runs:replay")
@operation(summary="Mark refused webhooks as dealt with", returns=schemas.IncidentOut)
def finish_incident(incident_id: str) -> Any:
    """Close a trouble at a source; what still holds runs or deliveries up cannot be closed so."""
    who = principal()
    with transaction(who.organization_id) as session:
        closed = incidents.mark_done(session, who.organization_id, incident_id, who.name)
        audit.record(session, who, "incident.closed", incident_id)
        return incident_words.out(closed)


@blueprint.get("/incidents/<incident_id>/repairs")
@require("runs:read")
@operation(summary="List the repairs of an incident", returns=schemas.RepairOut, many=True)
def list_repairs(incident_id: str) -> Any:
    """Return what was repeated or given up together because of an incident, the newest first."""
    who = principal()
    with reading(who.organization_id) as session:
        incidents.find(session, who.organization_id, incident_id)
        chosen = repairs.select_all(who.organization_id, incident_id)
        return page_of(session, chosen, BulkRepair.id, cursor=request.args.get("cursor"), limit=50)


@blueprint.post("/incidents/<incident_id>/repairs")
@require("runs:replay")
@operation(
    summary="Repeat or give up the runs of an incident",
    body=schemas.RepairIn,
    returns=schemas.RepairOut,
    status=201,
)
def begin_repair(incident_id: str, body: schemas.RepairIn) -> Any:
    """Let a few runs go first, and the rest when those got through; or give all of them up."""
    who = principal()
    with transaction(who.organization_id) as session:
        made = repairs.begin(
            session, who.organization_id, incident_id, who.name,
            kind=body.kind, canaries=body.canaries,
        )  # fmt: skip
        detail = {"kind": body.kind, "repair": made.id}
        audit.record(session, who, "incident.repair_begun", incident_id, detail=detail)
        return made


@blueprint.get("/repairs/<repair_id>")
@require("runs:read")
@operation(summary="Read how far a repair is", returns=schemas.RepairOut)
def read_repair(repair_id: str) -> Any:
    """Return how many runs went, and how many of them stopped again."""
    who = principal()
    with reading(who.organization_id) as session:
        return repairs.find(session, who.organization_id, repair_id)


@blueprint.post("/repairs/<repair_id>/stop")
@require("runs:replay")
@operation(summary="Stop a repair", returns=schemas.RepairOut)
def stop_repair(repair_id: str) -> Any:
    """Let no more runs go."""
    who = principal()
    with transaction(who.organization_id) as session:
        row = repairs.stop(session, who.organization_id, repair_id, who.name)
        audit.record(session, who, "incident.repair_stopped", row.incident_id)
        return row
