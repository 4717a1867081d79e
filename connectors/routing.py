"""Routing: which flows listen to an event; each that does gets a run, once."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import select, text
from sqlmodel import Session, col

from connectors.keys import among
from connectors.tables import Flow, Run
from kernel import clock, ids
from kernel.database import insert_ignore, store_now
from webhooks.fan_out import ReadyEvent
from webhooks.tables import Source


def route(session: Session, events: Sequence[ReadyEvent]) -> None:
    """Add a run for every active flow that listens to one of the events.

    Two queries for a whole batch, whatever its size; the same event and nonce never run twice.
    """
    listening = _listening(session, events)
    if not listening:
        return
    origins = _origins(session, events, listening)
    now = store_now(session)
    rows = [
        _run(event, flow, now)
        for event in events
        for flow in listening.get((event.organization_id, event.type), ())
        if hears(flow, event, origins.get((event.organization_id, event.source_id or "")))
    ]
    if rows:
        insert_ignore(
            session, Run, rows, ["organization_id", "flow_id", "event_id", "replay_nonce"]
        )


def hears(flow: Any, event: ReadyEvent, connection_id: str | None) -> bool:
    """Tell whether a flow that listens to the event's type wants this one.

    `connection_id` is the connection whose hook brought the event, if one did.
    """
    if flow.listens_version and event.version and flow.listens_version != event.version:
        return False
    if flow.listens_source_id and flow.listens_source_id != event.source_id:
        return False
    wanted = flow.listens_connection_id
    return not wanted or wanted in (event.origin, connection_id)


def _listening(session: Session, events: Iterable[ReadyEvent]) -> dict[tuple[str, str], list[Any]]:
    wanted = {(event.organization_id, event.type) for event in events}
    statement = select(
        col(Flow.organization_id),
        col(Flow.id),
        col(Flow.published_version),
        col(Flow.lane),
        col(Flow.listens_to),
        col(Flow.listens_version),
        col(Flow.listens_source_id),
        col(Flow.listens_connection_id),
    ).where(
        col(Flow.organization_id).in_(sorted({owner for owner, _ in wanted})),
        col(Flow.listens_to).in_(sorted({name for _, name in wanted})),
        text("state = 'active' AND deleted_at IS NULL"),  # word for word as the partial index
    )
    found: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for flow in session.execute(statement):
        found[flow.organization_id, flow.listens_to].append(flow)
    return found


def _origins(
    session: Session,
    events: Iterable[ReadyEvent],
    listening: dict[tuple[str, str], list[Any]],
) -> dict[tuple[str, str], str]:
    """Return the connection behind each source, read only when a flow asks for one."""
    if not any(flow.listens_connection_id for flows in listening.values() for flow in flows):
        return {}
    sources = sorted({(one.organization_id, one.source_id) for one in events if one.source_id})
    if not sources:
        return {}
    statement = select(
        col(Source.organization_id), col(Source.id), col(Source.connection_id)
    ).where(
        among(Source, sources),
        col(Source.connection_id).is_not(None),
    )
    return {(row[0], row[1]): row[2] for row in session.execute(statement)}


def _run(event: ReadyEvent, flow: Any, now: Any) -> dict[str, Any]:
    return {
        "organization_id": event.organization_id,
        "id": ids.new_id("run"),
        "created_at": clock.now(),
        "flow_id": flow.id,
        "flow_version": flow.published_version,
        "event_id": event.id,
        "event_type": event.type,
        "replay_nonce": event.replay_nonce,
        "effect_nonce": "",
        "state": "due",
        "lane": flow.lane or flow.id,
        "next_step": 0,
        "next_at": now,
        "attempt_count": 0,
        "lease_epoch": 0,
        "crash_count": 0,
    }
