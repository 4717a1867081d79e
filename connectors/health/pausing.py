"""Pausing a connection: nothing goes out over it until it is resumed, and nothing is lost."""

from sqlalchemy import update
from sqlmodel import Session

from connectors import connections
from connectors.engine.findings import say
from connectors.errors import NotNow
from connectors.tables import RUN, Connection
from kernel import queue
from kernel.database import store_now
from kernel.errors import N_

LOOK_SECONDS = 600.0  # how often a run that waits looks whether it may go on, besides being told
PAUSED = say(
    "连接已暂停，恢复后会自动继续", "The connection is paused; the run goes on once it is resumed"
)


def pause(session: Session, organization_id: str, connection_id: str) -> Connection:
    """Let nothing go out over a connection."""
    connection = connections.find(session, organization_id, connection_id)
    if connection.state == "revoked":
        raise NotNow(N_("This connection was disconnected"))
    connection.paused_at = connection.paused_at or store_now(session)
    session.add(connection)
    return connection


def resume(session: Session, organization_id: str, connection_id: str) -> Connection:
    """Let calls go out again; runs that waited go on at once."""
    connection = connections.find(session, organization_id, connection_id)
    connection.paused_at = None
    session.add(connection)
    session.execute(
        update(RUN)
        .where(
            RUN.c.organization_id == organization_id,
            RUN.c.lane == connection_id,
            RUN.c.state == "waiting",
            RUN.c.cause == "paused",
            RUN.c.next_at.is_not(None),
        )
        .values(next_at=store_now(session))
    )
    queue.nudge(session, "webhooks.drain")
    return connection
