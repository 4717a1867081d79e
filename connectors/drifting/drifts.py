"""Drifts: how an app departs from its connector, counted, bounded, and told once a day."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from sqlalchemy import delete, select, update
from sqlmodel import Session, col

from connectors import connections
from connectors.drifting import watching
from connectors.drifting.tables import DRIFT, Drift, DriftReport
from connectors.drifting.watching import Passing, Seen
from connectors.engine import check_manifest, departures, loader, triggers
from connectors.engine.connector import Connector
from connectors.tables import Connection
from kernel import documents, ids, outbox
from kernel.database import EVERY, reading, store_now, write
from kernel.errors import Problem
from webhooks.tables import Source

MOST_ROWS = 200  # of one connection; what was seen longest ago leaves first
NEWS = "connection.drifted"
TELL_AGAIN = timedelta(days=1)


def sweep() -> int:
    """Write down what was noticed since the last time and return how many departures it was."""
    noted, passing = watching.take()
    if passing:
        noted += _looked_at(passing)
    by_owner: dict[str, list[Seen]] = defaultdict(list)
    for one in noted:
        by_owner[one.organization_id].append(one)
    count = 0
    for organization_id in sorted(by_owner):
        some = by_owner[organization_id]
        count += write(partial(record, organization_id=organization_id, noted=some))
    return count


def _looked_at(passing: Sequence[Passing]) -> list[Seen]:
    """Compare events that passed by with the schemas of their triggers."""
    with reading(EVERY) as session:
        found = [(one, _of_source(session, one)) for one in passing]
    seen = []
    for one, (connection_id, connector) in found:
        trigger = _trigger_of(connector, one.type)
        if connector is None or trigger is None or connection_id is None:
            continue
        schema = check_manifest.schema_of(trigger)
        try:
            value = documents.parse(one.body)
        except Problem:
            continue
        departed = tuple(departures.of(schema, value)) if schema is not None else ()
        if departed:
            seen.append(Seen(one.organization_id, connection_id, "trigger", trigger.key, departed))
    return seen


def _of_source(session: Session, one: Passing) -> tuple[str | None, Connector | None]:
    source = session.get(Source, (one.organization_id, one.source_id))
    if source is None or not source.connector_key:
        return None, None
    return source.connection_id, loader.known(source.connector_key)


def _trigger_of(connector: Connector | None, event_type: str) -> Any:
    """Return the trigger that says most about a type: its own before a family's."""
    if connector is None:
        return None
    own = [one for one in connector.triggers.values() if one.event == event_type]
    family = [one for one in connector.triggers.values() if triggers.matches(one, event_type)]
    return next(iter(own or family), None)


def record(session: Session, organization_id: str, noted: Iterable[Seen]) -> int:
    """Count departures in their rows, and tell the owner of new ones once a day."""
    now, count = store_now(session), 0
    fresh: dict[str, int] = defaultdict(int)
    for (connection_id, part, key), some in _together(noted).items():
        if session.get(Connection, (organization_id, connection_id)) is None:
            continue
        for departure, times in some.values():
            count += times
            place = (part, key, departure.kind, departure.path)
            changed: Any = session.execute(
                update(DRIFT)
                .where(_at(organization_id, connection_id, place))
                .values(count=DRIFT.c.count + times, last_at=now, example=departure.example)
            )
            if not changed.rowcount:
                fresh[connection_id] += 1
                session.add(
                    Drift(
                        organization_id=organization_id,
                        id=ids.new_id("drf"),
                        connection_id=connection_id,
                        part=part,
                        part_key=key,
                        kind=departure.kind,
                        path=departure.path,
                        wanted=departure.wanted,
                        example=departure.example,
                        count=times,
                        first_at=now,
                        last_at=now,
                    )
                )
                session.flush()
    for connection_id, number in sorted(fresh.items()):
        _bound(session, organization_id, connection_id)
        _tell(session, organization_id, connection_id, number)
    return count


def _together(noted: Iterable[Seen]) -> dict[tuple[str, str, str], dict[Any, Any]]:
    found: dict[tuple[str, str, str], dict[Any, Any]] = {}
    for one in noted:
        places = found.setdefault((one.connection_id, one.part, one.part_key), {})
        for departure in one.found:
            key = (departure.kind, departure.path)
            places[key] = (departure, places.get(key, (None, 0))[1] + 1)
    return found


def _at(organization_id: str, connection_id: str, place: tuple[str, str, str, str]) -> Any:
    return (
        (DRIFT.c.organization_id == organization_id)
        & (DRIFT.c.connection_id == connection_id)
        & (DRIFT.c.part == place[0])
        & (DRIFT.c.part_key == place[1])
        & (DRIFT.c.kind == place[2])
        & (DRIFT.c.path == place[3])
    )


def _bound(session: Session, organization_id: str, connection_id: str) -> None:
    """Let what was seen longest ago leave."""
    mine = (DRIFT.c.organization_id == organization_id) & (DRIFT.c.connection_id == connection_id)
    newest = select(DRIFT.c.id).where(mine).order_by(DRIFT.c.last_at.desc(), DRIFT.c.id.desc())
    old = list(session.execute(newest.offset(MOST_ROWS)).scalars())
    if old:
        session.execute(delete(DRIFT).where(mine, DRIFT.c.id.in_(old)))


def _tell(session: Session, organization_id: str, connection_id: str, number: int) -> None:
    """Emit an event about a connection that drifts, at most once a day."""
    now = store_now(session)
    told = session.get(DriftReport, (organization_id, connection_id))
    if told is not None and told.told_at > now - TELL_AGAIN:
        return
    if told is None:
        told = DriftReport(organization_id=organization_id, id=connection_id, told_at=now)
    told.told_at, told.told_count = now, told.told_count + 1
    session.add(told)
    connection = session.get(Connection, (organization_id, connection_id))
    data = {
        "connection_id": connection_id,
        "connector": connection.connector_key if connection else "",
        "name": connection.name if connection else "",
        "new": str(number),
        "at": now.isoformat(),
        "path": f"/connections/{connection_id}#drifts",
    }
    outbox.emit(session, organization_id, NEWS, data, connection_id)


def of_connection(session: Session, organization_id: str, connection_id: str) -> list[Drift]:
    """Return a connection's drifts, the latest first; a stranger's connection is NotFound."""
    connections.find(session, organization_id, connection_id)
    statement = Drift.of(organization_id).where(col(Drift.connection_id) == connection_id)
    return list(session.execute(statement.order_by(DRIFT.c.last_at.desc())).scalars())


def dismiss(session: Session, organization_id: str, connection_id: str) -> int:
    """Forget a connection's drifts, because somebody looked at them; returns how many."""
    connections.find(session, organization_id, connection_id)
    gone: Any = session.execute(
        delete(DRIFT).where(
            DRIFT.c.organization_id == organization_id, DRIFT.c.connection_id == connection_id
        )
    )
    return int(gone.rowcount)
