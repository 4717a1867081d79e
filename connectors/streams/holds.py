"""Holds: streams are switched on and off, and taken by one process at a time under a lease."""

import random
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import select, text
from sqlmodel import Session

from connectors import connections
from connectors.engine import loader
from connectors.errors import Unfit, finding
from connectors.streams.frames import ID_HEADER
from connectors.streams.tables import HELD_STREAM, HeldStream
from connectors.tables import Connection
from identity import suspensions
from kernel import tenancy
from kernel.database import store_now
from webhooks import sources
from webhooks.tables import SOURCE, Source

LEASE = timedelta(seconds=60)
PAUSES = (3, 10, 30, 60, 300)  # seconds before the next try, the last one for ever


def find(session: Session, organization_id: str, connection_id: str) -> HeldStream | None:
    """Return the stream of a connection that is switched on; None when there is none."""
    return session.execute(
        HeldStream.of(organization_id).where(
            HELD_STREAM.c.connection_id == connection_id, HELD_STREAM.c.state != "off"
        )
    ).scalar_one_or_none()


def start(session: Session, organization_id: str, connection_id: str) -> HeldStream:
    """Listen to a connection's app from now on. Raises NotFound, and Unfit where there is none."""
    connection = connections.find(session, organization_id, connection_id)
    connector = loader.library().get(connection.connector_key)
    if connector is None or connector.stream is None or connection.state == "revoked":
        words = ("这个应用没有这种接收方式", "This app does not send over a stream")
        raise Unfit([finding("/stream", *words)])
    known = find(session, organization_id, connection_id)
    if known is not None:
        return known
    source = _source(session, connection)
    session.flush()
    row = session.get(HeldStream, (organization_id, source.id)) or HeldStream(
        organization_id=organization_id,
        id=source.id,
        connection_id=connection_id,
        next_at=store_now(session),
    )
    row.state, row.next_at = "waiting", store_now(session)
    row.failure_count, row.problem = 0, None
    session.add(row)
    session.flush()
    return row


def _source(session: Session, connection: Connection) -> Source:
    found = session.execute(
        select(Source).where(
            SOURCE.c.organization_id == connection.organization_id,
            SOURCE.c.connection_id == connection.id,
            SOURCE.c.trigger_key == "stream",
            SOURCE.c.state != "closed",
        )
    ).scalars()
    known: Source | None = next(iter(found), None)
    if known is not None:
        return known
    return sources.create(
        session,
        connection.organization_id,
        name=f"{connection.name} · Stream",
        scheme=sources.POLL,
        scheme_options={"id_header": ID_HEADER},
        rules={"from": "pointer", "value": "/type", "data_pointer": "/data"},
        connection_id=connection.id,
        connector_key=connection.connector_key,
        trigger_key="stream",
    )


def stop(session: Session, organization_id: str, connection_id: str) -> None:
    """Listen no more; what came in stays, and whoever holds it hangs up within seconds.

    Raises NotFound for a connection that is not the organization's.
    """
    connections.find(session, organization_id, connection_id)
    row = find(session, organization_id, connection_id)
    if row is not None:
        row.state, row.lease_owner = "off", None
        row.lease_epoch += 1


def due(session: Session) -> Any:
    """Match the streams that somebody may take now; a lease that ran out is due again."""
    return (
        text("state != 'off'"),  # as the partial index has it
        HELD_STREAM.c.next_at <= store_now(session),
        HELD_STREAM.c.organization_id.not_in(suspensions.suspended_ids()),
    )


def claim(session: Session, worker_id: str) -> HeldStream | None:
    """Take a stream that nobody holds; None when there is none."""
    row: HeldStream | None = session.execute(
        select(HeldStream)
        .where(*due(session))
        .order_by(HELD_STREAM.c.next_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    ).scalar_one_or_none()
    if row is None:
        return None
    row.state, row.lease_owner, row.lease_epoch = "held", worker_id, row.lease_epoch + 1
    row.next_at = store_now(session) + LEASE
    session.flush()
    return row


def _held(session: Session, row: HeldStream) -> HeldStream | None:
    statement = (
        HeldStream.of(row.organization_id)
        .where(
            HELD_STREAM.c.id == row.id,
            HELD_STREAM.c.state == "held",
            HELD_STREAM.c.lease_owner == row.lease_owner,
            HELD_STREAM.c.lease_epoch == row.lease_epoch,
        )
        .with_for_update()
    )
    return session.execute(statement).scalar_one_or_none()


def renew(session: Session, row: HeldStream, messages: int, *, is_new: bool) -> bool:
    """Hold on for another while, and note how it goes; False when somebody else holds it."""
    mine = _held(session, row)
    if mine is None:
        return False
    now = store_now(session)
    mine.next_at = now + LEASE
    mine.message_count += messages
    mine.last_at = now if messages else mine.last_at
    if is_new:
        mine.connected_at, mine.failure_count, mine.problem = now, 0, None
    return True


def let_go(
    session: Session, row: HeldStream, messages: int, problem: Mapping[str, Any] | None
) -> None:
    """Hold it no more: after trouble it waits longer each time, and never all at the same time."""
    mine = _held(session, row)
    if mine is None:
        return
    mine.message_count += messages
    mine.state, mine.lease_owner, mine.connected_at = "waiting", None, None
    pause = 0.0
    if problem is not None:
        step = PAUSES[min(mine.failure_count, len(PAUSES) - 1)]
        pause = step * (1 + random.random() / 2)  # noqa: S311 - spreads load, no secret
        mine.failure_count += 1
        mine.problem = dict(problem)
    mine.next_at = store_now(session) + timedelta(seconds=pause)


def release(session: Session, worker_id: str) -> int:
    """Take back what a worker held that is known to be gone."""
    held = select(HeldStream).where(
        HELD_STREAM.c.state == "held", HELD_STREAM.c.lease_owner == worker_id
    )
    count = 0
    for row in session.execute(held).scalars():
        row.state, row.lease_owner, row.next_at = "waiting", None, store_now(session)
        count += 1
    return count


def of_row(session: Session, row: HeldStream) -> HeldStream:
    """Return a stream as it stands now."""
    return tenancy.find(session, HeldStream, row.organization_id, row.id)
