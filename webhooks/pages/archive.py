"""The archive as pages: its days, its chunks, an event in it, and bringing events back."""

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from flask import request

from identity import audit
from identity.guard import principal, require
from kernel import documents
from kernel.database import reading, transaction
from kernel.errors import N_, Invalid, NotFound, Problem
from kernel.settings import settings
from webhooks import endpoints
from webhooks.keeping import chunks, records, restoring, sizes
from webhooks.keeping.restoring import Preview, Span
from webhooks.pages.drawing import blueprint, draw, go, typed

DAYS = 30
EVENTS = 50


@blueprint.get("/archive")
@require("events:read")
def show_archive() -> Any:
    """Show the archive's days; with an event's id go to that event."""
    wanted = request.args.get("q", "").strip()[:100]
    if re.fullmatch(r"evt_[0-9A-Za-z_]{1,60}", wanted):
        return go(f"/archive/events/{wanted}", "")
    return _draw_archive(searched=wanted)


def _draw_archive(
    problem: Problem | None = None, preview: Preview | None = None, searched: str = ""
) -> Any:
    organization_id = principal().organization_id
    with reading(organization_id) as session:
        before = request.args.get("cursor")
        found = chunks.days(session, organization_id, before=before, limit=DAYS + 1)
        state = sizes.state(session, organization_id)
    return draw(
        "archive.html",
        problem=problem,
        days=[(date.fromisoformat(row.day), row) for row in found[:DAYS]],
        next_cursor=found[DAYS - 1].day if len(found) > DAYS else None,
        state=state,
        preview=preview,
        limit=restoring.LIMIT,
        searched=searched,
    )


@blueprint.get("/archive/days/<day>")
@require("events:read")
def show_archive_day(day: str) -> Any:
    """Show the chunks of one day."""
    organization_id = principal().organization_id
    try:
        shown = date.fromisoformat(day)
    except ValueError:
        raise NotFound from None
    with reading(organization_id) as session:
        found = list(session.execute(chunks.listing(organization_id, day=day)).scalars())
    if not found:
        raise NotFound(N_("The archive holds nothing of this day"))
    return draw("archive_day.html", day=shown, chunks=sorted(found, key=lambda one: one.id))


@blueprint.get("/archive/chunks/<chunk_id>")
@require("events:read")
def show_chunk(chunk_id: str) -> Any:
    """Open a chunk: its events, a page at a time."""
    organization_id = principal().organization_id
    with reading(organization_id) as session:
        chunk = chunks.find(session, organization_id, chunk_id)
    found = list(chunks.read(chunk))
    start = max(0, min(request.args.get("start", 0, type=int), len(found)))
    shown = found[start : start + EVENTS]
    following = start + EVENTS if len(found) > start + EVENTS else None
    return draw(
        "archive_chunk.html",
        chunk=chunk,
        day=date.fromisoformat(chunk.day),
        events=[(records.event_of(one), one) for one in shown],
        following=following,
    )


@blueprint.get("/archive/events/<event_id>")
@require("events:read")
def show_archived_event(event_id: str) -> Any:
    """Show an archived event with what became of it."""
    return _draw_event(event_id)


def _draw_event(event_id: str, problem: Problem | None = None) -> Any:
    organization_id = principal().organization_id
    with reading(organization_id) as session:
        covering = chunks.covering(session, organization_id, event_id)
        targets = {row["id"]: row["url"] for row in endpoints.urls(session, organization_id)}
    copies = chunks.records_of(covering, event_id)
    if not copies:
        raise NotFound(N_("The archive does not hold this event"))
    event = records.event_of(copies[0])
    return draw(
        "archived_event.html",
        problem=problem,
        event=event,
        body=_shown(event),
        deliveries=[_with_times(row) for copy in copies for row in copy["deliveries"]],
        runs=[_with_times(row) for copy in copies for row in copy.get("runs", ())],
        targets=targets,
    )


def _with_times(row: dict[str, Any]) -> dict[str, Any]:
    """Give the times of a record's row back what makes them times."""
    names = [name for name in row if name.endswith("_at") and row[name]]
    return row | {name: datetime.fromisoformat(row[name]) for name in names}


def _shown(event: dict[str, Any]) -> Any:
    if event["content_type"] == "application/json":
        return documents.parse(event["body"])
    return event["body"][:4000].decode("utf-8", "replace")


@blueprint.post("/archive/events/<event_id>/replay")
@require("events:replay")
def replay_archived_event(event_id: str) -> Any:
    """Bring one event back and route it once more."""
    who = principal()
    try:
        restoring.replay_one(who.organization_id, event_id)
    except NotFound:
        raise
    except Problem as problem:
        return _draw_event(event_id, problem)
    with transaction(who.organization_id) as session:
        audit.record(session, who, "archive.replayed", event_id, detail={"events": 1})
    return go(f"/events/{event_id}", "replayed")


@blueprint.post("/archive/replay")
@require("events:replay")
def replay_archived_span() -> Any:
    """Say how many events would come back; bring them back once that was confirmed."""
    who = principal()
    try:
        span = span_typed()
        if not typed("confirmed"):
            return _draw_archive(preview=restoring.preview(who.organization_id, span))
        done = restoring.replay(who.organization_id, span)
    except Problem as problem:
        return _draw_archive(problem)
    detail = {"events": done.count, "event_types": span.event_types}
    with transaction(who.organization_id) as session:
        audit.record(session, who, "archive.replayed", detail=detail)
    return go("/archive", "span_replayed_partly" if done.is_more else "span_replayed")


def span_typed() -> Span:
    """Read a span of whole days, the last one included, out of a form."""
    since, until = _day("since"), _day("until")
    found = Span(since, until + timedelta(days=1), typed("type", 200) or "*")
    restoring.check(found)
    return found


def _day(name: str) -> datetime:
    """Return when a day began here."""
    try:
        day = date.fromisoformat(typed(name, 20))
        return datetime.combine(day, time(), ZoneInfo(settings().time_zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        message = N_("Choose a day")
        raise Invalid(errors=[{"pointer": f"/{name}", "message": message}]) from None
