"""Pages about the life of connections: what ends soon, pausing, ends that people write down."""

from datetime import UTC, date, datetime, time
from typing import Any

from connectors import connections
from connectors.errors import Unfit, finding
from connectors.health import expiries, pausing
from connectors.pages.connections import draw_one
from connectors.pages.drawing import blueprint, draw, go, typed
from identity import audit
from identity.guard import principal, require
from kernel.database import reading, store_now, transaction
from kernel.errors import Problem

DAYS_AHEAD = 90


@blueprint.get("/connections/expiring")
@require("connections:read")
def list_expiring() -> Any:
    """Show which connections need a person soon, the most urgent first."""
    who = principal()
    with reading(who.organization_id) as session:
        found = expiries.upcoming(session, who.organization_id, DAYS_AHEAD)
        now = store_now(session)
    left = {one.id: expiries.days_left(one, now) for one in found}
    return draw("expiring.html", connections=found, left=left, words=expiries.WORDS)


@blueprint.post("/connections/<connection_id>/pause")
@require("connections:write")
def pause_connection(connection_id: str) -> Any:
    """Let nothing go out over a connection for a while."""
    who = principal()
    try:
        with transaction(who.organization_id) as session:
            pausing.pause(session, who.organization_id, connection_id)
            audit.record(session, who, "connection.paused", connection_id)
    except Problem as problem:
        return draw_one(connection_id, problem)
    return go(f"/connections/{connection_id}", done="connection_paused")


@blueprint.post("/connections/<connection_id>/resume")
@require("connections:write")
def resume_connection(connection_id: str) -> Any:
    """Let calls go out again."""
    who = principal()
    with transaction(who.organization_id) as session:
        pausing.resume(session, who.organization_id, connection_id)
        audit.record(session, who, "connection.resumed", connection_id)
    return go(f"/connections/{connection_id}", done="connection_resumed")


@blueprint.post("/connections/<connection_id>/end")
@require("connections:write")
def note_end(connection_id: str) -> Any:
    """Write down when the app's key ends, so that somebody is told before; empty: it does not."""
    who, text = principal(), typed("ends_on", 10)
    try:
        at = _moment(text) if text else None
        with transaction(who.organization_id) as session:
            connections.note_end(session, who.organization_id, connection_id, at)
            audit.record(session, who, "connection.changed", connection_id)
    except Problem as problem:
        return draw_one(connection_id, problem)
    return go(f"/connections/{connection_id}", done="end_noted")


def _moment(text: str) -> datetime:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        words = ("请填写日期，如 2027-03-31", "Write a date such as 2027-03-31")
        raise Unfit([finding("/ends_on", *words)]) from None
    return datetime.combine(day, time(), UTC)
