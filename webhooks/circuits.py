"""Circuits: a target that is down is left alone, and what waits for it is let go bit by bit.

An endpoint's circuit is `closed` while all is well. It opens after a run of tries that found the
target down, or when the target asks for a pause. While it is open its deliveries are held (they
wait without a time and use up no try), but for one probe now and then; one success closes it. What
was held is then let go a portion at a time (`refilling`), new deliveries behind it.

All of it is the endpoint's row, by the store's clock. Whoever changes it, or adds held deliveries,
has locked that row, and locks it before any delivery.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Boolean, bindparam, case, or_, select, true, update
from sqlmodel import Session

from kernel import queue
from kernel.columns import one_of
from kernel.database import EVERY, reading, store_now, write
from webhooks import lanes, leases
from webhooks.tables import DELIVERY, ENDPOINT

THRESHOLD = 10
WITHIN = timedelta(minutes=10)  # a run of failures that began longer ago says little about now
PROBE_SECONDS, LONGEST_PROBE_SECONDS = 30.0, 900.0
JITTER = 0.2
# A probe that was taken by a worker that died is sent again after this.
PROBE_LOST = timedelta(seconds=1.5 * leases.LEASE_SECONDS)
RATE_PER_SECOND, TURN_SECONDS = 50, 5
# What a delivery that was parked because its endpoint went off says of itself.
MISSED = ("endpoint_disabled", "gone")
_ENDPOINTS_AT_ONCE = 50
_TASK = "webhooks.drain"

Key = tuple[str, str]  # organization, endpoint


@dataclass(frozen=True, slots=True)
class Answer:
    """What one try says about its target."""

    delivery_id: str
    is_good: bool
    is_blamed: bool  # not our own trouble
    is_down: bool  # no answer, or a server error
    is_gone: bool = False
    asked_seconds: float = 0.0  # the pause the target asks for


_COLUMNS = (
    "organization_id", "id", "state", "failing_since", "ordering", "failure_streak",
    "streak_since", "circuit", "circuit_cause", "circuit_at", "circuit_since", "probe_id",
    "probe_count", "sends_missed",
)  # fmt: skip
_LOOK = select(*(ENDPOINT.c[name] for name in _COLUMNS)).where(
    one_of(ENDPOINT.c.organization_id, "tenants"), one_of(ENDPOINT.c.id, "ids")
)
# weaker than FOR UPDATE: new deliveries, which only refer to the row, need not wait
_LOCK = _LOOK.order_by(ENDPOINT.c.organization_id, ENDPOINT.c.id).with_for_update(key_share=True)


def look(session: Session, keys: Iterable[Key], *, is_locking: bool = False) -> dict[Key, Any]:
    """Return what is known of these endpoints; locked, nobody else changes it before the commit."""
    wanted = set(keys)
    if not wanted:
        return {}
    names = {
        "tenants": sorted({organization_id for organization_id, _ in wanted}),
        "ids": sorted({endpoint_id for _, endpoint_id in wanted}),
    }
    rows = session.connection().execute(_LOCK if is_locking else _LOOK, names)
    return {(row[0], row[1]): row for row in rows}


def is_troubled(row: Any) -> bool:
    """Tell whether a success would change anything on the endpoint's row."""
    return bool(
        row.failing_since is not None
        or row.failure_streak
        or row.probe_count
        or row.circuit != "closed"
    )


def judge(
    session: Session, answers: Mapping[Key, Sequence[Answer]], rows: Mapping[Key, Any]
) -> None:
    """Learn from the tries of endpoints whose rows are locked; a healthy one costs nothing."""
    now = store_now(session)
    for key in sorted(answers):
        row, said = rows[key], answers[key]
        change = _health(row, said, now)
        is_closing = row.state == "active" and _circuit(row, said, now, change)
        if change:
            session.execute(update(ENDPOINT).where(_is(key)).values(**change))
        if is_closing:
            close(session, key)


def _is(key: Key) -> Any:
    return (ENDPOINT.c.organization_id == key[0]) & (ENDPOINT.c.id == key[1])


def _health(row: Any, said: Sequence[Answer], now: datetime) -> dict[str, Any]:
    """Return what the tries change about the endpoint: since when it fails, and its streak."""
    change: dict[str, Any] = {}
    is_well = any(one.is_good for one in said)
    if is_well and row.failing_since is not None:
        change["failing_since"] = None
    elif not is_well and row.failing_since is None and any(one.is_blamed for one in said):
        change["failing_since"] = now
    streak, since = row.failure_streak, row.streak_since
    if since is not None and now - since > WITHIN:
        streak, since = 0, None
    for one in said:
        if one.is_down:
            streak, since = streak + 1, since or now
        elif one.is_blamed or one.is_good:
            streak, since = 0, None
    if streak != row.failure_streak:
        change |= {"failure_streak": streak, "streak_since": since}
    if is_well and row.probe_count and row.circuit == "closed":
        change["probe_count"] = 0
    return change


def _circuit(row: Any, said: Sequence[Answer], now: datetime, change: dict[str, Any]) -> bool:
    """Add to `change` what opens the circuit or keeps it open; True when it is to be closed."""
    if row.circuit_cause == "suspended":
        return False  # whatever the target says: only resuming the organization lets things go
    asked = max((one.asked_seconds for one in said), default=0.0)
    is_open = row.circuit == "open"
    since = row.circuit_since if is_open else now
    if asked > 0:
        at = now + timedelta(seconds=asked)
        at = max(at, row.circuit_at) if is_open and row.circuit_at else at
        change |= _opened("asked", since, at)
        return False
    if is_open:
        if any(one.is_good or (one.is_blamed and not one.is_down) for one in said):
            return True
        if any(one.delivery_id == row.probe_id and one.is_blamed for one in said):
            count = row.probe_count + 1
            change |= {"probe_count": count, **_opened("down", since, now + pause(count))}
        return False
    if change.get("failure_streak", 0) >= THRESHOLD:
        change |= _opened("down", since, now + pause(row.probe_count))
    return False


def _opened(cause: str, since: datetime, at: datetime) -> dict[str, Any]:
    return {
        "circuit": "open",
        "circuit_cause": cause,
        "circuit_since": since,
        "circuit_at": at,
        "probe_id": None,
    }


def pause(count: int, chance: float | None = None) -> timedelta:
    """Return how long to wait for the next probe after `count` in vain; `chance` 0..1 jitters."""
    chance = random.random() if chance is None else chance  # noqa: S311 - spreads load
    seconds = min(PROBE_SECONDS * 2 ** min(count, 10), LONGEST_PROBE_SECONDS / (1 + JITTER))
    return timedelta(seconds=seconds * (1 + JITTER * chance))


CLOSED = {
    "circuit": "closed",
    "circuit_cause": None,
    "circuit_since": None,
    "circuit_at": None,
    "probe_id": None,
    "sends_missed": False,
}


def close(session: Session, key: Key) -> None:
    """Close the circuit of a locked endpoint and let go what was held, a first portion at once."""
    values = {**CLOSED, "failure_streak": 0, "streak_since": None, "probe_count": 0}
    del values["sends_missed"]
    session.execute(update(ENDPOINT).where(_is(key)).values(**values))
    refill(session, key)


def refill(session: Session, key: Key) -> int:
    """Let the oldest held deliveries of a locked endpoint go, as many as one turn may, evenly
    over its seconds; says on the endpoint whether more wait. Returns how many were let go.
    """
    now, most = store_now(session), RATE_PER_SECOND * TURN_SECONDS
    held = _held(session, look(session, [key])[key], most + 1)
    for second in range(0, len(held[:most]), RATE_PER_SECOND):
        at = now + timedelta(seconds=second // RATE_PER_SECOND)
        some = held[:most][second : second + RATE_PER_SECOND]
        session.connection().execute(_LET_GO, {"tenant": key[0], "ids": some, "at": at})
    values: dict[str, Any] = CLOSED
    if len(held) > most:
        values = {"circuit": "refilling", "circuit_at": now + timedelta(seconds=TURN_SECONDS)}
    session.execute(update(ENDPOINT).where(_is(key)).values(**values))
    if held:
        queue.nudge(session, _TASK)
    return min(len(held), most)


_LET_GO = (
    update(DELIVERY)
    .where(DELIVERY.c.organization_id == bindparam("tenant"), one_of(DELIVERY.c.id, "ids"))
    .where(leases.is_in(DELIVERY.c.state, "waiting", "parked"))
    .values(
        state="due",
        next_at=bindparam("at"),
        ladder_step=case((DELIVERY.c.state == "parked", 0), else_=DELIVERY.c.ladder_step),
    )
)
_HELD = (
    select(DELIVERY.c.id)
    .where(
        DELIVERY.c.organization_id == bindparam("tenant"),
        DELIVERY.c.endpoint_id == bindparam("endpoint"),
        leases.is_in(DELIVERY.c.state, "waiting", "parked"),
        or_(
            (DELIVERY.c.state == "waiting")
            & DELIVERY.c.next_at.is_(None)
            & DELIVERY.c.lane.is_(None),
            (DELIVERY.c.state == "parked")
            & DELIVERY.c.last_problem.in_(MISSED)
            & (bindparam("missed", type_=Boolean) == true()),
        ),
    )
    .order_by(DELIVERY.c.event_id)
    .limit(bindparam("most"))
)


def _held(session: Session, row: Any, most: int) -> list[str]:
    """Name the oldest deliveries that wait without a time, of those in lanes only the heads; and
    what was parked while the endpoint was off, if it is to be sent.
    """
    key = row.organization_id, row.id
    if row.ordering != "none":
        return lanes.held_heads(session, key, most)
    wanted = {"tenant": key[0], "endpoint": key[1], "most": most, "missed": row.sends_missed}
    return list(session.connection().execute(_HELD, wanted).scalars())


def sweep() -> int:
    """Probe the targets whose turn it is and let held deliveries go; returns how many moved."""
    with reading(EVERY) as session:
        found = session.execute(_next(session).limit(1)).first()
    return write(_turn) if found else 0


def _next(session: Session) -> Any:
    wanted = select(ENDPOINT.c.organization_id, ENDPOINT.c.id)
    return wanted.where(ENDPOINT.c.circuit_at <= store_now(session)).order_by(ENDPOINT.c.circuit_at)


def _turn(session: Session) -> int:
    chosen = _next(session).limit(_ENDPOINTS_AT_ONCE)
    keys = session.execute(chosen.with_for_update(key_share=True, skip_locked=True)).all()
    moved = 0
    for key, row in look(session, [(one[0], one[1]) for one in keys]).items():
        moved += probe(session, key, row) if row.circuit == "open" else refill(session, key)
    return moved


def probe(session: Session, key: Key, row: Any) -> int:
    """Let one held delivery of a locked endpoint with an open circuit go, to see what happens.

    When none is held the circuit closes on probation: the next failure opens it again.
    """
    now = store_now(session)
    if row.probe_id is not None and _is_under_way(session, key[0], row.probe_id):
        expect(session, key, row.probe_id)
        return 0
    held = _held(session, row, 1)
    if not held:
        on_probation = {"failure_streak": THRESHOLD - 1, "streak_since": now}
        session.execute(update(ENDPOINT).where(_is(key)).values(**CLOSED, **on_probation))
        return 0
    let_go = {"tenant": key[0], "ids": held, "at": now}
    session.connection().execute(_LET_GO, let_go)
    expect(session, key, held[0])
    queue.nudge(session, _TASK)
    return 1


def _is_under_way(session: Session, organization_id: str, delivery_id: str) -> bool:
    found = select(DELIVERY.c.id).where(
        DELIVERY.c.organization_id == organization_id,
        DELIVERY.c.id == delivery_id,
        DELIVERY.c.state.in_(("due", "leased")),
    )
    return session.execute(found).first() is not None


def expect(session: Session, key: Key, delivery_id: str) -> None:
    """Make a delivery that is due the probe of a locked endpoint whose circuit is open."""
    values = {"probe_id": delivery_id, "circuit_at": store_now(session) + PROBE_LOST}
    session.execute(update(ENDPOINT).where(_is(key)).values(**values))
