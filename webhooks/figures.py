"""Figures: an organization's usage for people to look at, and how near it is to its limits.

Everything is read from the usage table, a row per source and hour, however many events there are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import func, select
from sqlmodel import Session

from kernel.database import store_now
from kernel.settings import settings
from webhooks import backlogs, limits, quotas, usage
from webhooks.limits import Limits
from webhooks.tables import USAGE

HOURS, DAYS = 24, 30
NEAR = 0.8  # of a limit: time to say so
REFUSED = ("refused_proof", "refused_form", "refused_limit", "refused_pause")


@dataclass(frozen=True, slots=True)
class Span:
    """What was counted in an hour or a day."""

    start: datetime
    counts: dict[str, int]

    @property
    def refused(self) -> int:
        """How many requests were refused, for whatever reason."""
        return sum(self.counts[name] for name in REFUSED)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an organization stands today, beside what it may."""

    limits: Limits
    used_today: int
    day_ends_at: datetime
    events: int = 0
    deliveries: int = 0
    runs: int = 0
    counted_at: datetime | None = None

    @property
    def waiting(self) -> int:
        """How much waits in all."""
        return self.events + self.deliveries + self.runs

    @property
    def near(self) -> list[str]:
        """Name the limits that are nearly or wholly reached: "day", "backlog"."""
        found = []
        if self.used_today >= NEAR * self.limits.per_day:
            found.append("day")
        if self.waiting >= NEAR * self.limits.backlog:
            found.append("backlog")
        return found

    @property
    def is_full(self) -> bool:
        """Tell whether something is refused already."""
        return self.used_today >= self.limits.per_day or self.waiting >= self.limits.backlog


@dataclass(slots=True)
class Column:
    """One bar of a chart: its parts from the floor up, in hundredths of the chart's height."""

    start: datetime
    total: int
    parts: list[tuple[str, int, float, float]] = field(default_factory=list)  # name, n, y, height


def standing(session: Session, organization_id: str) -> Standing:
    """Return where an organization stands."""
    now = store_now(session).timestamp()
    begin, end = quotas.day_of(now)
    waits = backlogs.find(session, organization_id)
    return Standing(
        limits=limits.find(session, organization_id),
        used_today=admitted_since(session, organization_id, int(begin // 3600)),
        day_ends_at=datetime.fromtimestamp(end, UTC),
        events=waits.events if waits else 0,
        deliveries=waits.deliveries if waits else 0,
        runs=waits.runs if waits else 0,
        counted_at=waits.counted_at if waits else None,
    )


def admitted_since(session: Session, organization_id: str, hour: int) -> int:
    """Sum what the quotas let through from an hour (since 1970) on."""
    found = session.execute(
        select(func.sum(USAGE.c.admitted)).where(
            USAGE.c.organization_id == organization_id, USAGE.c.id >= usage.row_id(hour, "")
        )
    )
    return int(found.scalar() or 0)


def by_hour(
    session: Session, organization_id: str, source_id: str | None = None, hours: int = HOURS
) -> list[Span]:
    """Return the last hours, the present one last."""
    last = int(store_now(session).timestamp() // 3600)
    starts = [usage.moment(hour) for hour in range(last - hours + 1, last + 1)]
    found = usage.totals(session, organization_id, starts[0], source_id)
    return [Span(start, found.get(start) or _nothing()) for start in starts]


def by_day(
    session: Session, organization_id: str, source_id: str | None = None, days: int = DAYS
) -> list[Span]:
    """Return the last days as people here count them, today last."""
    zone = ZoneInfo(settings().time_zone)
    today = store_now(session).astimezone(zone).date()
    spans = {
        day: Span(datetime(day.year, day.month, day.day, tzinfo=zone), _nothing())
        for day in (today - timedelta(days=n) for n in range(days - 1, -1, -1))
    }
    first = next(iter(spans.values())).start
    for hour, counts in usage.totals(session, organization_id, first, source_id).items():
        span = spans.get(hour.astimezone(zone).date())
        if span is not None:
            for name, count in counts.items():
                span.counts[name] += count
    return list(spans.values())


def _nothing() -> dict[str, int]:
    return dict.fromkeys(usage.COUNTERS, 0)


def columns(spans: Sequence[Span], names: Sequence[str]) -> tuple[int, list[Column]]:
    """Stack counts into columns of a chart; gives the highest total and the columns.

    `refused` is all reasons together. A count that is there can be seen, however small.
    """
    values = [
        [(name, span.refused if name == "refused" else span.counts[name]) for name in names]
        for span in spans
    ]
    peak = max((sum(count for _, count in one) for one in values), default=0)
    found = []
    for span, counts in zip(spans, values, strict=True):
        column = Column(span.start, sum(count for _, count in counts))
        floor = 100.0
        heights = [max(1.5, 100 * count / peak) if count else 0.0 for _, count in counts]
        heights[heights.index(max(heights))] -= max(0.0, sum(heights) - floor)
        for (name, count), height in zip(counts, heights, strict=True):
            if count:
                floor -= height
                column.parts.append((name, count, round(abs(floor), 2), round(height, 2)))
        found.append(column)
    return peak, found
