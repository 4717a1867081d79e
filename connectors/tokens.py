"""Access tokens of connections: however many workers need one, one of them asks for it.

Runs outside transactions. The lease is a column of the connection; whoever takes it reads the
row again first, because somebody may just have brought a fresh token.
"""

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import or_, update
from sqlmodel import Session, col

from connectors import connections
from connectors.connections import Open
from connectors.engine import answers, requests
from connectors.engine.answers import Answer
from connectors.tables import Connection
from kernel import clock, http, ids
from kernel.database import reading, store_now, write

LEASE_SECONDS = 30
PATIENCE_SECONDS = 12
LOOK_SECONDS = 0.05
MARGIN_SECONDS = 60

_locks: dict[str, threading.Lock] = {}
_guard = threading.Lock()


@dataclass(frozen=True)
class NoToken:
    """A token could not be had; the answer says what to do with the calls that need it."""

    answer: Answer
    outcome: http.Response | http.Failure
    secrets: tuple[str, ...]


def has_token(connection: Open) -> bool:
    """Tell whether this way of signing in works with a token that expires."""
    way = connection.connector.auth_by_id(connection.values.auth)
    return way is not None and way.token is not None


def ensure(connection: Open, *, stale: bool = False) -> Open | NoToken:
    """Return the connection with a token that should work; `stale` = the one it has does not."""
    if not has_token(connection):
        return connection
    refused = _access(connection) if stale else None
    if not stale and _is_fresh(connection, clock.now()):
        return connection
    with _lock_of(connection.connection.id):
        return _ensure(connection, refused)


def _ensure(connection: Open, refused: str | None) -> Open | NoToken:
    row = connection.connection
    owner = ids.new_id("tkn")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        current = _reread(row.organization_id, row.id)
        if _is_fresh(current, clock.now()) and _access(current) != refused:
            return current
        if write(partial(_take_lease, connection=current, owner=owner)):
            # between the look and the lease another worker may have brought one
            current = _reread(row.organization_id, row.id)
            if _is_fresh(current, clock.now()) and _access(current) != refused:
                write(partial(_release, connection=current, owner=owner))
                return current
            return _ask(current, owner)
        if time.monotonic() > deadline:
            return NoToken(_BUSY, http.Failure("timeout", "token"), connection.secrets)
        time.sleep(LOOK_SECONDS)


def _ask(connection: Open, owner: str) -> Open | NoToken:
    request = requests.build_token(connection.connector, connection.values)
    if request is None:
        return connection
    outcome = http.send(request)
    answer = answers.read_token(connection.connector, outcome)
    if answer.kind != "ok":
        write(lambda session: _release(session, connection, owner))
        # a refused sign-in at the token's door is not cured by asking again
        kind = "fail" if answer.kind == "reauth" else answer.kind
        return NoToken(replace(answer, kind=kind), outcome, connection.secrets)
    expires_at = clock.now() + timedelta(seconds=int(answer.output["expires_in_seconds"]))
    token = {"access": str(answer.output["access"])}
    write(lambda session: _store(session, connection, owner, token, expires_at))
    return _reread(connection.connection.organization_id, connection.connection.id)


def _take_lease(session: Session, connection: Open, owner: str) -> bool:
    now = store_now(session)
    taken = session.execute(
        _one(connection)
        .where(
            or_(
                col(Connection.token_lease_until).is_(None),
                col(Connection.token_lease_until) < now,
            )
        )
        .values(token_lease_owner=owner, token_lease_until=now + timedelta(seconds=LEASE_SECONDS))
    )
    return bool(taken.rowcount == 1)  # type: ignore[attr-defined]


def _release(session: Session, connection: Open, owner: str) -> None:
    session.execute(
        _one(connection)
        .where(col(Connection.token_lease_owner) == owner)
        .values(token_lease_owner=None, token_lease_until=None)
    )


def _store(
    session: Session,
    connection: Open,
    owner: str,
    token: Mapping[str, Any],
    expires_at: datetime,
) -> None:
    session.execute(
        _one(connection)
        .where(col(Connection.token_lease_owner) == owner)
        .values(
            token_sealed=connections.seal(connection.connection, "token_sealed", token),
            token_expires_at=expires_at,
            token_lease_owner=None,
            token_lease_until=None,
        )
    )


def _one(connection: Open) -> Any:
    row = connection.connection
    return (
        update(Connection)
        .where(
            col(Connection.organization_id) == row.organization_id,
            col(Connection.id) == row.id,
        )
        .execution_options(synchronize_session=False)
    )


def _reread(organization_id: str, connection_id: str) -> Open:
    with reading(organization_id) as session:
        return connections.open_connection(
            connections.find(session, organization_id, connection_id)
        )


def _access(connection: Open) -> str | None:
    token = connection.values.token
    return str(token["access"]) if token and token.get("access") else None


def _is_fresh(connection: Open, now: datetime) -> bool:
    expires_at = connection.connection.token_expires_at
    if _access(connection) is None:
        return False
    return expires_at is None or expires_at > now + timedelta(seconds=MARGIN_SECONDS)


def _lock_of(connection_id: str) -> threading.Lock:
    """Let the threads of one process queue up without asking the database each."""
    with _guard:
        return _locks.setdefault(connection_id, threading.Lock())


def _forget() -> None:
    """Drop the parent's locks after a fork; they may be held by threads that are not there."""
    global _guard
    _guard = threading.Lock()
    _locks.clear()


os.register_at_fork(after_in_child=_forget)

_BUSY = Answer(
    kind="retry",
    output=None,
    after_seconds=5,
    cause="auth",
    say={
        "zh": "正在向对方换取新的访问令牌，稍后自动重试",
        "en": "A new access token is being fetched; the call will be tried again shortly",
    },
    detail="",
    is_duplicate=False,
)
