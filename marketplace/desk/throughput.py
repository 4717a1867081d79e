"""Throughput: what the whole hub took in, routed, delivered and failed at, hour by hour.

Summed over every organization's usage. Hours that are over change no more, so each process sums
them once; only the last two are summed at every look.
"""

import threading
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlmodel import Session

from kernel.database import store_now
from kernel.settings import settings
from webhooks import usage
from webhooks.figures import Span
from webhooks.tables import USAGE

HOURS = 24
_OPEN = 2  # hours whose counts may still come in
_KEPT = 1000

_closed: dict[tuple[str, int], usage.Counts] = {}
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Throughput:
    """The last hours, the present one last."""

    spans: list[Span]

    @property
    def hour(self) -> usage.Counts:
        """What was counted in this hour so far."""
        return self.spans[-1].counts

    @property
    def day(self) -> usage.Counts:
        """What was counted in all of them."""
        return {
            name: sum(span.counts[name] for span in self.spans) for name in self.spans[0].counts
        }


def forget() -> None:
    """Sum everything anew, as a process that has just started."""
    with _lock:
        _closed.clear()


def look(session: Session) -> Throughput:
    """Sum what the last hours brought."""
    last = int(store_now(session).timestamp() // 3600)
    hours = range(last - HOURS + 1, last + 1)
    with _lock:
        known = {hour: _closed.get((settings().database_url, hour)) for hour in hours}
    missing = [hour for hour, counts in known.items() if counts is None]
    found = _sums(session, usage.moment(missing[0]))
    spans = []
    for hour in hours:
        start = usage.moment(hour)
        counts = known[hour] or found.get(start) or dict.fromkeys(usage.COUNTERS, 0)
        spans.append(Span(start, counts))
    _keep(spans[:-_OPEN])
    return Throughput(spans)


def _keep(spans: list[Span]) -> None:
    with _lock:
        if len(_closed) > _KEPT:
            _closed.clear()
        for span in spans:
            _closed[settings().database_url, int(span.start.timestamp() // 3600)] = span.counts


def _sums(session: Session, since: datetime) -> dict[datetime, usage.Counts]:
    sums = [func.sum(USAGE.c[name]) for name in usage.COUNTERS]
    wanted = select(USAGE.c.hour, *sums).where(USAGE.c.hour >= since).group_by(USAGE.c.hour)
    rows = session.execute(wanted.order_by(USAGE.c.hour))
    return {
        row[0]: {name: int(n) for name, n in zip(usage.COUNTERS, row[1:], strict=True)}
        for row in rows
    }
