"""The operator's pages: health, tenants, and what operators did."""

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from flask import request
from flask_babel import format_time, gettext

from identity import audit
from identity.guard import principal, require
from identity.tables import AuditEntry
from kernel import clock
from kernel.errors import Invalid, Problem
from kernel.settings import settings
from kernel.web import page_of
from marketplace.desk import acts, door, dossier, health, lines, needs, tenants
from marketplace.desk.needs import Need
from marketplace.pages.drawing import blueprint, draw, go, typed
from webhooks import intake, limits
from webhooks.pages.drawing import PROBLEMS
from webhooks.pages.usage import CHARTS, KINDS, REASONS, chart, number


@blueprint.get("/operator")
@require(door.LOOK)
def operator() -> Any:
    """Lead to the health page."""
    return go("/operator/health")


@blueprint.get("/operator/health")
@require(door.LOOK)
def show_health() -> Any:
    """Show how the hub is."""
    return draw("desk_health.html", **_look())


@blueprint.get("/operator/health/live")
@require(door.LOOK)
def live_health() -> Any:
    """Give the part of the page that changes."""
    return draw("desk_health_live.html", **_look())


def _look() -> dict[str, Any]:
    with door.looking(principal()) as session:
        found = health.examine(session)
    assert found.throughput is not None
    return {
        "health": found,
        "needs": [_in_words(need) for need in needs.of(found)],
        "chart": lines.draw(found.throughput.spans),
        "counted": needs.told,
    }


def _in_words(need: Need) -> dict[str, str]:
    values = {
        name: format_time(value, "short") if isinstance(value, datetime) else value
        for name, value in need.params.items()
    }
    says, todo = gettext(need.says), gettext(need.todo)
    if values:
        says, todo = says % values, todo % values
    return {"code": need.code, "tone": need.tone, "says": says, "todo": todo}


@blueprint.get("/operator/tenants")
@require(door.LOOK)
def list_tenants() -> Any:
    """Show who uses the hub."""
    wanted: dict[str, Any] = {
        "query": request.args.get("q", "")[:200].replace("\0", ""),
        "state": request.args.get("state", ""),
        "sort": request.args.get("sort", "newest"),
    }
    with door.looking(principal()) as session:
        found = tenants.listing(session, **wanted, cursor=request.args.get("cursor"))
    return draw("desk_tenants.html", found=found, **wanted)


@blueprint.get("/operator/tenants/<organization_id>")
@require(door.LOOK)
def show_tenant(organization_id: str) -> Any:
    """Show one tenant."""
    return _draw_tenant(organization_id)


def _draw_tenant(organization_id: str, problem: Problem | None = None) -> Any:
    is_daily = request.args.get("by") != "hour"
    with door.looking(principal()) as session:
        found = dossier.read(session, organization_id, is_daily=is_daily)
        recent = page_of(session, acts.listing(tenant=organization_id), AuditEntry.id, limit=5)
    return draw(
        "desk_tenant.html",
        problem=problem,
        found=found,
        tenant=found.tenant,
        is_daily=is_daily,
        charts=[chart(found.spans, *one) for one in CHARTS],
        kinds=KINDS,
        reasons={name: sum(span.counts[name] for span in found.spans) for name in REASONS},
        reason_words=REASONS,
        problems=PROBLEMS,
        refusal_words={one.code: gettext(one.title) for one in found.refused if one.title},
        defaults=limits.of_organization(None),
        recent=recent.items,
        actions=audit.ACTIONS,
        counted=needs.told,
        status=problem.status if problem else None,
    )


@blueprint.post("/operator/tenants/<organization_id>/limits")
@require(door.LOOK, door.CHANGE)
def set_tenant_limits(organization_id: str) -> Any:
    """Set a tenant's weight and quotas; an empty quota leaves it to the settings."""
    who = principal()
    try:
        weight, wanted = number("weight"), {name: number(name) for name in limits.NAMES}
        with door.changing(who) as session:
            acts.set_limits(session, who, organization_id, wanted)
            acts.set_weight(session, who, organization_id, weight or 0)
    except Invalid as problem:
        return _draw_tenant(organization_id, problem)
    return go(f"/operator/tenants/{organization_id}")


@blueprint.post("/operator/tenants/<organization_id>/suspend")
@require(door.LOOK, door.CHANGE, fresh=True)
def suspend_tenant(organization_id: str) -> Any:
    """Suspend a tenant for a reason."""
    who = principal()
    try:
        with door.changing(who) as session:
            acts.suspend(session, who, organization_id, typed("reason").replace("\0", ""))
    except Invalid as problem:
        return _draw_tenant(organization_id, problem)
    intake.forget()
    return go(f"/operator/tenants/{organization_id}")


@blueprint.post("/operator/tenants/<organization_id>/resume")
@require(door.LOOK, door.CHANGE)
def resume_tenant(organization_id: str) -> Any:
    """Let a tenant in again."""
    who = principal()
    with door.changing(who) as session:
        acts.resume(session, who, organization_id)
    intake.forget()
    return go(f"/operator/tenants/{organization_id}")


@blueprint.get("/operator/audit")
@require(door.LOOK)
def list_acts() -> Any:
    """Show what operators did to whom."""
    wanted: dict[str, Any] = {
        "action": request.args.get("action", ""),
        "actor": request.args.get("actor", "")[:120].replace("\0", ""),
        "tenant": request.args.get("tenant", "")[:40].replace("\0", ""),
    }
    days = request.args.get("days", "")
    with door.looking(principal()) as session:
        statement = acts.listing(**wanted, since=_since(days))
        page = page_of(session, statement, AuditEntry.id, cursor=request.args.get("cursor"))
        names = acts.names_of(session, {entry.organization_id for entry in page.items})
    known = {name: audit.ACTIONS[name] for name in acts.OPERATOR_ACTS}
    return draw("desk_acts.html", page=page, names=names, known=known, days=days, **wanted)


def _since(days: str) -> datetime | None:
    """Return the beginning of the day so many days ago, today being the first."""
    if days not in ("1", "7", "30"):
        return None
    here = clock.now().astimezone(ZoneInfo(settings().time_zone))
    begin = here.replace(hour=0, minute=0, second=0, microsecond=0)
    return begin - timedelta(days=int(days) - 1)
