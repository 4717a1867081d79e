"""Usage: what came in, went out and ran, counted in memory and kept by the hour.

Whoever counts only adds to a table in this process; once a second webhooks.ledger writes the sums
down. A process that is killed takes its last second's counts with it, never an event.
"""

import os
import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session

from kernel import clock
from webhooks.tables import USAGE

COUNTERS = (
    "admitted", "accepted", "duplicate", "rejected", "routed", "refused_proof", "refused_form",
    "refused_limit", "refused_pause", "delivered", "undelivered", "ran", "stuck",
    "deferred",
)  # fmt: skip
KEPT = timedelta(days=100)

Key = tuple[str, str, int]  # organization, source or "", hour since 1970
Counts = dict[str, int]

_pending: dict[Key, Counts] = {}
_lock = threading.Lock()


def _forget() -> None:
    """Leave to the parent what it has counted."""
    global _lock
    _lock = threading.Lock()
    _pending.clear()


os.register_at_fork(after_in_child=_forget)


def add(organization_id: str, source_id: str | None, /, **counts: int) -> None:
    """Count in memory; a zero costs nothing."""
    key = (organization_id, source_id or "", int(clock.now().timestamp() // 3600))
    with _lock:
        known = _pending.setdefault(key, {})
        for name, count in counts.items():
            if count:
                known[name] = known.get(name, 0) + count


def take() -> dict[Key, Counts]:
    """Take out what was counted since the last time."""
    global _pending
    with _lock:
        taken, _pending = _pending, {}
    return {key: counts for key, counts in taken.items() if any(counts.values())}


def put_back(taken: Mapping[Key, Counts]) -> None:
    """Count again what could not be written down."""
    with _lock:
        for key, counts in taken.items():
            known = _pending.setdefault(key, {})
            for name, count in counts.items():
                known[name] = known.get(name, 0) + count


def store(session: Session, taken: Mapping[Key, Counts]) -> None:
    """Add the counts to their rows, always in one order, so that two processes never lock up."""
    now = clock.now()
    rows = [
        {
            "created_at": now,
            "organization_id": organization_id,
            "id": row_id(hour, source_id),
            "hour": moment(hour),
            "source_id": source_id,
            **{name: counts.get(name, 0) for name in COUNTERS},
        }
        for (organization_id, source_id, hour), counts in sorted(taken.items())
    ]
    if rows:
        connection = session.connection()
        connection.execute(_ADD[connection.dialect.name], rows)


def _adding(insert: Any) -> Any:
    wanted = insert(USAGE)
    return wanted.on_conflict_do_update(
        index_elements=["organization_id", "id"],
        set_={name: USAGE.c[name] + wanted.excluded[name] for name in COUNTERS},
    )


_ADD = {"sqlite": _adding(sqlite.insert), "postgresql": _adding(postgresql.insert)}


def row_id(hour: int, source_id: str) -> str:
    """Name an hour's row; ids sort by hour."""
    return f"{hour:07d} {source_id}"


def moment(hour: int) -> datetime:
    """Return when an hour since 1970 began."""
    return datetime.fromtimestamp(hour * 3600, UTC)


def totals(
    session: Session, organization_id: str, since: datetime, source_id: str | None = None
) -> dict[datetime, Counts]:
    """Sum an organization's counts per hour, all its sources together or one alone."""
    sums = [func.sum(USAGE.c[name]) for name in COUNTERS]
    wanted = select(USAGE.c.hour, *sums).where(
        USAGE.c.organization_id == organization_id,
        USAGE.c.id >= row_id(int(since.timestamp() // 3600), ""),
    )
    if source_id is not None:
        wanted = wanted.where(USAGE.c.source_id == source_id)
    rows = session.execute(wanted.group_by(USAGE.c.hour).order_by(USAGE.c.hour))
    return {row[0]: {n: int(v) for n, v in zip(COUNTERS, row[1:], strict=True)} for row in rows}


def forget_old(session: Session) -> int:
    """Drop the hours nobody looks at any more; returns how many rows."""
    old = delete(USAGE).where(USAGE.c.hour < clock.now() - KEPT)
    return int(session.connection().execute(old).rowcount)
