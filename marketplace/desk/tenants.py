"""Tenants: who uses the hub and how much, for its operator; counts and settings, never contents."""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, and_, exists, func, or_, select
from sqlmodel import Session, col

from identity import organizations
from identity.tables import Member, Organization, User
from kernel.database import store_now
from kernel.errors import Malformed
from marketplace.tables import Installation
from webhooks import quotas, usage
from webhooks.figures import DAYS
from webhooks.limits import Limits, of_organization
from webhooks.tables import BACKLOG, QUOTA, USAGE

PAGE, MOST = 50, 200
# how a list may be sorted → whether the largest come first
SORTS = {"newest": True, "name": False, "today": True, "backlog": True, "failures": True}
STATES = ("active", "suspended", "resuming")


@dataclass(frozen=True, slots=True)
class Tenant:
    """One row of the list."""

    id: str
    name: str
    state: str
    weight: int
    created_at: datetime
    is_vendor: bool
    is_operator: bool
    members: int
    apps: int
    today: int  # events that came in
    month: int
    waiting: int
    failures: int  # of today: tries that failed and runs that stopped
    admitted: int  # of today, counted against the quota
    limits: Limits

    @property
    def quota_percent(self) -> int:
        """How much of the day's quota is used."""
        return min(100, 100 * self.admitted // max(1, self.limits.per_day))


@dataclass(frozen=True, slots=True)
class Listing:
    """Some tenants, and where the next ones start."""

    items: list[Tenant]
    next_cursor: str | None


def listing(
    session: Session,
    *,
    query: str = "",
    state: str = "",
    sort: str = "newest",
    cursor: str | None = None,
    limit: int = PAGE,
) -> Listing:
    """Return a page of tenants, found by name, id or a member's e-mail. Raises Malformed."""
    sort = sort if sort in SORTS else "newest"
    limit = max(1, min(limit, MOST))
    day = _hour_of_day(session)
    statement, value = _sorted(sort, day)
    if query.strip():
        statement = statement.where(_fits(query.strip()))
    if state in STATES:
        statement = statement.where(col(Organization.state) == state)
    kind = str if sort in ("newest", "name") else int
    if cursor:
        statement = statement.where(_behind(value, cursor, kind, is_falling=SORTS[sort]))
    order = (value.desc(), col(Organization.id).desc()) if SORTS[sort] else (value, _ID)
    rows = session.execute(statement.order_by(*order).limit(limit + 1)).all()
    more, rows = len(rows) > limit, rows[:limit]
    last = _cursor(rows[-1][1], rows[-1][0].id) if more else None
    return Listing(_tenants(session, [row[0] for row in rows], day), last)


_ID: Any = col(Organization.id)


def _hour_of_day(session: Session) -> int:
    """Return the hour, since 1970, at which today began."""
    return int(quotas.day_of(store_now(session).timestamp())[0] // 3600)


def _sorted(sort: str, day: int) -> tuple["Select[Any]", Any]:
    """Select organizations with what they are sorted by."""
    if sort in ("newest", "name"):
        value: Any = _ID if sort == "newest" else col(Organization.name)
        return select(Organization, value), value
    if sort == "backlog":
        value = func.coalesce(BACKLOG.c.events + BACKLOG.c.deliveries + BACKLOG.c.runs, 0)
        on = BACKLOG.c.organization_id == _ID
        return select(Organization, value).outerjoin(BACKLOG, on), value
    counted = USAGE.c.accepted if sort == "today" else USAGE.c.undelivered + USAGE.c.stuck
    sums = (
        select(USAGE.c.organization_id, func.sum(counted).label("total"))
        .where(USAGE.c.hour >= usage.moment(day))
        .group_by(USAGE.c.organization_id)
        .subquery()
    )
    value = func.coalesce(sums.c.total, 0)
    return select(Organization, value).outerjoin(sums, sums.c.organization_id == _ID), value


def _fits(query: str) -> Any:
    """Match a piece of the name, the id, or the beginning of a member's e-mail."""
    seat = exists().where(
        col(Member.organization_id) == _ID,
        col(Member.user_id) == col(User.id),
        col(Member.status) == "active",
        func.lower(col(User.email)).startswith(query.lower(), autoescape=True),
    )
    name = func.lower(col(Organization.name)).contains(query.lower(), autoescape=True)
    return or_(name, query == _ID, seat)


def _cursor(value: Any, organization_id: str) -> str:
    said = value if isinstance(value, str) else int(value)
    return base64.urlsafe_b64encode(json.dumps([said, organization_id]).encode()).decode()


def _behind(value: Any, cursor: str, kind: type, *, is_falling: bool) -> Any:
    """Match what comes after the row a cursor stands for."""
    try:
        last, organization_id = json.loads(base64.b64decode(cursor.encode(), b"-_", validate=True))
        is_known = type(last) is kind and isinstance(organization_id, str)
    except (ValueError, binascii.Error, TypeError):
        is_known = False
    if not is_known or "\0" in f"{last}{organization_id}" or abs(_number(last)) >= 1 << 62:
        raise Malformed(detail="This cursor is not one of ours")
    if is_falling:
        return or_(value < last, and_(value == last, organization_id > _ID))
    return or_(value > last, and_(value == last, organization_id < _ID))


def _number(last: Any) -> int:
    return last if isinstance(last, int) else 0


def _tenants(session: Session, found: Sequence[Organization], day: int) -> list[Tenant]:
    ids = [one.id for one in found]
    if not ids:
        return []
    seats = _counted(session, Member, ids, col(Member.status) == "active")
    apps = _counted(session, Installation, ids, col(Installation.state) == "active")
    now = _used(session, ids, day)
    month = _used(session, ids, day - 24 * (DAYS - 1))
    waits = _backlogs(session, ids)
    chosen = _quotas(session, ids)
    return [
        Tenant(
            id=one.id,
            name=one.name,
            state=one.state,
            weight=one.weight,
            created_at=one.created_at,
            is_vendor=one.is_vendor,
            is_operator=one.is_operator,
            members=seats.get(one.id, 0),
            apps=apps.get(one.id, 0),
            today=now.get(one.id, _NOTHING)["accepted"],
            month=month.get(one.id, _NOTHING)["accepted"],
            waiting=waits.get(one.id, 0),
            failures=now.get(one.id, _NOTHING)["failures"],
            admitted=now.get(one.id, _NOTHING)["admitted"],
            limits=of_organization(chosen.get(one.id)),
        )
        for one in found
    ]


_NOTHING: Mapping[str, int] = {"accepted": 0, "failures": 0, "admitted": 0}


def _counted(session: Session, table: Any, organization_ids: list[str], *which: Any) -> Any:
    rows = session.execute(
        select(table.organization_id, func.count())
        .where(table.organization_id.in_(organization_ids), *which)
        .group_by(table.organization_id)
    )
    return {row[0]: int(row[1]) for row in rows}


def _used(session: Session, organization_ids: list[str], hour: int) -> dict[str, dict[str, int]]:
    """Sum what was counted for each from an hour since 1970 on."""
    rows = session.execute(
        select(
            USAGE.c.organization_id,
            func.sum(USAGE.c.accepted),
            func.sum(USAGE.c.undelivered + USAGE.c.stuck),
            func.sum(USAGE.c.admitted),
        )
        .where(USAGE.c.organization_id.in_(organization_ids), USAGE.c.id >= usage.row_id(hour, ""))
        .group_by(USAGE.c.organization_id)
    )
    names = tuple(_NOTHING)
    return {row[0]: dict(zip(names, map(int, row[1:]), strict=True)) for row in rows}


def _backlogs(session: Session, organization_ids: list[str]) -> dict[str, int]:
    waits = BACKLOG.c.events + BACKLOG.c.deliveries + BACKLOG.c.runs
    rows = session.execute(
        select(BACKLOG.c.organization_id, waits).where(
            BACKLOG.c.organization_id.in_(organization_ids)
        )
    )
    return {row[0]: int(row[1]) for row in rows}


def _quotas(session: Session, organization_ids: list[str]) -> dict[str, Any]:
    rows = session.execute(
        select(QUOTA).where(
            QUOTA.c.organization_id.in_(organization_ids), QUOTA.c.id == QUOTA.c.organization_id
        )
    )
    return {row.organization_id: row for row in rows}


def find(session: Session, organization_id: str) -> Tenant:
    """Return one tenant; raises NotFound."""
    return _tenants(session, [organizations.find(session, organization_id)], _hour_of_day(session))[
        0
    ]
