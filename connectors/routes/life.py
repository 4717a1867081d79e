"""The JSON routes of connections' life: health, budgets, what ends, links to reconnect."""

from typing import Any

from flask import Blueprint, request

from connectors import connections, schemas, source_ties
from connectors.budgets import gauges
from connectors.budgets.gauges import Gauge
from connectors.health import expiries, looks, pausing
from connectors.health import schemas as shapes
from connectors.reconnecting import links
from connectors.reconnecting.tables import ReconnectLink
from identity import audit
from identity.guard import principal, require
from kernel.database import reading, store_now, transaction
from kernel.web import operation
from webhooks import intake

blueprint = Blueprint("connection_life", __name__)
DAYS_AHEAD, MOST_DAYS = 90, 730


@blueprint.get("/connections/expiring")
@require("connections:read")
@operation(summary="List what ends soon", returns=shapes.ExpiringOut, many=True)
def list_expiring() -> Any:
    """Return the connections that need a person within ?days= (90), the most urgent first."""
    who, text = principal(), request.args.get("days", "")
    days = min(int(text), MOST_DAYS) if text.isascii() and text.isdigit() else DAYS_AHEAD
    with reading(who.organization_id) as session:
        found = expiries.upcoming(session, who.organization_id, days)
        now = store_now(session)
    return [
        {
            "id": one.id,
            "name": one.name,
            "connector_key": one.connector_key,
            "ends_what": one.ends_what,
            "ends_at": one.ends_at,
            "days_left": expiries.days_left(one, now),
            "why": expiries.WORDS[str(one.ends_what)],
        }
        for one in found
    ]


@blueprint.get("/connections/<connection_id>/health")
@require("connections:read")
@operation(summary="See how a connection does", returns=shapes.HealthOut)
def read_health(connection_id: str) -> Any:
    """Return what became of the calls over a connection."""
    who = principal()
    with reading(who.organization_id) as session:
        connection = connections.find(session, who.organization_id, connection_id)
        found, now = looks.of(session, connection), store_now(session)
        unheard = source_ties.unheard(session, who.organization_id, connection_id)
    names = shapes.HealthOut.model_fields.keys() - {"causes", "hours", "unheard_flows"}
    return {
        **{name: getattr(found, name) for name in names},
        "causes": dict(found.causes),
        "unheard_flows": [flow.id for flow in unheard],
        "hours": looks.by_hour(found.hours, now),
    }


@blueprint.get("/connections/<connection_id>/budgets")
@require("connections:read")
@operation(summary="See how an app's limits stand", returns=shapes.GaugeOut, many=True)
def list_budgets(connection_id: str) -> Any:
    """Return how much of each limit of the app is left for this connection."""
    who = principal()
    with reading(who.organization_id) as session:
        connection = connections.find(session, who.organization_id, connection_id)
        return [_shown(one) for one in gauges.of(session, connection)]


def _shown(one: Gauge) -> dict[str, Any]:
    budget = one.budget
    return {
        "id": budget.id,
        "per": budget.per,
        "part": budget.part,
        "allow": budget.allow,
        "period_seconds": budget.period_seconds,
        "at_once": budget.burst,
        "parallel": budget.parallel,
        **{
            name: getattr(one, name)
            for name in ("left", "used", "full_at", "blocked_until", "in_air", "flows_waiting")
        },
    }


@blueprint.post("/connections/<connection_id>/pause")
@require("connections:write")
@operation(summary="Pause a connection", returns=schemas.ConnectionOut)
def pause_connection(connection_id: str) -> Any:
    """Let nothing go out over a connection; runs that need it wait."""
    who = principal()
    with transaction(who.organization_id) as session:
        audit.record(session, who, "connection.paused", connection_id)
        return pausing.pause(session, who.organization_id, connection_id)


@blueprint.post("/connections/<connection_id>/resume")
@require("connections:write")
@operation(summary="Resume a connection", returns=schemas.ConnectionOut)
def resume_connection(connection_id: str) -> Any:
    """Let calls go out again; runs that waited go on."""
    who = principal()
    with transaction(who.organization_id) as session:
        audit.record(session, who, "connection.resumed", connection_id)
        return pausing.resume(session, who.organization_id, connection_id)


@blueprint.get("/connections/<connection_id>/reconnect-links")
@require("connections:write")
@operation(summary="List links to reconnect", returns=shapes.ReconnectLinkOut, many=True)
def list_links(connection_id: str) -> Any:
    """Return the latest links to a connection, without their addresses."""
    who = principal()
    with reading(who.organization_id) as session:
        connections.find(session, who.organization_id, connection_id)
        found = links.listing(session, who.organization_id, connection_id)
    return [_link(one) for one in found]


@blueprint.post("/connections/<connection_id>/reconnect-links")
@require("connections:write")
@operation(
    summary="Make a link to reconnect",
    body=shapes.ReconnectLinkIn,
    returns=shapes.ReconnectLinkMadeOut,
    status=201,
)
def make_link(connection_id: str, body: shapes.ReconnectLinkIn) -> Any:
    """Let somebody renew this connection, once, within seven days; the address comes this once."""
    who = principal()
    with transaction(who.organization_id) as session:
        link, address = links.make(
            session,
            who.organization_id,
            connection_id,
            note=body.note,
            made_by=who.actor_id,
            made_by_name=who.name,
        )
        detail = {"link": link.id}
        audit.record(session, who, "reconnect_link.created", connection_id, detail=detail)
    return {**_link(link), "url": address}


@blueprint.delete("/reconnect-links/<reconnect_link_id>")
@require("connections:write")
@operation(summary="Withdraw a link to reconnect", status=204)
def revoke_link(reconnect_link_id: str) -> Any:
    """Let a link open nothing any more."""
    who = principal()
    with transaction(who.organization_id) as session:
        link = links.revoke(session, who.organization_id, reconnect_link_id)
        detail = {"link": link.id}
        audit.record(session, who, "reconnect_link.revoked", link.connection_id, detail=detail)


@blueprint.post("/reconnect-links/<reconnect_link_id>/decide")
@require("connections:write")
@operation(
    summary="Take or drop another account",
    body=shapes.LinkDecisionIn,
    returns=schemas.ConnectionOut,
)
def decide_link(reconnect_link_id: str, body: shapes.LinkDecisionIn) -> Any:
    """Say whether the connection works with the account that somebody signed in to by a link."""
    who, accepts = principal(), body.decision == "accept"
    with transaction(who.organization_id) as session:
        found = links.decide(session, who.organization_id, reconnect_link_id, accepts=accepts)
        action = "reconnect_link.accepted" if accepts else "reconnect_link.dropped"
        audit.record(session, who, action, found.id, detail={"link": reconnect_link_id})
        return found


@blueprint.put("/sources/<source_id>/connection")
@require("sources:write")
@operation(
    summary="Tie a source to a connection",
    body=shapes.SourceTieIn,
    returns=shapes.SourceTieOut,
)
def tie_source(source_id: str, body: shapes.SourceTieIn) -> Any:
    """Say which connection a source brings the events of; flows that listen to it hear them."""
    who = principal()
    with transaction(who.organization_id) as session:
        found = source_ties.tie(session, who.organization_id, source_id, body.connection_id)
        detail = {"connection": body.connection_id}
        audit.record(session, who, "source.tied", source_id, detail=detail)
    intake.forget()
    return found


def _link(one: ReconnectLink) -> dict[str, Any]:
    return {**one.model_dump(), "state": links.state_of(one)}
