"""The desk over JSON: health, tenants, what operators did."""

from datetime import datetime
from typing import Any

from flask import Blueprint, request
from flask_babel import gettext

from identity.guard import principal, require
from identity.tables import AuditEntry
from kernel.errors import N_, Malformed
from kernel.web import Page, operation, page_of
from marketplace.desk import acts, door, dossier, health, needs, schemas, tenants
from marketplace.desk.needs import Need
from webhooks import intake

blueprint = Blueprint("desk_api", __name__, url_prefix="/api/v1/hub")


@blueprint.get("/health")
@require(door.LOOK)
@operation(summary="Show how the hub is and what it needs", returns=schemas.HealthOut)
def show_health() -> schemas.HealthOut:
    """Look at the whole hub."""
    with door.looking(principal()) as session:
        found = health.examine(session)
    assert found.counts is not None
    assert found.throughput is not None
    return schemas.HealthOut.model_validate(
        {
            "at": found.at,
            "mode": found.mode,
            "version": found.version,
            "needs": [_need(need) for need in needs.of(found)],
            "store": found.store,
            "broker": found.broker,
            "disk": found.disk,
            "archive": found.archive,
            "processes": list(found.processes),
            "counts": found.counts.numbers,
            "oldest_event_at": found.counts.oldest_at,
            "hours": [{"start": s.start, "counts": s.counts} for s in found.throughput.spans],
        },
        from_attributes=True,
    )


def _need(need: Need) -> dict[str, str]:
    says, todo = gettext(need.says), gettext(need.todo)
    if need.params:
        says, todo = says % need.params, todo % need.params
    return {"code": need.code, "tone": need.tone, "says": says, "todo": todo}


@blueprint.get("/tenants")
@require(door.LOOK)
@operation(
    summary="List organizations: ?q= name, id or e-mail, ?state=, ?sort= newest, name, today, "
    "backlog or failures",
    returns=schemas.TenantOut,
    many=True,
)
def list_tenants() -> Page:
    """Return a page of tenants."""
    with door.looking(principal()) as session:
        found = tenants.listing(
            session,
            query=request.args.get("q", "")[:200].replace("\0", ""),
            state=request.args.get("state", ""),
            sort=request.args.get("sort", "newest"),
            cursor=request.args.get("cursor"),
            limit=request.args.get("limit", tenants.PAGE, type=int),
        )
    return Page(list(found.items), found.next_cursor)


@blueprint.get("/tenants/<organization_id>")
@require(door.LOOK)
@operation(
    summary="Show one organization; no content of its events", returns=schemas.TenantDetailOut
)
def show_tenant(organization_id: str) -> schemas.TenantDetailOut:
    """Return a tenant's dossier."""
    with door.looking(principal()) as session:
        return _detail(dossier.read(session, organization_id, is_daily=True))


def _detail(found: dossier.Dossier) -> schemas.TenantDetailOut:
    return schemas.TenantDetailOut.model_validate(
        {
            "tenant": found.tenant,
            "suspended_at": found.suspended_at,
            "suspended_because": found.suspended_because,
            "contacts": found.contacts,
            "used_today": found.standing.used_today,
            "waiting": found.standing,
            "stopped": found.stopped,
            "circuits": found.circuits,
            "refused": found.refused,
            "days": [{"start": span.start, "counts": span.counts} for span in found.spans],
        },
        from_attributes=True,
    )


@blueprint.patch("/tenants/<organization_id>")
@require(door.LOOK, door.CHANGE)
@operation(
    summary="Change an organization's weight and quotas",
    body=schemas.TenantIn,
    returns=schemas.TenantDetailOut,
)
def change_tenant(organization_id: str, body: schemas.TenantIn) -> schemas.TenantDetailOut:
    """Change what is sent and leave the rest."""
    who, sent = principal(), body.model_dump(exclude_unset=True)
    with door.changing(who) as session:
        found = dossier.read(session, organization_id, is_daily=True)
        weight = sent.pop("weight", None)
        if weight is not None:
            acts.set_weight(session, who, organization_id, weight)
        if sent:
            acts.set_limits(session, who, organization_id, {**found.own_limits, **sent})
        session.flush()
        return _detail(dossier.read(session, organization_id, is_daily=True))


@blueprint.post("/tenants/<organization_id>/suspend")
@require(door.LOOK, door.CHANGE)
@operation(
    summary="Suspend an organization: nothing comes in, nothing goes out, nothing is lost",
    body=schemas.SuspendIn,
    returns=schemas.TenantOut,
)
def suspend_tenant(organization_id: str, body: schemas.SuspendIn) -> Any:
    """Suspend a tenant."""
    who = principal()
    with door.changing(who) as session:
        acts.suspend(session, who, organization_id, body.reason)
        found = tenants.find(session, organization_id)
    intake.forget()
    return found


@blueprint.post("/tenants/<organization_id>/resume")
@require(door.LOOK, door.CHANGE)
@operation(
    summary="Resume an organization; what was held goes on bit by bit",
    returns=schemas.TenantOut,
)
def resume_tenant(organization_id: str) -> Any:
    """Let a tenant in again."""
    who = principal()
    with door.changing(who) as session:
        acts.resume(session, who, organization_id)
        found = tenants.find(session, organization_id)
    intake.forget()
    return found


@blueprint.get("/acts")
@require(door.LOOK)
@operation(
    summary="List what operators did: ?action=, ?actor=, ?tenant= an organization's id, ?since=",
    returns=schemas.ActOut,
    many=True,
)
def list_acts() -> Page:
    """Return a page of operators' acts, newest first."""
    statement = acts.listing(
        action=request.args.get("action", ""),
        actor=request.args.get("actor", "")[:120].replace("\0", ""),
        tenant=request.args.get("tenant", "")[:40].replace("\0", ""),
        since=_moment(request.args.get("since", "")),
    )
    with door.looking(principal()) as session:
        cursor, limit = request.args.get("cursor"), request.args.get("limit", 50, type=int)
        return page_of(session, statement, AuditEntry.id, cursor=cursor, limit=limit)


def _moment(said: str) -> datetime | None:
    """Read a time with its zone."""
    if not said:
        return None
    try:
        found = datetime.fromisoformat(said)
    except ValueError:
        found = None  # type: ignore[assignment]
    if found is None or found.tzinfo is None:
        raise Malformed(detail=N_("Give times as RFC 3339, with their zone"))
    return found
