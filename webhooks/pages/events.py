"""Events as pages: what came in, what became of it, what to do about it."""

from typing import Any

from flask import request

from catalog import event_types
from identity import audit
from identity.guard import principal, require
from kernel import documents
from kernel.database import reading, transaction
from kernel.errors import Problem
from kernel.web import page_of
from webhooks import endpoints, events, fetched, intake, sources
from webhooks.errors import Archived
from webhooks.keeping import rules, sizes
from webhooks.pages.drawing import blueprint, draw, go, translated
from webhooks.tables import EVENT, Event

STATES = ("new", "routed", "rejected", "quarantined")


@blueprint.get("/events")
@require("events:read")
def list_events() -> Any:
    """Show the latest events, narrowed by state, type and source."""
    organization_id = principal().organization_id
    state, event_type, source_id = (request.args.get(n, "") for n in ("state", "type", "source"))
    wanted = events.listing(
        organization_id, state=state, event_type=event_type, source_id=source_id
    )
    with reading(organization_id) as session:
        page = page_of(session, wanted, EVENT.c.id, cursor=request.args.get("cursor"), limit=30)
        known = session.execute(sources.listing(organization_id)).scalars().all()
        titles = {e.type: _title(session, organization_id, e.type) for e in page.items}
        # only the end of the list asks how far back it goes: that is read along the whole of it
        first_at = None if page.next_cursor else sizes.oldest_at(session, organization_id)
        live_days = rules.find(session, organization_id).general.live_days
    names = {source.id: source.name for source in known}
    return draw(
        "events.html",
        page=page,
        names=names,
        titles=titles,
        states=STATES,
        first_at=first_at,
        live_days=live_days,
    )


def _title(session: Any, organization_id: str, name: str) -> Any:
    found = event_types.lookup(session, organization_id, name)
    return found.title if found else None


@blueprint.get("/events/<event_id>")
@require("events:read")
def show_event(event_id: str) -> Any:
    """Show one event, where it went and what is wrong with it."""
    try:
        return _draw_event(event_id)
    except Archived:
        return go(f"/archive/events/{event_id}", "")


def _draw_event(event_id: str, problem: Problem | None = None) -> Any:
    who = principal()
    with reading(who.organization_id) as session:
        event = events.get(session, who.organization_id, event_id)
        source = sources.maybe(session, who.organization_id, event.source_id)
        targets = {row["id"]: row["url"] for row in endpoints.urls(session, who.organization_id)}
        found = events.deliveries_of(session, who.organization_id, event_id)
        traces = [t for look in events.TRACES for t in look(session, who.organization_id, event_id)]
        title = _title(session, who.organization_id, event.type)
    return draw(
        "event.html",
        problem=problem,
        event=event,
        source=source,
        title=title,
        deliveries=found,
        targets=targets,
        traces=traces,
        body=_shown(event),
        fetched_at=fetched.fetched_at(event.headers),
        kept_headers={n: text for n, text in event.headers.items() if n != fetched.MARK},
        findings=translated((event.problem or {}).get("errors", ())),
    )


def _shown(event: Event) -> Any:
    """Return the data for reading: a JSON value, or the first part of other text."""
    if event.content_type == "application/json":
        return documents.parse(event.body)
    return event.body[:4000].decode("utf-8", "replace")


@blueprint.post("/events/<event_id>/replay")
@require("events:replay")
def replay_event(event_id: str) -> Any:
    """Route the event once more."""
    who = principal()
    try:
        with transaction(who.organization_id) as session:
            events.replay(session, who.organization_id, event_id)
            audit.record(session, who, "event.replayed", event_id)
    except Problem as problem:
        return _draw_event(event_id, problem)
    return go(f"/events/{event_id}", "replayed")


@blueprint.post("/events/<event_id>/reconsider")
@require("events:replay")
def reconsider_event(event_id: str) -> Any:
    """Check a rejected event against today's rules."""
    who = principal()
    try:
        event = intake.reconsider(who.organization_id, event_id)
        with transaction(who.organization_id) as session:
            audit.record(session, who, "event.reconsidered", event_id)
    except Problem as problem:
        return _draw_event(event_id, problem)
    return go(f"/events/{event_id}", "accepted" if event.state != "rejected" else "still_rejected")
