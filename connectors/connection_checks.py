"""Testing a connection: one cheap call that proves the credentials, outside any transaction."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session

from connectors import connections, masking, tokens
from connectors.budgets import taking
from connectors.connections import Open
from connectors.engine import answers, requests
from connectors.engine.answers import Answer
from connectors.health import counts
from connectors.tables import Connection
from connectors.transports import sending
from kernel import clock
from kernel.database import reading, transaction

STEP = "test"


@dataclass(frozen=True)
class Tried:
    """What a test found: what is wrong, if anything, and whose account it is, if the app told."""

    problem: Mapping[str, Any] | None = None
    account: Mapping[str, str] | None = None


def test(organization_id: str, connection_id: str) -> Connection:
    """Try the connection and record what came out; call it outside a transaction.

    A good test clears the connection's trouble and wakes the runs that waited for it. Raises
    NotFound.
    """
    with reading(organization_id) as session:
        opened = connections.open_connection(
            connections.find(session, organization_id, connection_id)
        )
    tried = Tried() if opened.connection.state == "revoked" else attempt(opened)
    with transaction(organization_id) as session:
        connection = connections.find(session, organization_id, connection_id)
        if connection.state != "revoked":
            connections.record_check(session, connection, tried.problem, clock.now())
            if connection.account is None and tried.account:
                connection.account = dict(tried.account)
        return connection


def has_test(connection: Connection) -> bool:
    """Tell whether the connector describes a call that proves the credentials."""
    return STEP in connections.open_connection(connection).connector.lifecycle


def attempt(opened: Open) -> Tried:
    """Call the app as a connection would, and write nothing down but a token it may bring."""
    ready = tokens.ensure(opened)
    if isinstance(ready, tokens.NoToken):
        return Tried(problem_of(ready.answer, ready.secrets))
    if STEP not in ready.connector.lifecycle:
        return Tried()
    answer = call(ready)
    if answer.kind == "reauth" and tokens.has_token(ready):
        renewed = tokens.ensure(ready, stale=True)
        if isinstance(renewed, tokens.NoToken):
            return Tried(problem_of(renewed.answer, renewed.secrets))
        ready = renewed
        answer = call(ready)
    return Tried(problem_of(answer, ready.secrets), account_in(answer))


def account_in(answer: Answer) -> dict[str, str] | None:
    """Return whose account a good answer names, {id, name}."""
    said = answer.output.get("account") if isinstance(answer.output, dict) else None
    if answer.kind != "ok" or not isinstance(said, str | int) or isinstance(said, bool):
        return None
    text = str(said)[:200]
    return {"id": text, "name": text} if text else None


def call(ready: Open, *, is_counted: bool = True) -> Answer:
    """Make the call that proves the credentials, as far as the manifest has one."""
    try:
        request = requests.build_lifecycle(
            ready.connector, STEP, ready.values, {"organization": {}, "installation": {}}
        )
    except requests.CannotBuild as cannot:
        return Answer(kind="fail", cause=cannot.cause, say=cannot.say)
    taking.charge(ready, waits=False)
    outcome = sending.send(request)
    answer = answers.read_lifecycle(ready.connector, STEP, outcome)
    if is_counted:
        counts.note(ready, answer, outcome)
    return answer


def problem_of(answer: Answer, secrets: tuple[str, ...]) -> Mapping[str, Any] | None:
    """Say what an answer means for a connection, None when it is good."""
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
