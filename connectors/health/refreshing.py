"""Refreshing: consents' tokens are renewed ahead of time, so that none dies of not being used.

A renewal that fails is tried again, later each time; after four days somebody is asked to act. A
refusal that the app means for good asks at once.
"""

from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import select, text, update
from sqlmodel import Session

from connectors import connection_checks, connections, tokens
from connectors.engine.findings import Say, say
from connectors.tables import CONNECTION, Connection
from kernel import clock, log
from kernel.database import EVERY, StoreUnavailable, reading, store_now, write
from kernel.errors import Problem

COOLDOWN = timedelta(seconds=60)
LADDER = (60, 300, 1_800, 7_200, 21_600)  # seconds until the next try
GIVE_UP = timedelta(days=4)
AT_ONCE = 10
EXHAUSTED: Say = say(
    "四天里一直无法续期。请有“管理连接”权限的同事打开这个连接重新登录，或发送重新连接的链接",
    "It could not be renewed for four days. Somebody who may manage connections must sign in again "
    "on this page, or send a link to reconnect",
)
_logger = log.get_logger(__name__)


def sweep() -> int:
    """Renew what is due; returns how many were tried. Calls apps: outside a transaction."""
    count = 0
    for organization_id, connection_id in write(_claim) if _is_any_due() else ():
        try:
            renew(organization_id, connection_id)
        except StoreUnavailable:
            return count
        except Exception:  # one connection's trouble must not stop the others
            _logger.exception("refresh_failed", connection=connection_id)
        count += 1
    return count


def _is_any_due() -> bool:
    with reading(EVERY) as session:
        due = select(CONNECTION.c.id).where(*_due(store_now(session))).limit(1)
        return session.execute(due).first() is not None


def _due(now: datetime) -> tuple[Any, ...]:
    return (
        text("connection.refresh_at IS NOT NULL"),  # word for word as the partial index has it
        CONNECTION.c.refresh_at <= now,
        CONNECTION.c.state == "ready",
        CONNECTION.c.paused_at.is_(None),
    )


def _claim(session: Session) -> list[tuple[str, str]]:
    """Take what is due, so that no other process does; whoever dies leaves it for a minute."""
    now = store_now(session)
    wanted = select(CONNECTION.c.organization_id, CONNECTION.c.id).where(*_due(now))
    rows = session.execute(
        wanted.order_by(CONNECTION.c.refresh_at).limit(AT_ONCE).with_for_update(skip_locked=True)
    )
    mine = [(row[0], row[1]) for row in rows]
    for organization_id, connection_id in mine:
        session.execute(
            update(CONNECTION)
            .where(
                CONNECTION.c.organization_id == organization_id, CONNECTION.c.id == connection_id
            )
            .values(refresh_at=now + COOLDOWN)
        )
    return mine


def renew(organization_id: str, connection_id: str) -> bool:
    """Renew a connection's token now; True when there is a fresh one."""
    with reading(organization_id) as session:
        found = connections.find(session, organization_id, connection_id)
        opened = connections.open_connection(found)
    if not opened.is_usable or not opened.values.token:
        write(partial(_stop, key=(organization_id, connection_id)), organization_id)
        return False
    try:
        ready = tokens.ensure(opened, stale=True)
    except StoreUnavailable:
        raise  # it is due again in a while
    except Problem:
        write(partial(_stop, key=(organization_id, connection_id)), organization_id)
        return False
    if not isinstance(ready, tokens.NoToken):
        return True
    write(partial(_note_failure, key=(organization_id, connection_id), lost=ready), organization_id)
    return False


def _stop(session: Session, key: tuple[str, str]) -> None:
    connection = session.get(Connection, key, with_for_update=True)
    if connection is not None:
        connection.refresh_at = None
        session.add(connection)


def _note_failure(session: Session, key: tuple[str, str], lost: tokens.NoToken) -> None:
    connection = session.get(Connection, key, with_for_update=True)
    if connection is None or connection.state == "revoked":
        return
    now = store_now(session)
    if lost.is_busy or lost.wait is not None:
        seconds = lost.wait.seconds if lost.wait else COOLDOWN.total_seconds()
        connection.refresh_at = now + timedelta(seconds=max(1.0, seconds))
        session.add(connection)
        return
    problem = dict(connection_checks.problem_of(lost.answer, lost.secrets) or {})
    connection.refresh_failures += 1
    connection.refresh_failed_at = connection.refresh_failed_at or now
    is_over = now - connection.refresh_failed_at >= GIVE_UP
    if lost.answer.kind == "fail" or is_over:
        connection.refresh_at = None
        if is_over and lost.answer.kind != "fail":
            problem |= {"cause": "auth", "say": dict(EXHAUSTED)}
        connections.record_check(session, connection, problem, clock.now())
        return
    step = min(connection.refresh_failures, len(LADDER)) - 1
    connection.refresh_at = now + timedelta(seconds=LADDER[step])
    session.add(connection)
