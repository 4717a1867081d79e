"""Leases: who works on which delivery, shared out fairly over tenants and endpoints.

A lease is an owner, an epoch that counts leases, and an end by the store's clock. Whoever writes
results shows owner and epoch; after the end the row goes to somebody else and they no longer fit.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    Select,
    bindparam,
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

from kernel.columns import Moment
from kernel.database import store_now
from kernel.ids import new_id
from webhooks.tables import DELIVERY, ENDPOINT

LEASE_SECONDS = 60
BATCH = 50
# How many of those that were in so many crashes go together: one that kills its worker is soon
# found among fewer and fewer, and the innocent are not parked along with it.
TOGETHER = (50, 8)
MAX_DELIVERY_CRASHES = 5
SUSPECT_SHARE = 0.25
# Requests of one claim that are under way to an endpoint at once, unless its owner says otherwise.
IN_FLIGHT_PER_ENDPOINT = 8
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


_IS_WAITING = is_in(DELIVERY.c.state, "due", "waiting")

# Jumps from tenant to tenant along the partial index instead of reading every ready row.
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


def claim_deliveries(
    session: Session, worker_id: str, slow: frozenset[str], *, is_slow: bool, limit: int = BATCH
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Lease due deliveries with their endpoints, evenly over tenants and a few per endpoint.

    With `is_slow` only endpoints in `slow` are served, without it only the others.
    """
    now = store_now(session)
    if not is_delivery_due(session):
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
                ENDPOINT.c.ordering == "none",
                due,
            )
        )
        .mappings()
        .all()
    )
    served = [dict(row) for row in found if (row["id"] in slow) is is_slow]
    _settle(session, served)
    _hold(session, [one for one in served if one["circuit"] == "open"], now)
    endpoints = even_share([one for one in served if _may_send(one)], limit)
    room = room_of(session, endpoints)
    endpoints = [one for one in endpoints if room.get(one["id"], 1) > 0]
    if not endpoints:
        return []
    usual = IN_FLIGHT_PER_ENDPOINT if is_slow or len(endpoints) > 1 else limit
    candidates = [
        select(DELIVERY)
        .where(
            DELIVERY.c.organization_id == endpoint["organization_id"],
            DELIVERY.c.endpoint_id == endpoint["id"],
            _IS_WAITING,
            DELIVERY.c.next_at <= now,
            DELIVERY.c.lane.is_(None),
            *([DELIVERY.c.id == endpoint["probe_id"]] if endpoint["circuit"] == "open" else []),
        )
        .order_by(DELIVERY.c.next_at)
        .limit(min(usual, room.get(endpoint["id"], usual)))
        for endpoint in endpoints
    ]
    rows = session.execute(_first_of_each(candidates)).mappings().all()[:limit]
    claimed = lease(session, worker_id, party(rows))
    by_id = {(e["organization_id"], e["id"]): e for e in endpoints}
    return [(row, by_id[row["organization_id"], row["endpoint_id"]]) for row in claimed]


def party(rows: Sequence[Any]) -> Sequence[Any]:
    """Choose those that go together: the innocent, or now and then a few that were in crashes."""
    innocent = [row for row in rows if not row["crash_count"]]
    suspects = [row for row in rows if row["crash_count"]]
    if not suspects or (innocent and random.random() >= SUSPECT_SHARE):  # noqa: S311
        return innocent
    crashes = random.choice(suspects)["crash_count"]  # noqa: S311
    alike = [row for row in suspects if row["crash_count"] == crashes]
    return alike[: TOGETHER[crashes] if crashes < len(TOGETHER) else 1]


def _may_send(endpoint: dict[str, Any]) -> bool:
    """Tell whether anything may be sent: while the circuit is open, nothing but a probe."""
    return endpoint["circuit"] != "open" or endpoint["probe_id"] is not None


def _settle(session: Session, endpoints: list[dict[str, Any]]) -> None:
    """Lock the endpoints that are held or limited, and read them again: what is let go or leased
    by somebody else meanwhile is then seen.
    """
    special = [one for one in endpoints if one["circuit"] == "open" or one["max_in_flight"]]
    if special:
        keys = [(one["organization_id"], one["id"]) for one in special]
        locked = locked_endpoints(session, keys)
        for one in special:
            one.update(locked[one["organization_id"], one["id"]])


def locked_endpoints(
    session: Session, keys: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], Mapping[str, Any]]:
    """Return endpoints as they are now; nobody else changes them before the commit.

    Less than FOR UPDATE: new deliveries, which only refer to the row, need not wait.
    """
    wanted = select(ENDPOINT).where(any_of(ENDPOINT, keys))
    wanted = wanted.order_by(ENDPOINT.c.organization_id, ENDPOINT.c.id)
    rows = session.connection().execute(wanted.with_for_update(key_share=True)).mappings()
    return {(row["organization_id"], row["id"]): dict(row) for row in rows}


def room_of(session: Session, endpoints: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Return how many more may be leased of each locked endpoint that has a limit of its own."""
    limited = [one for one in endpoints if one["max_in_flight"]]
    limits = {one["id"]: one["max_in_flight"] for one in limited}
    if not limits:
        return {}
    found = session.execute(
        select(DELIVERY.c.endpoint_id, func.count())
        .where(
            is_in(DELIVERY.c.state, "leased"),
            DELIVERY.c.organization_id.in_({one["organization_id"] for one in limited}),
            DELIVERY.c.endpoint_id.in_(limits),
        )
        .group_by(DELIVERY.c.endpoint_id)
    )
    taken = {row[0]: row[1] for row in found}
    return {key: max(limit - taken.get(key, 0), 0) for key, limit in limits.items()}


def _hold(session: Session, endpoints: list[dict[str, Any]], now: datetime) -> None:
    """Hold what fell due for locked endpoints whose circuit is open: nobody finds it again."""
    for endpoint in endpoints:
        session.execute(
            update(DELIVERY)
            .where(
                DELIVERY.c.organization_id == endpoint["organization_id"],
                DELIVERY.c.endpoint_id == endpoint["id"],
                _IS_WAITING,
                DELIVERY.c.next_at <= now,
                DELIVERY.c.id != (endpoint["probe_id"] or ""),
            )
            .values(state="waiting", next_at=None)
        )


def even_share(endpoints: list[dict[str, Any]], limit: int) -> list[dict[str, Any]]:
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


# in an index's order: PostgreSQL would else read the table, hoping to meet one soon
_DUE = (
    select(DELIVERY.c.id)
    .where(_IS_WAITING, DELIVERY.c.next_at <= bindparam("now"), DELIVERY.c.lane.is_(None))
    .order_by(DELIVERY.c.next_at)
    .limit(1)
)


def is_delivery_due(session: Session) -> bool:
    """Tell whether any delivery waits for its turn by now."""
    return session.connection().execute(_DUE, {"now": store_now(session)}).first() is not None


def lease_end(session: Session) -> datetime:
    """Return the end of a lease that starts now, by the store's clock."""
    return store_now(session) + timedelta(seconds=LEASE_SECONDS)


def lease(session: Session, worker_id: str, rows: Sequence[Any]) -> list[dict[str, Any]]:
    """Lease found rows; the owner's name is new each time, so that no two leases share one."""
    if not rows:
        return []
    owner = owner_name(worker_id)
    keys = [(row["organization_id"], row["id"]) for row in rows]
    session.execute(
        update(DELIVERY)
        .where(any_of(DELIVERY, keys))
        .values(
            state="leased",
            lease_owner=owner,
            lease_epoch=DELIVERY.c.lease_epoch + 1,
            lease_until=lease_end(session),
        )
    )
    return [dict(row, lease_owner=owner, lease_epoch=row["lease_epoch"] + 1) for row in rows]


def owner_name(worker_id: str) -> str:
    """Name one lease of a worker."""
    return f"{worker_id}/{new_id('ls')}"


def reclaim(session: Session) -> int:
    """Take back what leases ran out on; what was in too many crashes waits for a person."""
    return _take_back(session, DELIVERY.c.lease_until < store_now(session))


def release(session: Session, worker_id: str) -> int:
    """Take back what a worker held that is known to be gone."""
    prefix = f"{worker_id}/"
    return _take_back(session, func.substr(DELIVERY.c.lease_owner, 1, len(prefix)) == prefix)


_STATE_OF_ENDPOINT = (
    select(ENDPOINT.c.state)
    .where(
        ENDPOINT.c.organization_id == DELIVERY.c.organization_id,
        ENDPOINT.c.id == DELIVERY.c.endpoint_id,
    )
    .scalar_subquery()
)


def _take_back(session: Session, is_over: Any) -> int:
    """Let it be sent again; what its endpoint was paused, switched off or deleted for is treated
    as if nobody had held it then.
    """
    is_deleted, is_off = _STATE_OF_ENDPOINT == "deleted", _STATE_OF_ENDPOINT == "disabled"
    too_often = DELIVERY.c.crash_count + 1 >= MAX_DELIVERY_CRASHES
    now = literal(store_now(session), Moment())
    result: Any = session.execute(
        update(DELIVERY)
        .where(is_in(DELIVERY.c.state, "leased"), is_over)
        .values(
            state=case((is_deleted, "cancelled"), (is_off | too_often, "parked"), else_="waiting"),
            last_problem=case(
                (is_deleted, "endpoint_deleted"),
                (is_off, "endpoint_disabled"),
                (too_often, "interrupted"),
                else_=DELIVERY.c.last_problem,
            ),
            next_at=case((_STATE_OF_ENDPOINT == "active", now), else_=None),
            crash_count=DELIVERY.c.crash_count + 1,
            lease_owner=None,
            lease_until=None,
        )
    )
    return int(result.rowcount)


def is_lease_over(session: Session) -> bool:
    """Tell whether any lease ran out, without writing."""
    over = DELIVERY.c.lease_until < store_now(session)
    found = select(DELIVERY.c.id).where(is_in(DELIVERY.c.state, "leased"), over)
    first = found.order_by(DELIVERY.c.lease_until).limit(1)
    return session.execute(first).first() is not None
