"""Absence: the hub notices that it was not there to take events in, and looks for what it missed.

Processes that have a door for events write down every few seconds that they are there. Whoever
comes back after a gap makes every source be looked at. A worker alone says nothing: while it runs,
the doors may be shut.
"""

from datetime import timedelta

from sqlalchemy import select
from sqlmodel import Session

from connectors import reconciliations
from connectors.tables import HEARTBEAT, Heartbeat
from kernel import log, queue
from kernel.database import EVERY, reading, store_now, write
from kernel.rows import insert_ignore
from kernel.settings import settings

BEAT = timedelta(seconds=10)
GAP = timedelta(minutes=1)
ROW = "hub"
_logger = log.get_logger(__name__)


def sweep() -> int:
    """Beat if it is time to; returns how many sources are looked at because of a gap."""
    if not _has_door():
        return 0
    with reading(EVERY) as session:
        row = session.get(Heartbeat, ROW)
        if row is not None and store_now(session) - row.beat_at < BEAT:
            return 0
    return write(beat)


def _has_door() -> bool:
    # with a broker in memory the web process is the worker, too
    return not queue.is_consuming() or settings().broker_url.startswith(queue.MEMORY)


def beat(session: Session) -> int:
    """Write down that the hub is there; after a gap, let every source be looked at now."""
    now = store_now(session)
    row = {"id": ROW, "created_at": now, "beat_at": now}
    if insert_ignore(session, Heartbeat, [row], ("id",)):
        return 0
    last = session.execute(
        select(Heartbeat).where(HEARTBEAT.c.id == ROW).with_for_update()
    ).scalar_one()
    gap, before = now - last.beat_at, last.beat_at
    last.beat_at = max(now, before)
    if gap <= GAP:
        return 0
    last.away_from, last.away_until = before, now
    session.flush()
    _logger.warning("hub_was_away", seconds=int(gap.total_seconds()))
    return reconciliations.look_soon(session, now)
