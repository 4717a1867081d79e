"""Counts of what became of calls, in memory first; once in a while they are written by the hour.

A process that is killed takes the last seconds' counts with it, never a call.
"""

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import delete, select
from sqlmodel import Session

from connectors.connections import Open
from connectors.engine.answers import Answer
from connectors.health.tables import CONNECTION_HOUR, ConnectionHour
from kernel import clock, http
from kernel.database import write
from kernel.rows import insert_ignore

KEPT = timedelta(days=31)
Key = tuple[str, str, int]  # organization, connection, hour since 1970


@dataclass(slots=True)
class Count:
    """What one process has seen of a connection in one hour, since it last wrote it down."""

    ok: int = 0
    failed: int = 0
    refused: int = 0
    waited: int = 0
    causes: dict[str, int] = field(default_factory=dict)
    elapsed_ms: int = 0
    slowest_ms: int = 0
    last_ok_at: datetime | None = None
    last_failed_at: datetime | None = None
    last_problem: dict[str, Any] | None = None


_pending: dict[Key, Count] = {}
_lock = threading.Lock()


def _forget() -> None:
    """Leave to the parent what it has counted."""
    global _lock
    _lock = threading.Lock()
    _pending.clear()


os.register_at_fork(after_in_child=_forget)


def _count_of(opened: Open, now: datetime) -> Count:
    row = opened.connection
    key = (row.organization_id, row.id, int(now.timestamp() // 3600))
    return _pending.setdefault(key, Count())


def note(opened: Open, answer: Answer, outcome: http.Response | http.Failure | None) -> None:
    """Count what became of one call."""
    now = clock.now()
    with _lock:
        count = _count_of(opened, now)
        if isinstance(outcome, http.Response):
            count.elapsed_ms += outcome.elapsed_ms
            count.slowest_ms = max(count.slowest_ms, outcome.elapsed_ms)
        if answer.kind == "ok":
            count.ok += 1
            count.last_ok_at = now
            return
        cause = answer.cause or ("auth" if answer.kind == "reauth" else "unknown")
        count.failed += 1
        count.refused += cause == "limit"
        count.causes[cause] = count.causes.get(cause, 0) + 1
        count.last_failed_at = now
        count.last_problem = {"cause": cause, "say": dict(answer.say or {})}


def note_waits(opened: Open, calls: int) -> None:
    """Count calls that were held back by a budget."""
    with _lock:
        _count_of(opened, clock.now()).waited += calls


def write_down() -> int:
    """Add what was counted to the hours' rows; returns how many rows."""
    global _pending
    with _lock:
        taken, _pending = _pending, {}
    if not taken:
        return 0
    try:
        write(lambda session: _store(session, taken))
    except Exception:
        _put_back(taken)
        raise
    return len(taken)


def _put_back(taken: Mapping[Key, Count]) -> None:
    with _lock:
        for key, count in taken.items():
            known = _pending.get(key)
            _pending[key] = count if known is None else _sum(known, count)


def _sum(one: Count, other: Count) -> Count:
    latest_ok = [at for at in (one.last_ok_at, other.last_ok_at) if at]
    last = max((one, other), key=lambda c: c.last_failed_at or datetime.min.replace(tzinfo=UTC))
    return Count(
        one.ok + other.ok,
        one.failed + other.failed,
        one.refused + other.refused,
        one.waited + other.waited,
        {
            cause: one.causes.get(cause, 0) + other.causes.get(cause, 0)
            for cause in one.causes.keys() | other.causes.keys()
        },
        one.elapsed_ms + other.elapsed_ms,
        max(one.slowest_ms, other.slowest_ms),
        max(latest_ok, default=None),
        last.last_failed_at,
        last.last_problem,
    )


def _store(session: Session, taken: Mapping[Key, Count]) -> None:
    """Add to each row under its lock, in one order, so that two processes never lock up."""
    for (organization_id, connection_id, hour), count in sorted(taken.items(), key=lambda t: t[0]):
        row_id = f"{hour:07d} {connection_id}"[:40]
        at = datetime.fromtimestamp(hour * 3600, UTC)
        new = {
            "organization_id": organization_id,
            "id": row_id,
            "created_at": clock.now(),
            "connection_id": connection_id,
            "hour": at,
            **{name: getattr(count, name) for name in Count.__slots__},
        }
        if insert_ignore(session, ConnectionHour, [new], ("organization_id", "id")):
            continue
        row: ConnectionHour = session.execute(
            select(ConnectionHour)
            .where(
                CONNECTION_HOUR.c.organization_id == organization_id,
                CONNECTION_HOUR.c.id == row_id,
            )
            .with_for_update()
        ).scalar_one()
        known = Count(**{name: getattr(row, name) for name in Count.__slots__})
        whole = _sum(known, count)
        for name in Count.__slots__:
            setattr(row, name, getattr(whole, name))
        session.add(row)


def hours(
    session: Session, organization_id: str, connection_id: str, since: datetime
) -> list[ConnectionHour]:
    """Return a connection's hours since a moment, the oldest first."""
    statement = ConnectionHour.of(organization_id).where(
        CONNECTION_HOUR.c.connection_id == connection_id, CONNECTION_HOUR.c.hour >= since
    )
    return list(session.execute(statement.order_by(CONNECTION_HOUR.c.hour)).scalars())


def forget_old(session: Session) -> int:
    """Drop the hours of every organization that nobody looks at any more."""
    old = delete(CONNECTION_HOUR).where(CONNECTION_HOUR.c.hour < clock.now() - KEPT)
    return int(session.connection().execute(old).rowcount)


FLUSH_SECONDS, FORGET_SECONDS = 5.0, 3600.0
_written_at = _forgotten_at = float("-inf")


def sweep() -> int:
    """Write down what was counted here, and drop what is old; returns how many rows."""
    global _written_at, _forgotten_at
    now = time.monotonic()
    if now - _written_at < FLUSH_SECONDS:
        return 0
    _written_at = now
    count = write_down()
    if now - _forgotten_at > FORGET_SECONDS:
        _forgotten_at = now
        write(forget_old)
    return count
