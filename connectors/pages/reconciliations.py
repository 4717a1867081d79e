"""The card about missing events on a source's page, and its two forms."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from flask import render_template, request
from markupsafe import Markup

from connectors import reconciliations
from connectors.pages.drawing import blueprint, connector_or_none, go, typed, typed_under
from connectors.reconciliations import Way
from connectors.tables import Connection, Reconciliation
from identity import audit
from identity.guard import principal, require
from kernel.database import reading, store_now, transaction
from kernel.errors import Problem
from webhooks.pages.sources import draw_source
from webhooks.tables import Source

SHOWN = 20


def card(source: Source, problem: Problem | None) -> str:
    """Draw the card; nothing when the source's sender cannot be asked at all."""
    organization_id = source.organization_id
    with reading(organization_id) as session:
        one = reconciliations.find(session, organization_id, source.id)
        ways = reconciliations.ways(session, source)
        now = store_now(session)
        connection = session.get(Connection, (organization_id, one.connection_id)) if one else None
    is_ours = request.path.endswith("/reconciliation")
    if source.state == "closed" or not (one or ways):
        return ""
    drawn = render_template(
        "connectors/missing.html",
        source=source,
        one=one,
        connection=connection,
        ways=ways,
        chosen=_chosen(ways, connection),
        form=request.form if is_ours else {},
        errors=problem.errors if problem is not None and is_ours else [],
        now=now,
        **_standing(one, now),
    )
    return Markup(drawn)  # noqa: S704 - a template of ours, which escapes what it is given


def _standing(one: Reconciliation | None, now: datetime) -> dict[str, Any]:
    if one is None:
        return {"status": None, "missing": [], "more": 0}
    status = reconciliations.status(one, now)
    missing = [_readable(entry) for entry in [*status.lost, *status.open]]
    return {
        "status": status,
        "missing": missing[:SHOWN],
        "more": max(0, len(missing) - SHOWN),
    }


def _readable(entry: Mapping[str, Any]) -> dict[str, Any]:
    times = {
        name: datetime.fromisoformat(entry[name]) if entry.get(name) else None
        for name in ("at", "next_at")
    }
    return {**entry, **times}


def _chosen(ways: list[Way], connection: Connection | None) -> Way | None:
    """Return the way the form is about: the connection's, else the first that could be used."""
    key = request.form.get("connector") or (connection.connector_key if connection else "")
    able = [way for way in ways if way.connections]
    fitting = [way for way in able if connector_or_none(key) and way.connector.key == key]
    return next(iter(fitting or able), None)


@blueprint.post("/sources/<source_id>/reconciliation")
@require("sources:write")
def set_up_reconciliation(source_id: str) -> Any:
    """Let the hub look for missing events from now on, and at once."""
    who = principal()
    try:
        with transaction(who.organization_id) as session:
            reconciliations.set_up(
                session,
                who.organization_id,
                source_id,
                connection_id=typed("connection_id"),
                values=typed_under("input"),
            )
            audit.record(session, who, "reconciliation.set_up", source_id)
    except Problem as problem:
        return draw_source(source_id, problem)
    return go(f"/sources/{source_id}#missing")


@blueprint.post("/sources/<source_id>/reconciliation/look")
@require("sources:write")
def look_for_missing(source_id: str) -> Any:
    """Look for missing events now."""
    who = principal()
    try:
        with transaction(who.organization_id) as session:
            reconciliations.look_now(session, who.organization_id, source_id)
            audit.record(session, who, "reconciliation.asked", source_id)
    except Problem as problem:
        return draw_source(source_id, problem)
    return go(f"/sources/{source_id}#missing")
