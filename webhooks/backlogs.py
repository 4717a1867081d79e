"""Backlogs: how much of each organization's waits, counted every few seconds and never per request.

Looks over every tenant: whoever has sent lately or still has something waiting is counted by
whichever process comes first. A count stops a little above what anybody may have waiting.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import or_, select, text, update
from sqlmodel import Session

from kernel.database import EVERY, reading, store_now, write
from kernel.rows import insert_ignore
from webhooks import limits
from webhooks.tables import BACKLOG, USAGE, Backlog

AGAIN_SECONDS = 5
RESTING_SECONDS = 60  # of an organization that has sent nothing in this hour or the last
AT_ONCE = 20

# Counts what waits of one organization, up to `most`. The composition root adds what packages
# above know of: name of the column → count.
Count = Callable[[Session, str, int], int]


def _count_events(session: Session, organization_id: str, most: int) -> int:
    return _counted(session, _EVENTS, organization_id, most)


def _count_deliveries(session: Session, organization_id: str, most: int) -> int:
    return _counted(session, _DELIVERIES, organization_id, most)


def _counted(session: Session, statement: Any, organization_id: str, most: int) -> int:
    found = session.connection().execute(statement, {"tenant": organization_id, "most": most})
    return int(found.scalar_one())


# word for word as the partial indexes have it; what is leased is as good as on its way
_EVENTS = text(
    "SELECT count(*) FROM (SELECT 1 FROM event"
    " WHERE organization_id = :tenant AND state = 'new' LIMIT :most) AS waiting"
)
_DELIVERIES = text(
    "SELECT count(*) FROM (SELECT 1 FROM delivery"
    " WHERE organization_id = :tenant AND state IN ('due', 'waiting') LIMIT :most) AS waiting"
)
COUNTS: dict[str, Count] = {"events": _count_events, "deliveries": _count_deliveries}


def sweep() -> int:
    """Count the organizations whose turn it is; returns how many those were."""
    taken = write(_take, EVERY)
    for organization_id in taken:
        most = _most(organization_id)
        with reading(organization_id) as session:
            found = {name: count(session, organization_id, most) for name, count in COUNTS.items()}
        write(partial(_put, organization_id=organization_id, found=found), organization_id)
    return len(taken)


def _most(organization_id: str) -> int:
    with reading(organization_id) as session:
        return limits.find(session, organization_id).backlog + 1


def _put(session: Session, organization_id: str, found: dict[str, int]) -> None:
    session.execute(
        update(BACKLOG).where(BACKLOG.c.organization_id == organization_id).values(**found)
    )


def _take(session: Session) -> Sequence[str]:
    """Choose whom nobody has counted for longest, and say that they are being counted now."""
    now = store_now(session)
    _note_newcomers(session, now)
    since = now - timedelta(hours=1)
    lately = select(USAGE.c.organization_id).where(USAGE.c.hour >= since).distinct()
    waits = BACKLOG.c.events + BACKLOG.c.deliveries + BACKLOG.c.runs > 0
    stale, resting = timedelta(seconds=AGAIN_SECONDS), timedelta(seconds=RESTING_SECONDS)
    chosen = (
        select(BACKLOG.c.organization_id)
        .where(
            or_(
                (BACKLOG.c.counted_at <= now - stale) & BACKLOG.c.organization_id.in_(lately),
                (BACKLOG.c.counted_at <= now - resting) & waits,
            )
        )
        .order_by(BACKLOG.c.counted_at)
        .limit(AT_ONCE)
    )
    if session.get_bind().dialect.name == "postgresql":
        chosen = chosen.with_for_update(skip_locked=True)
    names = list(session.execute(chosen).scalars())
    if names:
        session.execute(
            update(BACKLOG).where(BACKLOG.c.organization_id.in_(names)).values(counted_at=now)
        )
    return names


def _note_newcomers(session: Session, now: datetime) -> None:
    """Give a row to whoever has sent something lately and has none yet."""
    known = select(BACKLOG.c.organization_id)
    fresh = session.execute(
        select(USAGE.c.organization_id)
        .where(USAGE.c.hour >= now - timedelta(hours=2), USAGE.c.organization_id.not_in(known))
        .distinct()
        .limit(AT_ONCE)
    ).scalars()
    rows = [
        {
            "organization_id": organization_id,
            "id": organization_id,
            "created_at": now,
            "events": 0,
            "deliveries": 0,
            "runs": 0,
            "counted_at": now - timedelta(days=1),
        }
        for organization_id in fresh
    ]
    insert_ignore(session, Backlog, rows, ("organization_id", "id"))


def find(session: Session, organization_id: str) -> Backlog | None:
    """Return what waited when an organization was last counted; None: it never was."""
    return session.get(Backlog, (organization_id, organization_id))
