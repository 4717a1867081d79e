"""Claiming completions under a lease: the first of each lane, a few of each organization."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, delete, or_, select, text, update
from sqlmodel import Session

from connectors.completing.tables import COMPLETION, Completion
from identity import suspensions
from kernel.database import store_now

LEASE_SECONDS = 120  # longer than a turn with its calls
MAX_CRASHES = 3
KEPT = timedelta(days=7)  # how long a completion that is done is there to be looked at
_WAITING = text("completion.state IN ('due', 'waiting')")  # as the partial index has it


@dataclass(frozen=True, slots=True)
class Held:
    """What a worker holds: the row as it was claimed, and by which lease."""

    row: Completion
    owner: str
    epoch: int


def _is_free(now: datetime) -> tuple[Any, ...]:
    earlier = COMPLETION.alias("earlier")
    in_front = select(earlier.c.id).where(
        earlier.c.organization_id == COMPLETION.c.organization_id,
        earlier.c.lane == COMPLETION.c.lane,
        earlier.c.event_id < COMPLETION.c.event_id,
        earlier.c.state.in_(("due", "waiting", "leased")),
    )
    return (
        _WAITING,
        COMPLETION.c.next_at <= now,
        COMPLETION.c.organization_id.not_in(suspensions.suspended_ids()),
        ~in_front.exists(),
    )


def is_any_due(session: Session) -> bool:
    """Tell whether something could be claimed, or was left behind; without writing."""
    now = store_now(session)
    due = select(COMPLETION.c.id).where(*_is_free(now)).limit(1)
    if session.execute(due).first() is not None:
        return True
    over = and_(text("state = 'leased'"), COMPLETION.c.lease_until < now)
    return session.execute(select(COMPLETION.c.id).where(over).limit(1)).first() is not None


def claim(session: Session, worker_id: str, limit: int) -> list[Held]:
    """Lease what is due, after giving back what leases ran out on."""
    now = store_now(session)
    _put_back(session, COMPLETION.c.lease_until < now, now)
    statement = (
        select(COMPLETION.c.organization_id, COMPLETION.c.id)
        .where(*_is_free(now))
        .order_by(COMPLETION.c.next_at, COMPLETION.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True, of=COMPLETION)
    )
    found = [session.get(Completion, tuple(key)) for key in session.execute(statement)]
    rows = [row for row in found if row is not None]
    for row in rows:
        row.state, row.lease_owner, row.lease_epoch = "leased", worker_id, row.lease_epoch + 1
        row.lease_until = now + timedelta(seconds=LEASE_SECONDS)
    session.flush()
    return [Held(row, worker_id, row.lease_epoch) for row in rows]


def held(session: Session, one: Held) -> Completion | None:
    """Return the row for writing while the lease is still the worker's, else None."""
    statement = (
        select(Completion)
        .where(
            COMPLETION.c.organization_id == one.row.organization_id,
            COMPLETION.c.id == one.row.id,
            COMPLETION.c.state == "leased",
            COMPLETION.c.lease_owner == one.owner,
            COMPLETION.c.lease_epoch == one.epoch,
        )
        .with_for_update()
    )
    return session.execute(statement).scalar_one_or_none()


def release(session: Session, worker_id: str) -> int:
    """Give back what a worker held that is known to be gone."""
    return _put_back(session, COMPLETION.c.lease_owner == worker_id, store_now(session))


def _put_back(session: Session, is_over: Any, now: datetime) -> int:
    """Let it be claimed again; what keeps ending its worker is set aside for a person."""
    gone = (text("state = 'leased'"), is_over)
    ended: Any = session.execute(
        update(COMPLETION)
        .where(*gone, COMPLETION.c.crash_count + 1 >= MAX_CRASHES)
        .values(
            state="dead", next_at=None, lease_until=None, finished_at=now, problem=_KEPT_CRASHING
        )
    )
    freed: Any = session.execute(
        update(COMPLETION)
        .where(*gone)
        .values(
            state="due",
            next_at=now,
            lease_owner=None,
            lease_until=None,
            crash_count=COMPLETION.c.crash_count + 1,
        )
    )
    return int(ended.rowcount) + int(freed.rowcount)


def forget_old(session: Session) -> int:
    """Delete what has been done for a while; what is dead stays until its event goes."""
    before = store_now(session) - KEPT
    gone: Any = session.execute(
        delete(COMPLETION).where(COMPLETION.c.state == "done", COMPLETION.c.finished_at < before)
    )
    return int(gone.rowcount)


def of_events(organization_id: str, event_ids: Sequence[str]) -> Any:
    """Match the completions of some events."""
    return and_(
        COMPLETION.c.organization_id == organization_id, COMPLETION.c.event_id.in_(event_ids)
    )


def is_open() -> Any:
    """Match what somebody still works at, or must look at."""
    return or_(COMPLETION.c.state != "done", COMPLETION.c.problem.is_not(None))


_KEPT_CRASHING = {
    "cause": "quarantined",
    "say": {
        "zh": "补全这个事件时程序几次中断，已停下以免影响其他事件",
        "en": "Completing this event ended its worker several times; it was set aside so that it "
        "cannot disturb others",
    },
    "detail": None,
}
