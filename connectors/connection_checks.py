"""Testing a connection: one cheap call that proves the credentials, outside any transaction."""

from collections.abc import Mapping
from typing import Any

from sqlmodel import Session

from connectors import connections, masking, tokens
from connectors.connections import Open
from connectors.engine import answers, requests
from connectors.engine.answers import Answer
from connectors.tables import Connection
from connectors.transports import sending
from kernel import clock
from kernel.database import reading, transaction

STEP = "test"


def test(organization_id: str, connection_id: str) -> Connection:
    """Try the connection and record what came out; call it outside a transaction.

    A good test clears the connection's trouble and wakes the runs that waited for it. Raises
    NotFound.
    """
    with reading(organization_id) as session:
        opened = connections.open_connection(
            connections.find(session, organization_id, connection_id)
        )
    problem = None if opened.connection.state == "revoked" else _try(opened)
    with transaction(organization_id) as session:
        connection = connections.find(session, organization_id, connection_id)
        if connection.state != "revoked":
            connections.record_check(session, connection, problem, clock.now())
        return connection


def has_test(connection: Connection) -> bool:
    """Tell whether the connector describes a call that proves the credentials."""
    return STEP in connections.open_connection(connection).connector.lifecycle


def _try(opened: Open) -> Mapping[str, Any] | None:
    ready = tokens.ensure(opened)
    if isinstance(ready, tokens.NoToken):
        return _problem(ready.answer, ready.secrets)
    if STEP not in ready.connector.lifecycle:
        return None
    answer = _call(ready)
    if isinstance(answer, Answer) and answer.kind == "reauth" and tokens.has_token(ready):
        renewed = tokens.ensure(ready, stale=True)
        if isinstance(renewed, tokens.NoToken):
            return _problem(renewed.answer, renewed.secrets)
        ready = renewed
        answer = _call(ready)
    return _problem(answer, ready.secrets)


def _call(ready: Open) -> Answer:
    try:
        request = requests.build_lifecycle(
            ready.connector, STEP, ready.values, {"organization": {}, "installation": {}}
        )
    except requests.CannotBuild as cannot:
        return Answer(kind="fail", cause=cannot.cause, say=cannot.say)
    return answers.read_lifecycle(ready.connector, STEP, sending.send(request))


def _problem(answer: Answer, secrets: tuple[str, ...]) -> Mapping[str, Any] | None:
    if answer.kind == "ok":
        return None
    cause = "auth" if answer.kind == "reauth" else answer.cause
    # an app may quote what it was given
    said = {"say": dict(answer.say or {}), "detail": answer.detail or None}
    kept: Mapping[str, Any] = {"cause": cause, **masking.keep(said, secrets)}
    return kept


def address_of(session: Session, organization_id: str, connection_id: str | None) -> str | None:
    """Return the app's own address, where a connection names one that a browser can open."""
    connection = session.get(Connection, (organization_id, connection_id or ""))
    known = (connection.settings or {}) if connection else {}
    found = str(known.get("base_url") or known.get("url") or "")
    return found if found.startswith(("https://", "http://")) else None
