"""The JSON routes of flows."""

from typing import Any

from flask import Blueprint, request

from connectors import dry_runs, flow_diffs, flows, samples, schemas
from connectors.tables import Flow
from identity import audit
from identity.guard import principal, require
from kernel.database import reading, transaction
from kernel.web import operation

blueprint = Blueprint("flows", __name__)


@blueprint.get("/flows")
@require("flows:read")
@operation(summary="List the flows", returns=schemas.FlowOut, many=True)
def list_flows() -> Any:
    """Return the organization's flows."""
    who = principal()
    with reading(who.organization_id) as session:
        return flows.all_of(session, who.organization_id)


@blueprint.post("/flows")
@require("flows:write")
@operation(summary="Create a flow", body=schemas.FlowIn, returns=schemas.FlowDetailOut, status=201)
def create_flow(body: schemas.FlowIn) -> Any:
    """Create a draft from a template or a document."""
    who = principal()
    with transaction(who.organization_id) as session:
        if body.template:
            made = flows.create_from_template(
                session, who.organization_id, body.template, body.connections, name=body.name
            )
        else:
            made = flows.create(session, who.organization_id, body.name or "", body.document)
        audit.record(session, who, "flow.created", made.id)
        return _detail(session, made)


@blueprint.get("/flows/<flow_id>")
@require("flows:read")
@operation(summary="Read a flow", returns=schemas.FlowDetailOut)
def read_flow(flow_id: str) -> Any:
    """Return a flow with its document and what is wrong with it."""
    who = principal()
    with reading(who.organization_id) as session:
        return _detail(session, flows.find(session, who.organization_id, flow_id))


@blueprint.patch("/flows/<flow_id>")
@require("flows:write")
@operation(summary="Change a flow's draft", body=schemas.DraftIn, returns=schemas.FlowDetailOut)
def change_flow(flow_id: str, body: schemas.DraftIn) -> Any:
    """Save a draft; the answer says what still keeps it from being published."""
    who = principal()
    with transaction(who.organization_id) as session:
        if body.name is not None:
            flows.rename(session, who.organization_id, flow_id, body.name)
        if body.document is not None:
            flows.save_draft(session, who.organization_id, flow_id, body.document, body.revision)
        return _detail(session, flows.find(session, who.organization_id, flow_id))


@blueprint.delete("/flows/<flow_id>")
@require("flows:write")
@operation(summary="Delete a flow", status=204)
def delete_flow(flow_id: str) -> Any:
    """Put a flow away; refused while runs wait, unless ?force=1 cancels them."""
    who = principal()
    force = request.args.get("force") == "1"
    with transaction(who.organization_id) as session:
        flows.delete(session, who.organization_id, flow_id, force=force)
        audit.record(session, who, "flow.deleted", flow_id, detail={"force": force})


@blueprint.post("/flows/<flow_id>/publish")
@require("flows:write")
@operation(summary="Publish a flow's draft", returns=schemas.VersionOut)
def publish_flow(flow_id: str) -> Any:
    """Make the draft a version that runs from now on."""
    who = principal()
    with transaction(who.organization_id) as session:
        made = flows.publish(session, who.organization_id, flow_id, who.actor_id)
        audit.record(session, who, "flow.published", flow_id, detail={"version": made.number})
        return made


@blueprint.post("/flows/<flow_id>/pause")
@require("flows:write")
@operation(summary="Pause a flow", returns=schemas.FlowOut)
def pause_flow(flow_id: str) -> Any:
    """Start no new runs."""
    who = principal()
    with transaction(who.organization_id) as session:
        audit.record(session, who, "flow.paused", flow_id)
        return flows.pause(session, who.organization_id, flow_id)


@blueprint.post("/flows/<flow_id>/resume")
@require("flows:write")
@operation(summary="Resume a flow", returns=schemas.FlowOut)
def resume_flow(flow_id: str) -> Any:
    """Start new runs again."""
    who = principal()
    with transaction(who.organization_id) as session:
        audit.record(session, who, "flow.resumed", flow_id)
        return flows.resume(session, who.organization_id, flow_id)


@blueprint.get("/flows/<flow_id>/versions")
@require("flows:read")
@operation(summary="List a flow's versions", returns=schemas.VersionOut, many=True)
def list_versions(flow_id: str) -> Any:
    """Return the published versions, the newest first."""
    who = principal()
    with reading(who.organization_id) as session:
        flows.find(session, who.organization_id, flow_id)
        return flows.versions(session, who.organization_id, flow_id)


@blueprint.get("/flows/<flow_id>/changes")
@require("flows:read")
@operation(summary="Compare a version", returns=schemas.ChangeOut, many=True)
def list_changes(flow_id: str) -> Any:
    """Return what changed since a version (`since`), up to the draft, else to what runs."""
    who, number = principal(), request.args.get("since", 1, type=int)
    with reading(who.organization_id) as session:
        flow = flows.find(session, who.organization_id, flow_id)
        before = flows.version(session, who.organization_id, flow_id, number).document
        after = flows.document_of(session, flow)
    return [
        {**vars(one), "step": one.step["key"] if one.step else None}
        for one in flow_diffs.changes(before, after)
    ]


@blueprint.post("/flows/<flow_id>/dry-run")
@require("flows:read")
@operation(summary="Try a flow", body=schemas.TrialIn, returns=schemas.TrialOut)
def try_flow(flow_id: str, body: schemas.TrialIn) -> Any:
    """Evaluate a flow on a sample event and show every step; nothing is sent."""
    who = principal()
    with reading(who.organization_id) as session:
        flow = flows.find(session, who.organization_id, flow_id)
        document = body.document or flows.document_of(session, flow)
        event = body.event or samples.event_for(session, who.organization_id, document)
        return dry_runs.dry_run(session, who.organization_id, document, event)


def _detail(session: Any, flow: Flow) -> dict[str, Any]:
    document = flows.document_of(session, flow)
    return {
        **schemas.FlowOut.model_validate(flow, from_attributes=True).model_dump(),
        "document": document,
        "has_draft": flow.draft is not None,
        "problems": flows.check(session, flow.organization_id, document),
    }
