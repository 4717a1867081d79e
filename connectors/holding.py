"""Holding: the runs of a suspended organization wait without a time until it is resumed.

Those of a flow with an order wait so anyway, all but the heads of their lanes.
"""

from typing import Any

from sqlalchemy import case, select, text, update
from sqlmodel import Session

from connectors import order_lanes
from connectors.tables import RUN
from identity.suspensions import Hold
from kernel import queue
from kernel.database import store_now

# word for word as the partial indexes have it
_WAITS = text("state IN ('due', 'waiting')")


def hold(session: Session, organization_id: str, most: int) -> int:
    """Hold runs that would go on; returns how many."""
    state = case((RUN.c.order_key.is_not(None), "waiting"), else_=RUN.c.state)
    timed = RUN.c.next_at.is_not(None)
    return _move(session, organization_id, most, timed, next_at=None, state=state)


def let_go(session: Session, organization_id: str, most: int) -> int:
    """Let held runs go on, the oldest first; returns how many."""
    now = store_now(session)
    timeless = RUN.c.next_at.is_(None) & RUN.c.order_key.is_(None)
    count = _move(session, organization_id, most, timeless, next_at=now)
    count = count or _let_heads_go(session, organization_id)
    if count:
        queue.nudge(session, "webhooks.drain")
    return count


def _let_heads_go(session: Session, organization_id: str) -> int:
    """Let the first of each lane go, flow by flow."""
    ordered = select(RUN.c.flow_id).where(
        RUN.c.organization_id == organization_id, RUN.c.order_key.is_not(None), _WAITS
    )
    flows = sorted(session.execute(ordered.distinct()).scalars())
    order_lanes.lock(session, [(organization_id, flow_id) for flow_id in flows])
    return sum(order_lanes.let_heads_go(session, organization_id, flow_id) for flow_id in flows)


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
