"""The JSON routes of connections."""

from typing import Any

from flask import Blueprint, request

from connectors import connection_checks, connections, schemas
from connectors.assistants import access
from connectors.subscriptions import turns
from identity import audit
from identity.guard import principal, require
from kernel.database import reading, transaction
from kernel.web import operation

blueprint = Blueprint("connections", __name__)


@blueprint.get("/connections")
@require("connections:read")
@operation(summary="List the connections", returns=schemas.ConnectionOut, many=True)
def list_connections() -> Any:
    """Return the organization's connections, optionally those of one connector."""
    who = principal()
    with reading(who.organization_id) as session:
        return connections.all_of(session, who.organization_id, request.args.get("connector"))


@blueprint.post("/connections")
@require("connections:write")
@operation(
    summary="Connect an app",
    body=schemas.ConnectionIn,
    returns=schemas.ConnectionOut,
    status=201,
)
def create_connection(body: schemas.ConnectionIn) -> Any:
    """Store a connection; its secrets are sealed."""
    who = principal()
    connections.check_addresses(body.connector, body.settings)
    with transaction(who.organization_id) as session:
        made = connections.create(
            session,
            who.organization_id,
            body.connector,
            **body.model_dump(include={"name", "auth", "fields", "settings"}),
        )
        audit.record(session, who, "connection.created", made.id)
        return made


@blueprint.get("/connections/<connection_id>")
@require("connections:read")
@operation(summary="Read a connection", returns=schemas.ConnectionOut)
def read_connection(connection_id: str) -> Any:
    """Return one connection without its secrets."""
    who = principal()
    with reading(who.organization_id) as session:
        return connections.find(session, who.organization_id, connection_id)


@blueprint.patch("/connections/<connection_id>")
@require("connections:write")
@operation(
    summary="Rename or reconnect", body=schemas.ConnectionPatch, returns=schemas.ConnectionOut
)
def change_connection(connection_id: str, body: schemas.ConnectionPatch) -> Any:
    """Change a connection; new credentials wake the runs that wait for it."""
    who = principal()
    with reading(who.organization_id) as session:
        known = connections.find(session, who.organization_id, connection_id)
    if body.settings is not None:
        connections.check_addresses(known.connector_key, body.settings)
    with transaction(who.organization_id) as session:
        given = body.model_dump(exclude_unset=True)
        audit.record(session, who, "connection.changed", connection_id, detail={"what": [*given]})
        level = given.pop("assistant_access", None)
        if level is not None:
            access.give(session, who.organization_id, connection_id, level)
        if "credentials_end_at" in given:
            at = given.pop("credentials_end_at")
            connections.note_end(session, who.organization_id, connection_id, at)
        return connections.change(session, who.organization_id, connection_id, **given)


@blueprint.delete("/connections/<connection_id>")
@require("connections:write")
@operation(summary="Disconnect an app", status=204)
def revoke_connection(connection_id: str) -> Any:
    """Forget a connection's secrets; refused while active flows use it, unless ?force=1."""
    who = principal()
    force = request.args.get("force") == "1"
    with reading(who.organization_id) as session:
        connections.check_unused(session, who.organization_id, connection_id, force=force)
    turns.end_all(who.organization_id, connection_id)
    with transaction(who.organization_id) as session:
        connections.revoke(session, who.organization_id, connection_id, force=force)
        audit.record(session, who, "connection.revoked", connection_id)


@blueprint.post("/connections/<connection_id>/test")
@require("connections:write")
@operation(summary="Test a connection", returns=schemas.ConnectionOut)
def test_connection(connection_id: str) -> Any:
    """Call the app once and record whether it accepts the credentials."""
    return connection_checks.test(principal().organization_id, connection_id)
