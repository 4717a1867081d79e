"""Holding: the runs of a suspended organization wait without a time until it is resumed."""

from typing import Any

from sqlalchemy import select, text, update
from sqlmodel import Session

from connectors.tables import RUN
from identity.suspensions import Hold
from kernel import queue
from kernel.database import store_now

# word for word as the partial indexes have it
_WAITS = text("state IN ('due', 'waiting')")


def hold(session: Session, organization_id: str, most: int) -> int:
    """Hold runs that would go on; returns how many."""
    return _move(session, organization_id, most, RUN.c.next_at.is_not(None), next_at=None)


def let_go(session: Session, organization_id: str, most: int) -> int:
    """Let held runs go on, the oldest first; returns how many."""
    now = store_now(session)
    count = _move(session, organization_id, most, RUN.c.next_at.is_(None), next_at=now)
    if count:
        queue.nudge(session, "webhooks.drain")
    return count


def _move(session: Session, organization_id: str, most: int, which: Any, **values: Any) -> int:
    mine = (RUN.c.organization_id == organization_id, RUN.c.state.in_(("due", "waiting")), which)
    wanted = select(RUN.c.id).where(*mine).order_by(RUN.c.id).limit(most)
    if session.get_bind().dialect.name == "postgresql":
        wanted = wanted.with_for_update(skip_locked=True)
    found = list(session.execute(wanted).scalars())
    if found:
        changed = update(RUN).where(RUN.c.organization_id == organization_id, RUN.c.id.in_(found))
        session.execute(changed.where(_WAITS).values(**values))
    return len(found)


RUNS = Hold("runs", hold, let_go)
