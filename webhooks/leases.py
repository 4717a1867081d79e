"""Leases: who works on which event or delivery, shared out fairly over tenants and endpoints.

A lease is an owner, an epoch that counts leases, and an end by the store's clock. Whoever writes
results shows owner and epoch; after the end the row goes to somebody else and they no longer fit.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    Select,
    case,
    exists,
    func,
    literal,
    literal_column,
    select,
    text,
    union_all,
    update,
)
from sqlmodel import Session

from kernel.database import Document, store_now
from kernel.errors import N_
from kernel.ids import new_id
from webhooks.tables import DELIVERY, ENDPOINT, EVENT

LEASE_SECONDS = 60
BATCH = 50
# How many of those that were in so many crashes go together: one that kills its worker is soon
# found among fewer and fewer, and the innocent are not set aside along with it.
TOGETHER = (BATCH, 12, 3)
MAX_CRASHES = 7
# Workers die of other things than a delivery far more often than of one, so it gets more chances.
MAX_DELIVERY_CRASHES = 10
SUSPECT_SHARE = 0.1
IN_FLIGHT_PER_ENDPOINT = 4
_TENANTS = 200


def is_in(column: Any, *states: str) -> Any:
    """Compare a state with words written into the statement: only then a partial index serves."""
    words: list[Any] = [literal_column(f"'{state}'") for state in states]
    return column == words[0] if len(words) == 1 else column.in_(words)


def any_of(table: Any, keys: Iterable[tuple[str, str]]) -> Any:
    """Match rows by primary key; written so that both databases walk the key's index."""
    pairs = list(keys)
    organizations = sorted({organization_id for organization_id, _ in pairs})
    return table.c.organization_id.in_(organizations) & table.c.id.in_([key for _, key in pairs])


_IS_NEW = is_in(EVENT.c.state, "new")
_IS_WAITING = is_in(DELIVERY.c.state, "due", "waiting")

# Jumps from tenant to tenant along the partial index instead of reading every ready row.
_TENANTS_WITH_EVENTS = text(
    "WITH RECURSIVE tenant(id) AS ("
    " SELECT min(organization_id) FROM event WHERE state = 'new'"
    " UNION ALL SELECT (SELECT min(organization_id) FROM event"
    " WHERE state = 'new' AND organization_id > tenant.id) FROM tenant WHERE tenant.id IS NOT NULL"
    ") SELECT id FROM tenant WHERE id IS NOT NULL LIMIT :most"
)
_TENANTS_WITH_DELIVERIES = text(
    "WITH RECURSIVE tenant(id) AS ("
    " SELECT min(organization_id) FROM delivery WHERE state IN ('due', 'waiting')"
    " UNION ALL SELECT (SELECT min(organization_id) FROM delivery"
    " WHERE state IN ('due', 'waiting') AND organization_id > tenant.id)"
    " FROM tenant WHERE tenant.id IS NOT NULL"
    ") SELECT id FROM tenant WHERE id IS NOT NULL LIMIT :most"
)


def _some(found: Sequence[str], most: int) -> list[str]:
    """Take all of them, or a random few, so that over many rounds everybody has a turn."""
    return list(found) if len(found) <= most else random.sample(list(found), most)


def _first_of_each(selects: Iterable[Select[Any]]) -> Any:
    """Join limited selects; the inner ones lock their rows on PostgreSQL and skip locked ones."""
    parts = [select(part.with_for_update(skip_locked=True).subquery()) for part in selects]
    return parts[0] if len(parts) == 1 else union_all(*parts)


_EVENT_COLUMNS = (
    EVENT.c.organization_id,
    EVENT.c.id,
    EVENT.c.source_id,
    EVENT.c.origin,
    EVENT.c.type,
    EVENT.c.version,
    EVENT.c.subject,
    EVENT.c.occurred_at,
    EVENT.c.received_at,
    EVENT.c.content_type,
    EVENT.c.body,
    EVENT.c.replay_nonce,
    EVENT.c.lease_epoch,
    EVENT.c.crash_count,
)


def claim_events(session: Session, worker_id: str, limit: int = BATCH) -> list[dict[str, Any]]:
    """Lease up to `limit` new events, evenly over tenants; gives their columns, oldest first.

    Events that were in a crash before come in ever smaller parties, in the end alone.
    """
    # a backlog must not keep suspects waiting for ever, so they sometimes go first
    suspects_first = random.random() < SUSPECT_SHARE  # noqa: S311
    rows = _suspect(session) if suspects_first else _ordinary(session, limit)
    if not rows:
        rows = _ordinary(session, limit) if suspects_first else _suspect(session)
    claimed = _lease(session, EVENT, worker_id, rows)
    claimed.sort(key=lambda row: row["id"])
    return claimed


def _ordinary(session: Session, limit: int) -> Sequence[Any]:
    tenants = session.execute(_TENANTS_WITH_EVENTS, {"most": _TENANTS}).scalars().all()
    if not tenants:
        return []
    tenants = _some(tenants, limit)
    ready = [
        select(*_EVENT_COLUMNS)
        .where(EVENT.c.organization_id == tenant, _IS_NEW, EVENT.c.crash_count == 0)
        .order_by(EVENT.c.id)
        .limit(max(1, limit // len(tenants)))
        for tenant in tenants
    ]
    return session.execute(_first_of_each(ready)).mappings().all()


def _suspect(session: Session) -> Sequence[Any]:
    some = select(*_EVENT_COLUMNS).where(_IS_NEW, EVENT.c.crash_count > literal_column("0"))
    rows = session.execute(some.limit(BATCH).with_for_update(skip_locked=True)).mappings().all()
    return party(rows, lambda row: row["crash_count"])


def party(rows: Sequence[Any], crashes: Callable[[Any], int]) -> Sequence[Any]:
    """Choose, out of rows that were in crashes before, those that may be tried together."""
    if not rows:
        return []
    count = crashes(random.choice(rows))  # noqa: S311
    alike = [row for row in rows if crashes(row) == count]
    return random.sample(alike, min(len(alike), TOGETHER[count] if count < len(TOGETHER) else 1))


def claim_deliveries(
    session: Session, worker_id: str, slow: frozenset[str], *, is_slow: bool, limit: int = BATCH
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Lease due deliveries with their endpoints, evenly over tenants and a few per endpoint.

    With `is_slow` only endpoints in `slow` are served, without it only the others.
    """
    now = store_now(session)
    if not is_delivery_due(session, now):
        return []
    tenants = session.execute(_TENANTS_WITH_DELIVERIES, {"most": _TENANTS}).scalars().all()
    due = (
        exists()
        .where(DELIVERY.c.organization_id == ENDPOINT.c.organization_id)
        .where(DELIVERY.c.endpoint_id == ENDPOINT.c.id)
        .where(_IS_WAITING, DELIVERY.c.next_at <= now)
    )
    found = (
        session.execute(
            select(ENDPOINT).where(
                ENDPOINT.c.organization_id.in_(_some(tenants, limit)),
                ENDPOINT.c.state == "active",
                due,
            )
        )
        .mappings()
        .all()
    )
    endpoints = _even_share([dict(row) for row in found if (row["id"] in slow) is is_slow], limit)
    if not endpoints:
        return []
    candidates = [
        select(DELIVERY)
        .where(
            DELIVERY.c.organization_id == endpoint["organization_id"],
            DELIVERY.c.endpoint_id == endpoint["id"],
            _IS_WAITING,
            DELIVERY.c.next_at <= now,
        )
        .order_by(DELIVERY.c.next_at)
        .limit(IN_FLIGHT_PER_ENDPOINT if is_slow or len(endpoints) > 1 else limit)
        for endpoint in endpoints
    ]
    rows = session.execute(_first_of_each(candidates)).mappings().all()[:limit]
    claimed = _lease(session, DELIVERY, worker_id, rows)
    by_id = {(e["organization_id"], e["id"]): e for e in endpoints}
    return [(row, by_id[row["organization_id"], row["endpoint_id"]]) for row in claimed]


def _even_share(endpoints: list[dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    """Deal endpoints out one per tenant and round, so that no tenant fills the batch alone."""
    random.shuffle(endpoints)
    rounds: dict[str, int] = {}
    dealt = []
    for endpoint in endpoints:
        tenant = endpoint["organization_id"]
        rounds[tenant] = rounds.get(tenant, 0) + 1
        dealt.append((rounds[tenant], endpoint))
    dealt.sort(key=lambda pair: pair[0])
    return [endpoint for _, endpoint in dealt[:limit]]


def is_delivery_due(session: Session, now: datetime) -> bool:
    """Tell whether any delivery waits for its turn by now."""
    due = select(DELIVERY.c.id).where(_IS_WAITING, DELIVERY.c.next_at <= now)
    return session.execute(due.limit(1)).first() is not None


def is_event_ready(session: Session) -> bool:
    """Tell whether any event waits to be routed."""
    ready = select(EVENT.c.id).where(_IS_NEW).limit(1)
    return session.execute(ready).first() is not None


def lease_end(session: Session) -> datetime:
    """Return the end of a lease that starts now, by the store's clock."""
    return store_now(session) + timedelta(seconds=LEASE_SECONDS)


def _lease(
    session: Session, table: Any, worker_id: str, rows: Sequence[Any]
) -> list[dict[str, Any]]:
    """Lease found rows; the owner's name is new each time, so that no two leases share one."""
    if not rows:
        return []
    owner = owner_name(worker_id)
    keys = [(row["organization_id"], row["id"]) for row in rows]
    session.execute(
        update(table)
        .where(any_of(table, keys))
        .values(
            state="leased",
            lease_owner=owner,
            lease_epoch=table.c.lease_epoch + 1,
            lease_until=lease_end(session),
        )
    )
    return [dict(row, lease_owner=owner, lease_epoch=row["lease_epoch"] + 1) for row in rows]


def owner_name(worker_id: str) -> str:
    """Name one lease of a worker."""
    return f"{worker_id}/{new_id('ls')}"


def fence(table: Any, owner: str, keys: Iterable[tuple[str, str]]) -> Any:
    """Return the condition that only rows still under this lease fulfil."""
    return any_of(table, keys) & (table.c.lease_owner == owner) & is_in(table.c.state, "leased")


def reclaim(session: Session) -> int:
    """Take back what leases ran out on; what was in too many crashes is set aside for a person."""
    now = store_now(session)
    return _reclaim_events(session, EVENT.c.lease_until < now) + _reclaim_deliveries(
        session, DELIVERY.c.lease_until < now, now
    )


def release(session: Session, worker_id: str) -> int:
    """Take back what a worker held that is known to be gone."""
    return _reclaim_events(session, is_held_by(EVENT, worker_id)) + _reclaim_deliveries(
        session, is_held_by(DELIVERY, worker_id), store_now(session)
    )


def is_held_by(table: Any, worker_id: str) -> Any:
    """Match rows of any lease of a worker."""
    prefix = f"{worker_id}/"
    return func.substr(table.c.lease_owner, 1, len(prefix)) == prefix


def _reclaim_events(session: Session, is_over: Any) -> int:
    too_often = EVENT.c.crash_count + 1 >= MAX_CRASHES
    said = {"code": "quarantined", "detail": N_("Routing it stopped half-way several times")}
    result: Any = session.execute(
        update(EVENT)
        .where(is_in(EVENT.c.state, "leased"), is_over)
        .values(
            state=case((too_often, "quarantined"), else_="new"),
            problem=func.coalesce(
                EVENT.c.problem, case((too_often, literal(said, Document)), else_=None)
            ),
            crash_count=EVENT.c.crash_count + 1,
            lease_owner=None,
            lease_until=None,
        )
    )
    return int(result.rowcount)


def _reclaim_deliveries(session: Session, is_over: Any, now: datetime) -> int:
    too_often = DELIVERY.c.crash_count + 1 >= MAX_DELIVERY_CRASHES
    result: Any = session.execute(
        update(DELIVERY)
        .where(is_in(DELIVERY.c.state, "leased"), is_over)
        .values(
            state=case((too_often, "parked"), else_="waiting"),
            last_problem=case((too_often, "interrupted"), else_=DELIVERY.c.last_problem),
            next_at=now,
            crash_count=DELIVERY.c.crash_count + 1,
            lease_owner=None,
            lease_until=None,
        )
    )
    return int(result.rowcount)


def is_lease_over(session: Session) -> bool:
    """Tell whether any lease ran out, without writing."""
    now = store_now(session)
    return any(
        session.execute(
            select(table.c.id)
            .where(is_in(table.c.state, "leased"), table.c.lease_until < now)
            .limit(1)
        ).first()
        for table in (EVENT, DELIVERY)
    )
