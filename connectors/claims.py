"""Claiming ready runs under a lease, fairly over organizations and lanes."""

import random
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, case, select, text, union_all, update
from sqlmodel import Session, col

from connectors import holding, order_lanes
from connectors.keys import Key, among
from connectors.tables import Run
from identity import suspensions
from kernel.database import EVERY, reading, store_now, write

LEASE_SECONDS = 60
# How many of those that were in so many crashes go together: one that kills its worker is soon
# found among fewer and fewer, and the innocent are not set aside along with it.
TOGETHER = (50, 8)
MAX_CRASHES = 5
SUSPECT_SHARE = 0.25
LANES_PER_LOOK = 64
READY = ("due", "waiting")

# Steps from lane to lane along the index instead of reading every ready row of a long queue.
_LANES = text(
    """
    WITH RECURSIVE lanes(lane) AS (
      SELECT (SELECT min(lane) FROM run WHERE state IN ('due', 'waiting') AND lane > :after)
      UNION ALL
      SELECT (SELECT min(run.lane) FROM run
              WHERE run.state IN ('due', 'waiting') AND run.lane > lanes.lane)
      FROM lanes WHERE lanes.lane IS NOT NULL
    )
    SELECT lane FROM lanes WHERE lane IS NOT NULL LIMIT :most
    """
)
# A run of a flow with an order waits until every event in front of its own is routed: one of them
# may belong before it.
_IS_FREE = text(
    "(run.order_key IS NULL OR NOT EXISTS (SELECT 1 FROM event"
    " WHERE event.organization_id = run.organization_id AND event.state = 'new'"
    " AND event.id < run.event_id))"
)
_QUARANTINE = {
    "zh": "处理这一次运行时程序多次意外退出，已停下以免影响其他流程",
    "en": "The hub stopped several times while working on this run; "
    "it was set aside so that it cannot disturb others",
}
_start_after: dict[
    str, str
] = {}  # where each worker's next look begins, so that no lane waits long


def claim(
    worker_id: str,
    *,
    limit: int = 50,
    pace: "dict[str, int] | None" = None,
    busy: Collection[str] = (),
) -> list[Any]:
    """Lease up to `limit` ready runs to the worker and return their rows.

    `pace` bounds how many runs of one lane go along (default: the limit); lanes in `busy` are
    left alone. Runs that were in a crash come in parties of their own, the smaller the more often.
    """
    chosen, is_left_behind = _look(worker_id, limit, pace or {}, busy)
    if is_left_behind:
        write(_put_back_crashed)
        chosen, _ = _look(worker_id, limit, pace or {}, busy)
    if not chosen:
        return []
    return write(lambda session: take(session, worker_id, chosen))


def _look(
    worker_id: str, limit: int, pace: dict[str, int], busy: Collection[str]
) -> tuple[list[Key], bool]:
    """Choose what to claim, and tell whether a worker left something behind."""
    # a backlog must not keep suspects waiting for ever, so they sometimes go first
    suspects_first = random.random() < SUSPECT_SHARE  # noqa: S311
    with reading(EVERY) as session:
        now = store_now(session)
        chosen = _suspects(session, now, busy) if suspects_first else []
        chosen = chosen or _choose(session, worker_id, now, limit, pace, busy)
        return chosen or _suspects(session, now, busy), _is_left_behind(session, now)


# The states stand word for word as the partial indexes have them, and the order is theirs:
# PostgreSQL would else read the table, hoping to meet one soon.
_DUE = (
    select(col(Run.id))
    .where(text("state IN ('due', 'waiting')"), col(Run.next_at) <= bindparam("now"))
    .order_by(col(Run.next_at))
    .limit(1)
)
_LEFT_BEHIND = (
    select(col(Run.id))
    .where(text("state = 'leased'"), col(Run.lease_until) < bindparam("now"))
    .order_by(col(Run.lease_until))
    .limit(1)
)


def is_any_due(session: Session) -> bool:
    """Tell whether some run of any organization is ready, or was left behind by a worker."""
    now = store_now(session)
    is_due = session.connection().execute(_DUE, {"now": now}).first() is not None
    return is_due or _is_left_behind(session, now)


_HELD_UP = (
    select(col(Run.id))
    .where(
        text("state IN ('due', 'waiting')"),
        col(Run.next_at) <= bindparam("now"),
        col(Run.order_key).is_not(None),
    )
    .limit(1)
)


def is_any_held_up() -> bool:
    """Tell whether a run that is due in an order waits for events in front to be routed."""
    with reading(EVERY) as session:
        now = {"now": store_now(session)}
        return session.connection().execute(_HELD_UP, now).first() is not None


def _is_left_behind(session: Session, now: datetime) -> bool:
    return session.connection().execute(_LEFT_BEHIND, {"now": now}).first() is not None


def _suspects(session: Session, now: datetime, busy: Collection[str]) -> list[Key]:
    statement = (
        select(col(Run.organization_id), col(Run.id), col(Run.lane), col(Run.crash_count))
        .where(
            text("state IN ('due', 'waiting') AND crash_count > 0"),
            col(Run.next_at) <= now,
            _IS_FREE,
        )
        .order_by(col(Run.next_at))
        .limit(100)
    )
    rows = [row for row in session.execute(statement).all() if row[2] not in busy]
    if not rows:
        return []
    crashes = random.choice(rows)[3]  # noqa: S311
    alike = [(row[0], row[1]) for row in rows if row[3] == crashes]
    most = TOGETHER[crashes] if crashes < len(TOGETHER) else 1
    return random.sample(alike, min(len(alike), most))


def _choose(
    session: Session,
    worker_id: str,
    now: datetime,
    limit: int,
    pace: dict[str, int],
    busy: Collection[str],
) -> list[Key]:
    found: dict[str, dict[str, deque[str]]] = {}
    enough = 0
    after = _start_after.get(worker_id, "")
    for beginning in dict.fromkeys((after, "")):
        lanes = list(
            session.execute(_LANES, {"after": beginning, "most": LANES_PER_LOOK}).scalars()
        )
        lanes = [lane for lane in lanes if lane not in busy]
        for organization_id, run_id, lane in _ready(session, lanes, now, limit, pace):
            queue = found.setdefault(organization_id, {}).setdefault(lane, deque())
            if run_id not in queue:
                queue.append(run_id)
                enough += 1
        _start_after[worker_id] = lanes[-1] if len(lanes) >= LANES_PER_LOOK // 2 else ""
        if enough >= limit:
            break
    return _deal(found, limit)


def _ready(
    session: Session, lanes: Sequence[str], now: datetime, limit: int, pace: dict[str, int]
) -> Iterable[Any]:
    if not lanes:
        return []
    parts = []
    for lane in lanes:
        inner = (
            select(col(Run.organization_id), col(Run.id), col(Run.lane))
            .where(
                text("state IN ('due', 'waiting')"),  # word for word as the partial index has it
                col(Run.crash_count) == 0,
                col(Run.lane) == lane,
                col(Run.next_at) <= now,
                _IS_FREE,
            )
            .order_by(col(Run.next_at), col(Run.id))
            .limit(min(limit, pace.get(lane, limit)))
            .subquery()
        )
        parts.append(select(inner))
    return session.execute(union_all(*parts)).all()


def _deal(found: dict[str, dict[str, deque[str]]], limit: int) -> list[Key]:
    """Take one run of each organization in turn, and in it one of each lane in turn."""
    chosen: list[Key] = []
    turns = deque((owner, deque(lanes.values())) for owner, lanes in sorted(found.items()))
    while turns and len(chosen) < limit:
        owner, lanes = turns.popleft()
        queue = lanes.popleft()
        chosen.append((owner, queue.popleft()))
        if queue:
            lanes.append(queue)
        if lanes:
            turns.append((owner, lanes))
    return chosen


def take(session: Session, worker_id: str, chosen: Sequence[Key]) -> list[Any]:
    """Lease those of the chosen runs that are ready, and return their rows."""
    chosen = _not_held(session, chosen)
    if not chosen:
        return []
    now = store_now(session)
    free = (among(Run, chosen), col(Run.state).in_(READY), col(Run.next_at) <= now, _IS_FREE)
    if session.get_bind().dialect.name == "postgresql":
        # another worker's rows are passed over instead of waited for; the update names the rows
        # themselves, as PostgreSQL would read the whole table for an update of a locking subquery
        locked = select(col(Run.organization_id), col(Run.id)).where(*free)
        rows = session.execute(locked.with_for_update(skip_locked=True))
        mine = [(row[0], row[1]) for row in rows]
        free = (among(Run, mine), *free[1:])
    statement = (
        update(Run)
        .where(*free)
        .values(
            state="leased",
            lease_owner=worker_id,
            lease_epoch=col(Run.lease_epoch) + 1,
            lease_until=now + timedelta(seconds=LEASE_SECONDS),
            started_at=case((col(Run.started_at).is_(None), now), else_=col(Run.started_at)),
        )
        .returning(*Run.__table__.c)  # type: ignore[attr-defined]
        .execution_options(synchronize_session=False)
    )
    return list(session.execute(statement).all())


def _not_held(session: Session, chosen: Sequence[Key]) -> Sequence[Key]:
    """Leave out, and hold, the runs of suspended organizations."""
    owners = {owner for owner, _ in chosen}
    found = session.execute(suspensions.suspended_ids()).scalars()
    held = {owner for owner in owners.intersection(found) if suspensions.is_held(session, owner)}
    for owner in sorted(held):
        holding.hold(session, owner, suspensions.PORTION)
    return [key for key in chosen if key[0] not in held]


def release(session: Session, worker_id: str) -> int:
    """Take back what a worker held that is known to be gone."""
    return _put_back(session, col(Run.lease_owner) == worker_id)


def _put_back_crashed(session: Session) -> int:
    return _put_back(session, col(Run.lease_until) < store_now(session))


def _put_back(session: Session, is_over: Any) -> int:
    """Make runs whose worker went away ready again; what keeps killing workers is set aside."""
    now = store_now(session)
    gone = (text("state = 'leased'"), is_over)
    options = {"synchronize_session": False}
    too_often = (*gone, col(Run.crash_count) + 1 >= MAX_CRASHES)
    in_order = (
        select(col(Run.organization_id), col(Run.flow_id))
        .where(*too_often, col(Run.order_key).is_not(None))
        .distinct()
    )
    order_lanes.lock(session, [(row[0], row[1]) for row in session.execute(in_order)])
    aside = session.execute(
        update(Run)
        .where(*too_often)
        .values(
            state="parked",
            cause="quarantined",
            say=_QUARANTINE,
            detail=None,
            crash_count=col(Run.crash_count) + 1,
            lease_owner=None,
            lease_until=None,
            next_at=None,
            finished_at=now,
        )
        .returning(col(Run.organization_id), col(Run.flow_id), col(Run.order_key))
        .execution_options(**options)
    ).all()
    order_lanes.settle(session, [(row[0], row[1], row[2]) for row in aside if row[2] is not None])
    ready: Any = session.execute(
        update(Run)
        .where(*gone)
        .values(
            state="due",
            crash_count=col(Run.crash_count) + 1,
            lease_owner=None,
            lease_until=None,
            next_at=now,
        )
        .execution_options(**options)
    )
    return len(aside) + int(ready.rowcount)
