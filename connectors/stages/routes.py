"""The JSON routes of environments."""

from typing import Any

from flask import Blueprint
from sqlmodel import Session

from connectors import flows, schemas
from connectors.stages import environments, publishing
from connectors.stages.schemas import EnvironmentIn, PlaceOut, StagesOut
from connectors.tables import Flow
from identity import audit
from identity.guard import principal, require
from kernel.database import reading, transaction
from kernel.web import operation

blueprint = Blueprint("stages", __name__)


@blueprint.get("/flows/<flow_id>/stages")
@require("flows:read")
@operation(summary="Read a flow's environments", returns=StagesOut)
def read_stages(flow_id: str) -> Any:
    """Return what runs live and in test, and what a promotion would change."""
    who = principal()
    with reading(who.organization_id) as session:
        flow = flows.find(session, who.organization_id, flow_id)
        return stages(session, flow)


@blueprint.post("/flows/<flow_id>/publish-to-test")
@require("flows:write")
@operation(summary="Publish a flow's draft to test", returns=schemas.VersionOut)
def publish_to_test(flow_id: str) -> Any:
    """Make the draft a version that runs in test alone; what runs live does not change."""
    who = principal()
    with transaction(who.organization_id) as session:
        made = publishing.publish(session, who.organization_id, flow_id, who.actor_id)
        audit.record(session, who, "flow.published_to_test", flow_id, detail={"n": made.number})
        return made


@blueprint.post("/flows/<flow_id>/promote")
@require("flows:write")
@operation(summary="Promote a flow from test to live", returns=schemas.VersionOut)
def promote_flow(flow_id: str) -> Any:
    """Publish live what runs in test, over the connections of the live environment."""
    who = principal()
    with transaction(who.organization_id) as session:
        made = publishing.promote(session, who.organization_id, flow_id, who.actor_id)
        audit.record(session, who, "flow.promoted", flow_id, detail={"version": made.number})
        return made


@blueprint.post("/flows/<flow_id>/stop-in-test")
@require("flows:write")
@operation(summary="Stop a flow in test", returns=schemas.FlowOut)
def stop_in_test(flow_id: str) -> Any:
    """Start no more runs in test; what runs live goes on."""
    who = principal()
    with transaction(who.organization_id) as session:
        audit.record(session, who, "flow.stopped_in_test", flow_id)
        return publishing.stop(session, who.organization_id, flow_id)


@blueprint.put("/connections/<connection_id>/environment")
@require("connections:write")
@operation(summary="Move a connection", body=EnvironmentIn, returns=PlaceOut)
def move_connection(connection_id: str, body: EnvironmentIn) -> Any:
    """Say whether a connection is for live or for test; refused while published flows use it."""
    who = principal()
    with transaction(who.organization_id) as session:
        detail = {"environment": body.environment}
        audit.record(session, who, "connection.moved", connection_id, detail=detail)
        return environments.put_connection(
            session, who.organization_id, connection_id, body.environment
        )


@blueprint.put("/sources/<source_id>/environment")
@require("sources:write")
@operation(summary="Move a source", body=EnvironmentIn, returns=PlaceOut)
def move_source(source_id: str, body: EnvironmentIn) -> Any:
    """Say whether a source feeds the flows that run live or those in test."""
    who = principal()
    with transaction(who.organization_id) as session:
        detail = {"environment": body.environment}
        audit.record(session, who, "source.moved", source_id, detail=detail)
        return environments.put_source(session, who.organization_id, source_id, body.environment)


def stages(session: Session, flow: Flow) -> dict[str, Any]:
    """Return what runs of a flow in each environment, and the difference."""
    owner = flow.organization_id
    stage = publishing.in_test(session, owner, flow.id)
    found: dict[str, Any] = {"live": None, "test": None, "changes": []}
    for name, number, state in (
        ("live", flow.published_version, flow.state),
        ("test", stage.published_version if stage else None, stage.state if stage else ""),
    ):
        if number is not None:
            at = flows.version(session, owner, flow.id, number).published_at
            found[name] = {
                "environment": name,
                "version": number,
                "state": state,
                "published_at": at,
            }
    if stage is not None:
        found["changes"] = [
            {**vars(one), "step": one.step["key"] if one.step else None}
            for one in publishing.changes(session, owner, flow.id)
        ]
    return found
