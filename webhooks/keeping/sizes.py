"""Sizes: how much there is of an organization's data, live and archived, for its page."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlmodel import Session

from kernel.database import store_now
from webhooks.keeping import chunks
from webhooks.keeping.tables import ARCHIVE_CHUNK, Keeping
from webhooks.tables import EVENT

MOST_COUNTED = 100_000
MONTHS = 24


@dataclass(frozen=True, slots=True)
class Sizes:
    """What there is today; `is_more` when the live events are too many to be counted for a page."""

    live_events: int
    is_more: bool
    oldest_at: datetime | None
    chunks: int
    archived_events: int
    archived_bytes: int
    months: Sequence[tuple[str, int, int]]  # 2026-08, events, bytes; the oldest first


def find(session: Session, organization_id: str) -> Sizes:
    """Return how much an organization has."""
    mine = (EVENT.c.organization_id == organization_id) & (EVENT.c.state != "archived")
    some = select(EVENT.c.id).where(mine).limit(MOST_COUNTED + 1).subquery()
    live = int(session.execute(select(func.count()).select_from(some)).scalar_one())
    count, archived, size = chunks.totals(session, organization_id)
    return Sizes(
        live_events=min(live, MOST_COUNTED),
        is_more=live > MOST_COUNTED,
        oldest_at=oldest_at(session, organization_id),
        chunks=count,
        archived_events=archived,
        archived_bytes=size,
        months=_months(session, organization_id),
    )


def oldest_at(session: Session, organization_id: str) -> datetime | None:
    """Return how far back the live list goes."""
    mine = (EVENT.c.organization_id == organization_id) & (EVENT.c.state != "archived")
    oldest = select(EVENT.c.received_at).where(mine).order_by(EVENT.c.id).limit(1)
    found: datetime | None = session.execute(oldest).scalar()
    return found


def _months(session: Session, organization_id: str) -> list[tuple[str, int, int]]:
    month: Any = func.substr(ARCHIVE_CHUNK.c.day, 1, 7)
    wanted = (
        select(month, func.sum(ARCHIVE_CHUNK.c.event_count), func.sum(ARCHIVE_CHUNK.c.byte_count))
        .where(ARCHIVE_CHUNK.c.organization_id == organization_id)
        .group_by(month)
    )
    found = {row[0]: (int(row[1]), int(row[2])) for row in session.execute(wanted)}
    now = store_now(session)
    last = now.year * 12 + now.month - 1
    names = [f"{at // 12:04d}-{at % 12 + 1:02d}" for at in range(last - MONTHS + 1, last + 1)]
    return [(name, *found.get(name, (0, 0))) for name in names]


def bars(found: Sizes) -> list[tuple[str, int, int, float, float]]:
    """Return the months as columns: name, events, bytes, top and height in hundredths."""
    peak = max((count for _, count, _ in found.months), default=0)
    drawn = []
    for name, count, size in found.months:
        height = round(max(1.5, 100 * count / peak), 2) if count else 0.0
        drawn.append((name, count, size, round(100 - height, 2), height))
    return drawn


def state(session: Session, organization_id: str) -> Keeping | None:
    """Return when an organization's data is looked after next, and what stands in the way."""
    return session.get(Keeping, (organization_id, organization_id))
