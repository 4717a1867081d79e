"""Restoring: archived events come back to the live list and are routed once more.

They keep their ids, so that whoever has seen them can tell. What the archive has of them stays
there; the row that comes back is as young as its coming back and leaves in its turn.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select
from sqlmodel import Session

from identity import audit
from kernel import queue
from kernel.database import reading, store_now, transaction
from kernel.errors import N_, Conflict, Invalid, NotFound
from kernel.ids import new_id
from kernel.rows import insert_ignore
from webhooks import events
from webhooks.fan_out import matches
from webhooks.keeping import chunks, records
from webhooks.keeping.tables import ARCHIVE_CHUNK, ArchiveChunk
from webhooks.tables import EVENT, SOURCE, Event

LIMIT = 2_000
_REPEATABLE = ("routed", "quarantined")
audit.name_actions({"archive.replayed": N_("repeated archived events")})
Picked = tuple[ArchiveChunk, list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Span:
    """Which archived events are meant: those of some types that came in within a time."""

    since: datetime
    until: datetime
    event_types: str = "*"

    def has(self, record: dict[str, Any]) -> bool:
        """Tell whether a record's event is meant and may be repeated."""
        event = record["event"]
        return (
            event["state"] in _REPEATABLE
            and not record["restored"]
            and chunks.is_within(record, self.since, self.until)
            and matches([self.event_types], event["type"])
        )


@dataclass(frozen=True, slots=True)
class Preview:
    """How many events a replay would bring back; `is_more` when a second one would go on."""

    count: int
    is_more: bool


def preview(organization_id: str, span: Span) -> Preview:
    """Count what a replay of a span would bring back, up to its limit."""
    count = sum(len(found) for _, found in _pick(organization_id, span, LIMIT + 1))
    return Preview(min(count, LIMIT), count > LIMIT)


def replay(organization_id: str, span: Span) -> Preview:
    """Bring the events of a span back, at most 2,000; calling again goes on with the rest."""
    count = 0
    for chunk, found in _pick(organization_id, span, LIMIT):  # one file in memory at a time
        count += len(_restore(organization_id, chunk, found))
    return Preview(count, preview(organization_id, span).count > 0)


def replay_one(organization_id: str, event_id: str) -> str:
    """Bring one event back under its id; raises NotFound, or Conflict when it cannot be."""
    with reading(organization_id) as session:
        covering = chunks.covering(session, organization_id, event_id)
    for chunk in covering:
        for record in chunks.read(chunk):
            if record["event"]["id"] == event_id:
                if record["event"]["state"] not in _REPEATABLE:
                    raise Conflict(detail=N_("A rejected event cannot be repeated"))
                if not _restore(organization_id, chunk, [record]):
                    raise Conflict(detail=N_("This event is in the live list already"))
                return event_id
    raise NotFound(N_("The archive does not hold this event"))


def check(span: Span) -> None:
    """Refuse a span that ends before it begins."""
    if span.until <= span.since:
        message = N_("The end must be after the beginning")
        raise Invalid(errors=[{"pointer": "/until", "message": message}])


def _pick(organization_id: str, span: Span, most: int) -> Iterator[Picked]:
    """Give what a span means and is not live, chunk by chunk, up to `most` events."""
    last_id, left = "", most
    while left > 0:
        with reading(organization_id) as session:
            page = chunks.after(
                session, organization_id, last_id, since=span.since, until=span.until
            )
        if not page:
            return
        last_id = page[-1].id
        for chunk in page:
            if left <= 0 or not any(matches([span.event_types], name) for name in chunk.types):
                continue
            meant = [record for record in chunks.read(chunk) if span.has(record)]
            with reading(organization_id) as session:
                live = _live(session, organization_id, [one["event"]["id"] for one in meant])
            found = [one for one in meant if one["event"]["id"] not in live][:left]
            left -= len(found)
            if found:
                yield chunk, found


def _live(session: Session, organization_id: str, ids: Sequence[str]) -> set[str]:
    wanted = select(EVENT.c.id).where(
        EVENT.c.organization_id == organization_id,
        EVENT.c.id.in_(ids),
        EVENT.c.state != "archived",
    )
    return set(session.execute(wanted).scalars())


def _restore(
    organization_id: str, chunk: ArchiveChunk, found: Sequence[dict[str, Any]]
) -> list[str]:
    """Write events of one chunk back as new ones; returns the ids of those that were not live."""
    with transaction(organization_id) as session:
        _hold(session, chunk)
        ids = [record["event"]["id"] for record in found]
        live = _live(session, organization_id, ids)
        events_of = [records.event_of(one) for one in found if one["event"]["id"] not in live]
        sources = _sources(session, organization_id, events_of)
        now = store_now(session)
        rows = [_row(event, sources, now) for event in events_of]
        fresh = [row["id"] for row in rows]
        # what remembers their dedupe keys gives way to them
        session.execute(
            delete(EVENT).where(
                EVENT.c.organization_id == organization_id,
                EVENT.c.id.in_(fresh),
                EVENT.c.state == "archived",
            )
        )
        conflict = ("organization_id", "origin", "dedupe_key")
        written = set(insert_ignore(session, Event, rows, conflict))
        # meanwhile the key may have come in anew, as another event
        taken = [row for row in rows if row["id"] not in written]
        rest = [{**row, "dedupe_key": f"again:{row['id']}"} for row in taken]
        insert_ignore(session, Event, rest, conflict)
        if fresh:
            queue.nudge(session, events.TASK)
        return fresh


def _hold(session: Session, chunk: ArchiveChunk) -> None:
    """See that the chunk is still the one that was read, and keep it so until the commit."""
    found = session.execute(
        select(ARCHIVE_CHUNK.c.digest)
        .where(
            ARCHIVE_CHUNK.c.organization_id == chunk.organization_id,
            ARCHIVE_CHUNK.c.id == chunk.id,
        )
        .with_for_update()
    ).scalar_one_or_none()
    if found != chunk.digest:
        raise Conflict(detail=N_("The archive changed a moment ago; please try again"))


def _sources(session: Session, organization_id: str, found: Sequence[dict[str, Any]]) -> set[str]:
    wanted = {event["source_id"] for event in found if event["source_id"]}
    known = select(SOURCE.c.id).where(
        SOURCE.c.organization_id == organization_id, SOURCE.c.id.in_(wanted)
    )
    return set(session.execute(known).scalars())


def _row(event: dict[str, Any], sources: set[str], now: datetime) -> dict[str, Any]:
    kept = {column.name: event.get(column.name) for column in EVENT.c}
    return kept | {
        "created_at": now,
        "source_id": event["source_id"] if event["source_id"] in sources else None,
        "state": "new",
        "problem": None,
        "replay_nonce": new_id("rpl"),
        "failure_count": 0,
        "next_at": None,
    }
