"""Lanes: deliveries that go out one after another, in the order of their events.

An endpoint's ordering puts its deliveries on one lane (`endpoint`) or on one per subject
(`subject`). Only the head of a lane, the first by event that is not finished, has a time; those
behind it wait without one. Whoever finishes a head lets the next one go in the same commit. A head
that fails holds the rest, and so does one that is parked, until its owner sends or cancels it.

Whoever adds to a lane, takes from it or lets its next one go has locked the endpoint's row.
"""

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import bindparam, exists, func, select, text, update
from sqlmodel import Session

from kernel.columns import Moment
from kernel.database import store_now
from webhooks import leases
from webhooks.tables import DELIVERY, EVENT

ORDERINGS = ("none", "endpoint", "subject")
STRETCH = 20  # so many of a lane are sent under one lease
ENDPOINTS_AT_ONCE = 8

Key = tuple[str, str]  # organization, endpoint

_first = DELIVERY.alias("first")
_HAS_LANE = DELIVERY.c.lane.is_not(None)
# word for word as the partial indexes have it
_UNFINISHED = leases.is_in(_first.c.state, "due", "waiting", "leased", "parked")
_HAS_TIME = (
    _HAS_LANE & DELIVERY.c.next_at.is_not(None) & leases.is_in(DELIVERY.c.state, "due", "waiting")
)


def lane_of(ordering: str, subject: str | None) -> str | None:
    """Name the lane of an event's delivery; events without a subject share one."""
    if ordering == "none":
        return None
    return (subject or "") if ordering == "subject" else ""


def _in_lane(*more: Any) -> Any:
    return (
        select(_first.c.id)
        .where(
            _first.c.organization_id == bindparam("tenant"),
            _first.c.endpoint_id == bindparam("endpoint"),
            _first.c.lane == bindparam("in_lane"),
            _UNFINISHED,
            *more,
        )
        .correlate(None)
    )


_RELEASE = (
    update(DELIVERY)
    .where(
        DELIVERY.c.organization_id == bindparam("tenant"),
        DELIVERY.c.state == "waiting",
        DELIVERY.c.next_at.is_(None),
        DELIVERY.c.id
        == _in_lane().order_by(_first.c.event_id, _first.c.id).limit(1).scalar_subquery(),
        ~exists(_in_lane(_first.c.state == "leased")),
    )
    .values(state="due", next_at=bindparam("now", type_=Moment))
)


def release(session: Session, key: Key, lanes: Iterable[str]) -> None:
    """Give the head of each lane of a locked, sending endpoint a time, unless it has one."""
    now = store_now(session)
    wanted = [
        {"tenant": key[0], "endpoint": key[1], "in_lane": lane, "now": now}
        for lane in sorted(set(lanes))
    ]
    if wanted:
        session.connection().execute(_RELEASE, wanted)


def move_up(
    session: Session, passed: Iterable[tuple[Key, str | None]], rows: Mapping[Key, Any]
) -> None:
    """Let the next of each lane go that something was sent of; `rows` are the locked endpoints.

    Of an endpoint that was switched off meanwhile nothing waits in a lane.
    """
    of: dict[Key, set[str]] = {}
    for key, lane in passed:
        if lane is not None:
            of.setdefault(key, set()).add(lane)
    for key, names in sorted(of.items()):
        if rows[key].state == "disabled":
            leave(session, key)
        elif rows[key].state == "active" and rows[key].circuit != "open":
            release(session, key, names)


# Jumps from lane to lane along the partial index and looks at the first of each.
_OF_ENDPOINT = "FROM delivery WHERE organization_id = :tenant AND endpoint_id = :endpoint"
_OPEN = "lane IS NOT NULL AND state IN ('due', 'waiting', 'leased', 'parked')"
_HEADS = text(
    "WITH RECURSIVE lanes(name) AS ("  # noqa: S608 - our own words
    f" SELECT min(lane) {_OF_ENDPOINT} AND {_OPEN}"
    f" UNION ALL SELECT (SELECT min(lane) {_OF_ENDPOINT} AND {_OPEN} AND lane > lanes.name)"
    " FROM lanes WHERE lanes.name IS NOT NULL"
    ") SELECT head.id FROM lanes JOIN delivery AS head ON head.organization_id = :tenant"
    f" AND head.id = (SELECT id {_OF_ENDPOINT} AND {_OPEN} AND lane = lanes.name"
    " ORDER BY event_id, id LIMIT 1)"
    " WHERE lanes.name IS NOT NULL AND head.state = 'waiting' AND head.next_at IS NULL"
    " ORDER BY head.event_id LIMIT :most"
)


def held_heads(session: Session, key: Key, most: int) -> list[str]:
    """Name the heads of an endpoint's lanes that wait without a time, the oldest first."""
    wanted = {"tenant": key[0], "endpoint": key[1], "most": most}
    return list(session.connection().execute(_HEADS, wanted).scalars())


def head_of(session: Session, delivery: Any) -> str | None:
    """Return the id of the delivery that another one waits for; None: for nothing."""
    wanted = {
        "tenant": delivery.organization_id,
        "endpoint": delivery.endpoint_id,
        "in_lane": delivery.lane,
    }
    ordered = _in_lane().order_by(_first.c.event_id, _first.c.id).limit(1)
    found: str | None = session.connection().execute(ordered, wanted).scalar()
    return found if found != delivery.id else None


def stopped(session: Session, key: Key, most: int) -> list[Any]:
    """Return parked deliveries that hold a lane, the oldest first."""
    found = select(DELIVERY).where(
        DELIVERY.c.organization_id == key[0],
        DELIVERY.c.endpoint_id == key[1],
        leases.is_in(DELIVERY.c.state, "waiting", "parked"),
        DELIVERY.c.state == "parked",
        _HAS_LANE,
    )
    return list(session.execute(found.order_by(DELIVERY.c.event_id).limit(most)).mappings())


def _of_endpoint(key: Key, *states: str) -> Any:
    return update(DELIVERY).where(
        DELIVERY.c.organization_id == key[0],
        DELIVERY.c.endpoint_id == key[1],
        DELIVERY.c.state.in_(states),
    )


def leave(session: Session, key: Key) -> None:
    """Take everything of a locked endpoint off its lanes; what is parked holds nothing then."""
    session.execute(
        _of_endpoint(key, "due", "waiting", "leased", "parked").where(_HAS_LANE).values(lane=None)
    )


def join(session: Session, key: Key, ordering: str, more: Any = None) -> None:
    """Put what is on its way to a locked endpoint on its lanes, or only parked ones that fit."""
    subject = (
        select(func.coalesce(EVENT.c.subject, ""))
        .where(
            EVENT.c.organization_id == DELIVERY.c.organization_id, EVENT.c.id == DELIVERY.c.event_id
        )
        .scalar_subquery()
    )
    lane = subject if ordering == "subject" else ""
    if more is None:
        session.execute(_of_endpoint(key, "leased").values(lane=lane))
        waiting = _of_endpoint(key, "due", "waiting")
    else:
        waiting = _of_endpoint(key, "parked").where(more)
    session.execute(waiting.values(lane=lane, state="waiting", next_at=None, ladder_step=0))


@dataclass(slots=True)
class Claimed:
    """Stretches of lanes that were leased; each is sent in its order."""

    stretches: list[list[tuple[dict[str, Any], Mapping[str, Any]]]] = field(default_factory=list)
    is_blocked: bool = False  # older events are just being routed: look again in a moment


_DUE = select(DELIVERY.c.id).where(_HAS_TIME, DELIVERY.c.next_at <= bindparam("now")).limit(1)


def is_due(session: Session) -> bool:
    """Tell whether the head of any lane waits for its turn by now."""
    return session.connection().execute(_DUE, {"now": store_now(session)}).first() is not None


def claim(session: Session, worker_id: str, slow: frozenset[str], *, is_slow: bool) -> Claimed:
    """Lease stretches of the lanes that are due, of a few endpoints, evenly over tenants."""
    claimed = Claimed()
    chosen = []
    for endpoint in _endpoints(session, slow, is_slow=is_slow):
        key = endpoint["organization_id"], endpoint["id"]
        is_open = endpoint["circuit"] == "open"
        if endpoint["state"] != "active" or is_open:
            _hold(session, key, endpoint["probe_id"] if is_open else None)
        for lane in _due_lanes(session, endpoint):
            most = 1 if is_open else STRETCH
            stretch = _stretch(session, key, lane, most, claimed)
            if stretch:
                chosen.append(stretch)
                claimed.stretches.append([(row, endpoint) for row in stretch])
    leased = leases.lease(session, worker_id, [row for some in chosen for row in some])
    by_id = {(row["organization_id"], row["id"]): row for row in leased}
    claimed.stretches = [
        [(by_id[row["organization_id"], row["id"]], endpoint) for row, endpoint in some]
        for some in claimed.stretches
    ]
    return claimed


def _endpoints(session: Session, slow: frozenset[str], *, is_slow: bool) -> list[Any]:
    """Choose and lock a few endpoints with lanes that are due."""
    columns = (DELIVERY.c.organization_id, DELIVERY.c.endpoint_id)
    due = select(*columns).where(_HAS_TIME, DELIVERY.c.next_at <= store_now(session))
    keys = [(row[0], row[1]) for row in session.execute(due.group_by(*columns))]
    rows = [{"organization_id": o, "id": e} for o, e in keys if (e in slow) is is_slow]
    few = leases.even_share(rows, ENDPOINTS_AT_ONCE)
    if not few:
        return []
    found = leases.locked_endpoints(session, [(row["organization_id"], row["id"]) for row in few])
    locked = list(found.values())
    random.shuffle(locked)
    return locked


def _hold(session: Session, key: Key, probe_id: str | None) -> None:
    """Take the time from what fell due for an endpoint that gets nothing now but a probe."""
    session.execute(
        update(DELIVERY)
        .where(
            DELIVERY.c.organization_id == key[0],
            DELIVERY.c.endpoint_id == key[1],
            _HAS_TIME,
            DELIVERY.c.next_at <= store_now(session),
            DELIVERY.c.id != (probe_id or ""),
        )
        .values(state="waiting", next_at=None)
    )


def _due_lanes(session: Session, endpoint: Mapping[str, Any]) -> list[str]:
    """Name the lanes that are due, as many as may have something under way at once."""
    key = endpoint["organization_id"], endpoint["id"]
    mine = (DELIVERY.c.organization_id == key[0]) & (DELIVERY.c.endpoint_id == key[1])
    room = endpoint["max_in_flight"] or leases.IN_FLIGHT_PER_ENDPOINT
    if endpoint["ordering"] == "subject":
        under_way = select(func.count(DELIVERY.c.lane.distinct())).where(
            mine,
            _HAS_LANE,
            leases.is_in(DELIVERY.c.state, "due", "waiting", "leased", "parked"),
            DELIVERY.c.state == "leased",
        )
        room -= session.execute(under_way).scalar_one()
    if room <= 0:
        return []
    due = (
        select(DELIVERY.c.lane)
        .where(mine, _HAS_TIME, DELIVERY.c.next_at <= store_now(session))
        .order_by(DELIVERY.c.next_at)
        .limit(room)
    )
    return list(dict.fromkeys(session.execute(due).scalars()))


def _stretch(session: Session, key: Key, lane: str, most: int, claimed: Claimed) -> list[Any]:
    """Return the head of a lane and those right behind it that may be sent now.

    Nothing is sent before the events in front of it are routed: another worker may be at that
    just now, and what it writes is not to be seen yet. So the look for new events comes first.
    """
    now = store_now(session)
    oldest_new = session.execute(
        select(func.min(EVENT.c.id)).where(
            text("event.state = 'new'"), EVENT.c.organization_id == key[0]
        )
    ).scalar()
    rows = session.execute(
        select(DELIVERY)
        .where(
            DELIVERY.c.organization_id == key[0],
            DELIVERY.c.endpoint_id == key[1],
            DELIVERY.c.lane == lane,
            leases.is_in(DELIVERY.c.state, "due", "waiting", "leased", "parked"),
        )
        .order_by(DELIVERY.c.event_id, DELIVERY.c.id)
        .limit(most)
    ).mappings()
    stretch: list[Any] = []
    is_blocked = False
    for row in rows:
        if row["state"] in ("leased", "parked") or (row["next_at"] and row["next_at"] > now):
            break
        if oldest_new is not None and row["event_id"] > oldest_new:
            is_blocked = not stretch
            break
        stretch.append(row)
    claimed.is_blocked = claimed.is_blocked or is_blocked
    if not stretch and not is_blocked:
        _hold_lane(session, key, lane)
    return stretch


def _hold_lane(session: Session, key: Key, lane: str) -> None:
    """Take the time from what is due behind a head that is not: something came in front of it."""
    session.execute(
        update(DELIVERY)
        .where(
            DELIVERY.c.organization_id == key[0],
            DELIVERY.c.endpoint_id == key[1],
            DELIVERY.c.lane == lane,
            _HAS_TIME,
            DELIVERY.c.next_at <= store_now(session),
        )
        .values(state="waiting", next_at=None)
    )
