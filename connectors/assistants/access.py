"""Access: what an assistant may do over a connection; its owner says so, and nothing is given."""

from sqlmodel import Session

from connectors import connections
from connectors.errors import Unfit, finding
from connectors.tables import Connection

NONE, READ, ASK, ACT = "none", "read", "ask", "act"
LEVELS = (NONE, READ, ASK, ACT)


def give(session: Session, organization_id: str, connection_id: str, level: str) -> Connection:
    """Say what assistants may do over a connection; raises NotFound and Unfit."""
    connection = connections.find(session, organization_id, connection_id)
    if level not in LEVELS:
        raise Unfit([finding("/level", "请选择列出的一项", "Choose one of the list")])
    connection.assistant_access = level
    session.add(connection)
    return connection


def may_write(connection: Connection) -> bool:
    """Tell whether an assistant may ask for changes."""
    return connection.assistant_access in (ASK, ACT)
