"""Ties: which connection a source that was opened by hand brings the events of.

A flow may listen to one connection alone; it hears what comes in over sources tied to it.
"""

from sqlalchemy import select
from sqlmodel import Session, col

from connectors import connections
from connectors.errors import Unfit, finding
from connectors.tables import Connection, Flow
from kernel.errors import N_, Conflict
from webhooks import sources
from webhooks.tables import SOURCE, Source


def choices(session: Session, source: Source) -> list[Connection]:
    """Return the connections that a source may be tied to, the newest first."""
    return connections.all_of(session, source.organization_id, source.connector_key)


def tie(
    session: Session, organization_id: str, source_id: str, connection_id: str | None
) -> Source:
    """Tie a source to a connection of the same app, or to none.

    Raises NotFound, Conflict for a closed or polled source, Unfit for a connection that does not
    fit. Runs that are under way stay as they are.
    """
    source = sources.get(session, organization_id, source_id)
    if source.state == "closed" or source.scheme == sources.POLL:
        raise Conflict(
            detail=N_("This source is closed, or it belongs to the connection that is asked")
        )
    if connection_id is not None:
        connection = session.get(Connection, (organization_id, connection_id))
        other = source.connector_key
        if (
            connection is None
            or connection.state == "revoked"
            or (other is not None and connection.connector_key != other)
        ):
            words = ("请选择同一应用的一个连接", "Choose a connection to the same app")
            raise Unfit([finding("/connection_id", *words)])
    source.connection_id = connection_id
    session.add(source)
    return source


def listening(session: Session, organization_id: str, connection_id: str) -> list[Flow]:
    """Return the flows that are on and listen to this connection alone."""
    statement = Flow.of(organization_id).where(
        col(Flow.listens_connection_id) == connection_id,
        col(Flow.state) == "active",
        col(Flow.deleted_at).is_(None),
    )
    return list(session.execute(statement.order_by(col(Flow.id))).scalars())


def unheard(session: Session, organization_id: str, connection_id: str) -> list[Flow]:
    """Return the flows that listen to a connection which no source brings events of."""
    opened = select(SOURCE.c.id).where(
        SOURCE.c.organization_id == organization_id,
        SOURCE.c.connection_id == connection_id,
        SOURCE.c.state != "closed",
    )
    if session.execute(opened.limit(1)).first() is not None:
        return []
    return listening(session, organization_id, connection_id)
