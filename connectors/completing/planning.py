"""Which events are completed: a row for each, written with the event's own routing."""

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import select
from sqlmodel import Session, col

from connectors.completing.tables import COMPLETION
from connectors.engine import loader, thin
from connectors.engine.connector import Trigger
from connectors.keys import among
from kernel import ids
from kernel.database import store_now
from kernel.rows import Rows
from webhooks.fan_out import Planned, Routed
from webhooks.ready import ReadyEvent
from webhooks.tables import Source


@cache
def watched() -> Mapping[str, Mapping[str, Trigger]]:
    """Return the triggers whose events are completed: connector → event type → trigger."""
    found: dict[str, dict[str, Trigger]] = {}
    for connector in loader.library().values():
        for trigger in connector.triggers.values():
            if "*" not in trigger.event and thin.is_completed(connector, trigger):
                found.setdefault(connector.key, {})[trigger.event] = trigger
    return found


@cache
def _types() -> frozenset[str]:
    return frozenset(name for types in watched().values() for name in types)


def plan(session: Session, events: Sequence[ReadyEvent], routed: Routed) -> Planned | None:  # noqa: ARG001
    """Plan a completion for each event of a type that is completed; others cost no statement."""
    thin_ones = [one for one in events if one.source_id and one.type in _types()]
    if not thin_ones:
        return None
    sources = _sources(session, thin_ones)
    now = store_now(session)
    rows = []
    for event in thin_ones:
        source = sources.get((event.organization_id, event.source_id or ""))
        trigger = watched().get(source.connector_key, {}).get(event.type) if source else None
        if source is not None and trigger is not None:
            rows.append(_row(event, source, trigger, now))

    def settle(inserted: Collection[str], routed: Routed) -> None:
        routed.is_rest_due |= any(row["id"] in inserted for row in rows)

    return Planned(Rows(COMPLETION, rows, ("organization_id", "event_id"), of="event_id"), settle)


def _sources(session: Session, events: Sequence[ReadyEvent]) -> dict[tuple[str, str], Any]:
    wanted = sorted({(one.organization_id, one.source_id or "") for one in events})
    statement = select(
        col(Source.organization_id),
        col(Source.id),
        col(Source.connector_key),
        col(Source.connection_id),
    ).where(among(Source, wanted))
    return {(row[0], row[1]): row for row in session.execute(statement)}


def _row(event: ReadyEvent, source: Any, trigger: Trigger, now: Any) -> dict[str, Any]:
    # what is about one thing is completed in its order; what is about nothing waits for nobody
    about = event.subject if event.subject else event.id
    return {
        "organization_id": event.organization_id,
        "id": ids.new_id("cpl"),
        "created_at": now,
        "event_id": event.id,
        "source_id": source.id,
        "connection_id": source.connection_id,
        "connector_key": source.connector_key,
        "trigger_key": trigger.key,
        "lane": f"{source.id}:{about}"[:600],
        "state": "due",
        "next_at": now,
        "attempt_count": 0,
        "crash_count": 0,
        "lease_owner": None,
        "lease_epoch": 0,
        "lease_until": None,
        "problem": None,
        "made": [],
        "finished_at": None,
    }
