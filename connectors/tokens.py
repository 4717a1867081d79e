"""Access tokens of connections: however many workers need one, one of them asks for it.

Runs outside transactions. The lease is a column of the connection; whoever takes it reads the
row again first, because somebody may just have brought a fresh token.
"""

import math
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import or_, update
from sqlmodel import Session, col

from connectors import connections
from connectors.budgets import taking
from connectors.budgets.taking import Wait
from connectors.connections import Open
from connectors.engine import grants, requests
from connectors.engine.answers import Answer
from connectors.engine.auth import CannotBuild
from connectors.engine.call_budgets import TOKEN
from connectors.engine.connector import Auth, TokenStep
from connectors.engine.grants import Granted
from connectors.tables import Connection
from kernel import clock, http, ids
from kernel.database import reading, store_now, write

LEASE_SECONDS = 30  # for one request; each further one adds what it may take
PATIENCE_SECONDS = 12
LOOK_SECONDS = 0.05
SHORTEST_SECONDS = 60  # a fresh token is used at least so long, or half its life

_locks: dict[str, threading.Lock] = {}
_guard = threading.Lock()


@dataclass(frozen=True)
class NoToken:
    """A token could not be had; the answer says what to do with the calls that need it."""

    answer: Answer
    outcome: http.Response | http.Failure
    secrets: tuple[str, ...]
    wait: Wait | None = None  # the app lets nobody ask for tokens so often

    @property
    def is_busy(self) -> bool:
        """Tell whether somebody else is fetching one right now."""
        return self.answer is _BUSY


def has_token(connection: Open) -> bool:
    """Tell whether this way of signing in works with a token that has to be fetched."""
    way = _way(connection)
    return way is not None and way.has_token


def ensure(connection: Open, *, stale: bool = False) -> Open | NoToken:
    """Return the connection with a token that should work; `stale` = the one it has does not."""
    if not has_token(connection):
        return connection
    refused = _proof(connection) if stale else None
    if not stale and _is_fresh(connection, clock.now()):
        return connection
    with _lock_of(connection.connection.id):
        return _ensure(connection, refused)


def _ensure(connection: Open, refused: Mapping[str, Any] | None) -> Open | NoToken:
    row = connection.connection
    owner = ids.new_id("tkn")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        current = _reread(row.organization_id, row.id)
        if _is_fresh(current, clock.now()) and _proof(current) != refused:
            return current
        if write(partial(_take_lease, connection=current, owner=owner)):
            # between the look and the lease another worker may have brought one
            current = _reread(row.organization_id, row.id)
            if _is_fresh(current, clock.now()) and _proof(current) != refused:
                write(partial(_release, connection=current, owner=owner))
                return current
            return _ask(current, owner)
        if time.monotonic() > deadline:
            return NoToken(_BUSY, http.Failure("timeout", "token"), connection.secrets)
        time.sleep(LOOK_SECONDS)


def _ask(connection: Open, owner: str) -> Open | NoToken:
    way = _way(connection)
    assert way is not None
    steps, kept = requests.token_steps(way), dict[str, str]()
    if way.authorize is not None:
        kept = dict(connection.values.token or {})
        steps = way.refresh
        if not kept or not steps or "refresh" not in kept:
            write(lambda session: _release(session, connection, owner))
            words = NOT_YET if not kept else OVER
            return _lost(connection, Answer("fail", cause="auth", say=words))
    try:
        found = fetch(connection, steps, kept, is_refresh=way.authorize is not None)
    except BaseException:
        write(lambda session: _release(session, connection, owner))
        raise
    if isinstance(found, NoToken):
        write(lambda session: _release(session, connection, owner))
        return found
    write(lambda session: _store(session, connection, owner, found))
    return _reread(connection.connection.organization_id, connection.connection.id)


def fetch(
    connection: Open,
    steps: Sequence[TokenStep],
    kept: Mapping[str, str],
    *,
    is_refresh: bool = False,
) -> Granted | NoToken:
    """Make the requests that lead to a token, one after the other; the earliest end counts.

    `kept` is what the first of them may read: a consent's code, or the token so far.
    """
    texts, ends, grant_ends = dict(kept), list[datetime](), list[datetime]()
    for step in steps:
        try:
            request = requests.build_token(connection.connector, connection.values, step, texts)
        except CannotBuild as cannot:
            return _lost(connection, Answer("fail", cause=cannot.cause, say=cannot.say))
        assert request is not None
        wait = taking.charge(connection, TOKEN)
        if wait is not None:
            return _held(connection, wait)
        outcome = http.send(request)
        answer = grants.read(connection.connector, step, outcome, is_refresh=is_refresh)
        if answer.kind != "ok":
            hidden = tuple(text for text in texts.values() if text)
            return NoToken(answer, outcome, (*connection.secrets, *hidden))
        granted: Granted = answer.output
        texts.update(granted.texts)
        ends += [granted.ends_at] if granted.ends_at else []
        grant_ends += [granted.grant_ends_at] if granted.grant_ends_at else []
    return Granted(texts, min(ends, default=None), min(grant_ends, default=None))


def values_of(connection: Connection, way: Auth, granted: Granted) -> dict[str, Any]:
    """Return the columns that hold a token that was just brought."""
    now, ends = clock.now(), granted.ends_at
    renew = None
    if ends is not None:
        life = (ends - now).total_seconds()
        # a vendor may hand out again what is about to end: do not ask for it at every call
        least = min(SHORTEST_SECONDS, life / 2)
        renew = now + timedelta(seconds=max(life - way.early_seconds, least))
    values: dict[str, Any] = {
        "token_sealed": connections.seal(connection, "token_sealed", granted.texts),
        "token_expires_at": ends,
        "token_renew_at": renew,
    }
    if granted.grant_ends_at is not None:
        values["grant_expires_at"] = granted.grant_ends_at
    if way.authorize is not None:
        # what nobody uses is renewed all the same, before the app forgets it
        alive = timedelta(hours=way.keepalive_hours)
        values["refresh_at"] = now + alive if way.refresh else None
        values |= {"refresh_failures": 0, "refresh_failed_at": None}
    return values


def _held(connection: Open, wait: Wait) -> NoToken:
    seconds = math.ceil(wait.seconds)
    answer = Answer("retry", after_seconds=seconds, cause="limit", say=wait.say)
    return replace(_lost(connection, answer), wait=wait)


def _lost(connection: Open, answer: Answer) -> NoToken:
    return NoToken(answer, http.Failure("invalid_request", "token"), connection.secrets)


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
        .values(token_lease_owner=owner, token_lease_until=now + _lease(connection))
    )
    return bool(taken.rowcount == 1)  # type: ignore[attr-defined]


def _lease(connection: Open) -> timedelta:
    way = _way(connection)
    count = max(1, len(way.refresh or requests.token_steps(way))) if way else 1
    return timedelta(seconds=LEASE_SECONDS + (count - 1) * requests.TOKEN_SECONDS)


def _release(session: Session, connection: Open, owner: str) -> None:
    session.execute(
        _one(connection)
        .where(col(Connection.token_lease_owner) == owner)
        .values(token_lease_owner=None, token_lease_until=None)
    )


def _store(session: Session, connection: Open, owner: str, granted: Granted) -> None:
    way = _way(connection)
    assert way is not None
    session.execute(
        _one(connection)
        .where(col(Connection.token_lease_owner) == owner)
        .values(
            **values_of(connection.connection, way, granted),
            token_lease_owner=None,
            token_lease_until=None,
        )
    )
    if granted.grant_ends_at is not None:
        row = connection.connection
        connections.settle_ends(connections.find(session, row.organization_id, row.id))


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


def _way(connection: Open) -> Auth | None:
    return connection.connector.auth_by_id(connection.values.auth)


def _proof(connection: Open) -> Mapping[str, Any] | None:
    return connection.values.token or None


def _is_fresh(connection: Open, now: datetime) -> bool:
    row = connection.connection
    if _proof(connection) is None:
        return False
    if row.token_renew_at is not None:
        return row.token_renew_at > now
    return row.token_expires_at is None or row.token_expires_at > now + timedelta(
        seconds=SHORTEST_SECONDS
    )


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

NOT_YET = {
    "zh": "还没有在对方应用里授权：请打开这个连接，点“去授权”",
    "en": "Nobody has agreed in the app yet: open this connection and choose “Sign in at the app”",
}
OVER = {
    "zh": "授权已到期，请打开这个连接重新授权",
    "en": "The consent has ended; open this connection and sign in at the app again",
}
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
