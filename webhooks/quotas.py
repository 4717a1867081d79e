"""Quotas: how many events an organization, and each of its sources, may send.

The request path only looks into this process's memory: a bucket that fills by the minute, and the
day's count, for the organization and for the source. In one process that is exact. Many processes
tell each other through the usage table once a second (webhooks.ledger), so that together they let
at most a second's worth too much through.
"""

import math
import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import bindparam, select
from sqlmodel import Session

from identity.tables import Organization
from kernel import clock
from kernel.columns import one_of
from kernel.database import reading
from kernel.settings import settings
from webhooks import usage
from webhooks.errors import BacklogFull, BatchTooLarge, OverQuota
from webhooks.limits import Limits, of_organization, of_source
from webhooks.tables import BACKLOG, QUOTA, USAGE

BACKLOG_SECONDS = 30
USUAL_WEIGHT = 10
KEPT_SECONDS = 3600.0  # how long an organization that sends nothing is remembered


@dataclass(slots=True)
class _Bucket:
    """What may still come through one quota; the level fills up as time goes by."""

    per_minute: int
    burst: int
    per_day: int
    level: float
    at: float
    day_end: float
    used_today: int = 0

    def catch_up(self, now: float) -> None:
        """Let the level rise, and start a new day when one has begun."""
        if now > self.at:
            self.level = min(self.burst, self.level + (now - self.at) * self.per_minute / 60)
            self.at = now
        if now >= self.day_end:
            self.used_today, self.day_end = 0, day_of(now)[1]

    def take(self, count: int) -> None:
        self.level -= count
        self.used_today += count

    def set_limits(self, limits: Limits) -> None:
        """Take changed limits up; a lower burst empties the bucket down to it."""
        self.level = min(self.level + max(0, limits.burst - self.burst), limits.burst)
        self.per_minute, self.burst = limits.per_minute, limits.burst
        self.per_day = limits.per_day


@dataclass(slots=True)
class _Firm:
    """What this process knows of an organization."""

    limits: Limits
    sources: dict[str, Limits]
    buckets: dict[str, _Bucket]  # by source, "" for the organization
    seen: dict[tuple[str, int], int] = field(default_factory=dict)  # admitted, by source and hour
    backlog: int = 0
    active_at: float = 0.0
    weight: int = USUAL_WEIGHT
    is_learned: bool = False


_firms: dict[str, _Firm] = {}
_lock = threading.Lock()
_skew = timedelta(0)  # how much the store's clock is ahead of ours


def forget() -> None:
    """Know nothing of anybody, as a process that has just started."""
    global _lock, _skew
    _lock, _skew = threading.Lock(), timedelta(0)
    _firms.clear()


os.register_at_fork(after_in_child=forget)


def set_clock(store_now: datetime) -> None:
    """Go by the store's clock from now on."""
    global _skew
    _skew = store_now - clock.now()


def _now() -> float:
    return (clock.now() + _skew).timestamp()


def day_of(now: float) -> tuple[float, float]:
    """Return when the day that people here call today began and when it ends."""
    zone = ZoneInfo(settings().time_zone)
    here = datetime.fromtimestamp(now, zone)
    begin = datetime(here.year, here.month, here.day, tzinfo=zone)
    after = begin + timedelta(days=1)
    return begin.timestamp(), after.timestamp()


class Admission:
    """Events that the quotas let through; given back when the block ends with an error."""

    __slots__ = ("_count", "_organization_id", "_source_id")

    def __init__(self, organization_id: str, source_id: str, count: int) -> None:
        """Remember for whom and how many."""
        self._organization_id, self._source_id, self._count = organization_id, source_id, count

    def __enter__(self) -> None:
        """Go on with the events."""

    def __exit__(
        self, kind: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None
    ) -> None:
        """Give back what was not stored after all."""
        if kind is not None:
            _move(self._organization_id, self._source_id, -self._count)


def admit(organization_id: str, source_id: str | None, count: int) -> Admission:
    """Let so many events in, all or none, and count them; raises OverQuota, BacklogFull.

    Use it as a context around the storing: what could not be stored is not counted.
    """
    source_id = source_id or ""
    now = _now()
    with _lock:
        firm = _firms.get(organization_id) or _unlearned(organization_id, now)
        firm.active_at = now
        if firm.backlog >= firm.limits.backlog:
            raise BacklogFull(
                waiting=firm.backlog,
                limit=firm.limits.backlog,
                retry_after_seconds=BACKLOG_SECONDS,
            )
        for place in _places(source_id):
            bucket = firm.buckets.get(place) or _open(firm, place, now)
            bucket.catch_up(now)
            _check(bucket, place, count, now)
        for place in _places(source_id):
            firm.buckets[place].take(count)
    usage.add(organization_id, source_id, admitted=count)
    return Admission(organization_id, source_id, count)


def _places(source_id: str) -> tuple[str, ...]:
    return ("", source_id) if source_id else ("",)


def _unlearned(organization_id: str, now: float) -> _Firm:
    """Go by the settings for the moment it takes until the ledger has looked."""
    firm = _firms[organization_id] = _Firm(of_organization({}), {}, {}, active_at=now)
    return firm


def _open(firm: _Firm, place: str, now: float) -> _Bucket:
    limits = firm.sources.get(place, firm.limits) if place else firm.limits
    bucket = firm.buckets[place] = _Bucket(
        limits.per_minute, limits.burst, limits.per_day, limits.burst, now, day_of(now)[1]
    )
    return bucket


def _check(bucket: _Bucket, place: str, count: int, now: float) -> None:
    whose = "source" if place else "organization"
    most = min(bucket.burst, bucket.per_day)
    if count > most:
        raise BatchTooLarge.of(whose, count=count, limit=most)
    if bucket.used_today + count > bucket.per_day:
        seconds = max(1, math.ceil(bucket.day_end - now))
        raise OverQuota.of(
            whose, "day", limit=bucket.per_day, used=bucket.used_today, seconds=seconds
        )
    if bucket.level < count:
        seconds = math.ceil((count - bucket.level) * 60 / bucket.per_minute)
        used = math.ceil(bucket.burst - bucket.level)
        raise OverQuota.of(
            whose,
            "minute",
            limit=bucket.per_minute,
            used=min(used, bucket.burst),
            burst=bucket.burst,
            seconds=max(1, seconds),
        )


def _move(organization_id: str, source_id: str, count: int) -> None:
    """Take more through an organization's quotas, or give it back, whatever they say."""
    with _lock:
        firm = _firms.get(organization_id)
        buckets = firm.buckets if firm else {}
        for place in _places(source_id):
            if place in buckets:
                buckets[place].take(count)
    usage.add(organization_id, source_id, admitted=count)


# --- what the store says ---------------------------------------------------------------------


def is_known(organization_id: str) -> bool:
    """Tell whether this process has read what the store says of an organization."""
    firm = _firms.get(organization_id)
    return firm is not None and firm.is_learned


def weight_of(organization_id: str) -> int:
    """Return an organization's share of the hub's work beside the others', as far as is known."""
    firm = _firms.get(organization_id)
    return firm.weight if firm else USUAL_WEIGHT


def learn(session: Session, organization_id: str) -> None:
    """Read an organization's limits and counts before its first event in this process."""
    if not is_known(organization_id):
        read_back(session, [organization_id])


def learn_for(organization_id: str) -> None:
    """Learn in a reading of one's own, when there is something to learn."""
    if not is_known(organization_id):
        with reading(organization_id) as session:
            read_back(session, [organization_id])


def active() -> list[str]:
    """Name the organizations to ask about, and forget who has sent nothing for long."""
    now = _now()
    with _lock:
        for gone in [k for k, firm in _firms.items() if firm.active_at < now - KEPT_SECONDS]:
            del _firms[gone]
        return [
            k for k, firm in _firms.items() if firm.active_at > now - 120 or not firm.is_learned
        ]


def written(taken: Mapping[usage.Key, usage.Counts]) -> None:
    """Note that one's own counts are in the store now."""
    with _lock:
        for (organization_id, source_id, hour), counts in taken.items():
            firm = _firms.get(organization_id)
            if firm is not None and counts.get("admitted"):
                key = (source_id, hour)
                firm.seen[key] = firm.seen.get(key, 0) + counts["admitted"]


def read_back(session: Session, organization_ids: Iterable[str]) -> None:
    """Read limits, what waits and what the other processes let through."""
    tenants = {"tenants": sorted(organization_ids)}
    now = _now()
    first_of_day = int(day_of(now)[0] // 3600)
    since = first_of_day if not all(map(is_known, tenants["tenants"])) else int(now // 3600) - 1
    connection = session.connection()
    own = {(row.organization_id, row.id): row for row in connection.execute(_QUOTAS, tenants)}
    waiting = {row[0]: row[1] for row in connection.execute(_WAITING, tenants)}
    counted = connection.execute(_ADMITTED, {**tenants, "since": usage.row_id(since, "")}).all()
    weights = {row[0]: row[1] for row in connection.execute(_WEIGHTS, tenants)}
    with _lock:
        for organization_id in tenants["tenants"]:
            _set_limits(organization_id, own, waiting.get(organization_id, 0), now)
        for organization_id, source_id, hour, admitted in counted:
            number = int(hour.timestamp() // 3600)
            _hear(_firms[organization_id], source_id, number, admitted, now, first_of_day)
        for organization_id in tenants["tenants"]:
            firm = _firms[organization_id]
            firm.is_learned = True
            firm.weight = weights.get(organization_id, USUAL_WEIGHT)
            for old in [key for key in firm.seen if key[1] < first_of_day - 2]:
                del firm.seen[old]


def _set_limits(
    organization_id: str, own: Mapping[tuple[str, str], Any], waiting: int, now: float
) -> None:
    limits = of_organization(own.get((organization_id, organization_id)))
    firm = _firms.get(organization_id)
    if firm is None:
        firm = _firms[organization_id] = _Firm(limits, {}, {}, active_at=now)
    firm.limits, firm.backlog = limits, waiting
    firm.sources = {
        source_id: of_source(row, limits)
        for (tenant, source_id), row in own.items()
        if tenant == organization_id != source_id
    }
    for place, bucket in firm.buckets.items():
        bucket.set_limits(firm.sources.get(place, limits) if place else limits)


def _hear(
    firm: _Firm, source_id: str, hour: int, admitted: int, now: float, first_of_day: int
) -> None:
    """Take what others let through out of this process's buckets, too."""
    key = (source_id, hour)
    others = admitted - firm.seen.get(key, 0)
    firm.seen[key] = max(admitted, firm.seen.get(key, 0))
    if others <= 0:
        return
    for place in _places(source_id):
        bucket = firm.buckets.get(place) or _open(firm, place, now)
        bucket.catch_up(now)
        if hour >= first_of_day:
            bucket.used_today += others
        if firm.is_learned:
            bucket.level -= others


_QUOTAS = select(QUOTA).where(one_of(QUOTA.c.organization_id, "tenants"))
_WAITING = select(
    BACKLOG.c.organization_id, BACKLOG.c.events + BACKLOG.c.deliveries + BACKLOG.c.runs
).where(one_of(BACKLOG.c.organization_id, "tenants"))
_ORGANIZATION: Any = Organization.__table__  # type: ignore[attr-defined]
_WEIGHTS = select(_ORGANIZATION.c.id, _ORGANIZATION.c.weight).where(
    one_of(_ORGANIZATION.c.id, "tenants")
)
_ADMITTED = select(
    USAGE.c.organization_id, USAGE.c.source_id, USAGE.c.hour, USAGE.c.admitted
).where(one_of(USAGE.c.organization_id, "tenants"), USAGE.c.id >= bindparam("since"))
