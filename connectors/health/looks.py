"""How a connection does, for people: the last success and failure, kinds of errors, speed."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlmodel import Session

from connectors.health import counts, expiries
from connectors.health.tables import ConnectionHour
from connectors.tables import RUN, Connection
from kernel.database import store_now

DAYS = 7
HOURS = 24


@dataclass(frozen=True)
class Health:
    """What is known of the calls over a connection."""

    last_ok_at: datetime | None
    last_failed_at: datetime | None
    last_problem: Mapping[str, Any] | None
    ok: int  # within seven days
    failed: int
    refused: int
    waited: int
    causes: tuple[tuple[str, int], ...]  # the commonest first
    mean_ms: int | None
    slowest_ms: int
    held: int  # runs that wait for a budget or for the connection to be resumed
    held_until: datetime | None  # when the first of them goes on
    days_left: int | None
    hours: tuple[ConnectionHour, ...]  # of the last day

    @property
    def share_ok(self) -> float | None:
        """Return the part of the calls that went well, 0 to 1; None: there were none."""
        whole = self.ok + self.failed
        return self.ok / whole if whole else None


def of(session: Session, connection: Connection) -> Health:
    """Return how a connection does."""
    now = store_now(session)
    since = now - timedelta(days=DAYS)
    found = counts.hours(session, connection.organization_id, connection.id, since)
    held, until = _held(session, connection)
    answered = sum(one.ok + one.failed for one in found)
    causes: Counter[str] = Counter()
    for one in found:
        causes.update({cause: int(count) for cause, count in one.causes.items()})
    last = max(found, key=lambda one: _time(one.last_failed_at), default=None)
    day = now - timedelta(hours=HOURS)
    return Health(
        last_ok_at=max((one.last_ok_at for one in found if one.last_ok_at), default=None),
        last_failed_at=last.last_failed_at if last else None,
        last_problem=last.last_problem if last else None,
        ok=sum(one.ok for one in found),
        failed=sum(one.failed for one in found),
        refused=sum(one.refused for one in found),
        waited=sum(one.waited for one in found),
        causes=tuple(causes.most_common()),
        mean_ms=round(sum(one.elapsed_ms for one in found) / answered) if answered else None,
        slowest_ms=max((one.slowest_ms for one in found), default=0),
        held=held,
        held_until=until,
        days_left=expiries.days_left(connection, now),
        hours=tuple(one for one in found if one.hour > day),
    )


def _time(at: datetime | None) -> float:
    return at.timestamp() if at else 0.0


def _held(session: Session, connection: Connection) -> tuple[int, datetime | None]:
    row = session.execute(
        select(func.count(), func.min(RUN.c.next_at)).where(
            RUN.c.organization_id == connection.organization_id,
            RUN.c.lane == connection.id,
            RUN.c.state == "waiting",
            RUN.c.cause.in_(("budget", "paused")),
        )
    ).one()
    return int(row[0]), row[1]


def by_hour(found: Sequence[ConnectionHour], now: datetime) -> list[dict[str, Any]]:
    """Return the last 24 hours one by one, those without calls as zeros, the oldest first."""
    known = {one.hour: one for one in found}
    first = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=HOURS - 1)
    every = [first + timedelta(hours=number) for number in range(HOURS)]
    return [
        {
            "start": at,
            "ok": known[at].ok if at in known else 0,
            "failed": known[at].failed if at in known else 0,
            "waited": known[at].waited if at in known else 0,
        }
        for at in every
    ]
