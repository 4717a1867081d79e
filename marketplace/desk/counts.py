"""Counts: what waits on the whole hub, counted along partial indexes and never beyond a bound.

However much history a store holds, each count reads the few rows that still need something, and
stops a little above MOST: then people read “more than 10,000”.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, text
from sqlmodel import Session

from kernel.columns import Moment
from kernel.database import store_now

MOST = 10_000
LATE_SECONDS = 60

_WAITS = "state IN ('due', 'waiting')"
# What is counted: table, condition and order word for word as an index has them, so that no
# database is tempted to read the table.
_BY_ID = "organization_id, id"
QUERIES = {
    "events_new": ("event", "state = 'new'", _BY_ID),
    "events_retry": ("event", "state = 'waiting' AND next_at IS NOT NULL", "next_at"),
    "events_held": ("event", "state = 'waiting' AND next_at IS NULL", "next_at"),
    "events_quarantined": ("event", "state = 'quarantined'", _BY_ID),
    "deliveries_due": ("delivery", f"{_WAITS} AND next_at <= :now", "next_at"),
    "deliveries_overdue": ("delivery", f"{_WAITS} AND next_at <= :late", "next_at"),
    "deliveries_retry": ("delivery", f"{_WAITS} AND next_at > :now", "next_at"),
    "deliveries_held": ("delivery", f"{_WAITS} AND next_at IS NULL", "next_at"),
    "deliveries_leased": ("delivery", "state = 'leased'", "lease_until"),
    "deliveries_parked": ("delivery", "state = 'parked'", _BY_ID),
    "runs_due": ("run", f"{_WAITS} AND next_at <= :now", "next_at"),
    "runs_overdue": ("run", f"{_WAITS} AND next_at <= :late", "next_at"),
    "runs_retry": ("run", f"{_WAITS} AND next_at > :now", "next_at"),
    "runs_held": ("run", f"{_WAITS} AND next_at IS NULL", "next_at"),
    "runs_leased": ("run", "state = 'leased'", "lease_until"),
    "runs_parked": ("run", "state = 'parked'", "organization_id, flow_id, cause, id"),
    "circuits_open": ("endpoint", "circuit = 'open' AND circuit_at IS NOT NULL", "circuit_at"),
    "endpoints_off": ("endpoint", "state = 'disabled'", "state"),
    "organizations_suspended": ("organization", "state <> 'active'", "state"),
}


def _count(table: str, condition: str, order: str) -> Any:
    wanted = text(
        f"SELECT count(*) FROM (SELECT 1 FROM {table} WHERE {condition}"  # noqa: S608 - our words
        f" ORDER BY {order} LIMIT :most) AS found"
    )
    times = [name for name in ("now", "late") if f":{name}" in condition]
    return wanted.bindparams(*(bindparam(name, type_=Moment()) for name in times))


_COUNTS = {name: _count(*query) for name, query in QUERIES.items()}
# Jumps from tenant to tenant along the partial index: the first of each is its oldest.
_OLDEST = text(
    "WITH RECURSIVE tenant(id) AS ("
    " SELECT min(organization_id) FROM event WHERE state = 'new'"
    " UNION ALL SELECT (SELECT min(organization_id) FROM event"
    " WHERE state = 'new' AND organization_id > tenant.id) FROM tenant WHERE tenant.id IS NOT NULL"
    "), first(tenant, id) AS (SELECT tenant.id, (SELECT min(event.id) FROM event"
    " WHERE state = 'new' AND organization_id = tenant.id)"
    " FROM tenant WHERE tenant.id IS NOT NULL LIMIT 1000"
    ") SELECT received_at FROM event WHERE (organization_id, id) ="
    " (SELECT tenant, id FROM first WHERE id IS NOT NULL ORDER BY id LIMIT 1)"
).columns(received_at=Moment())


@dataclass(frozen=True, slots=True)
class Counts:
    """What waits, by the names of QUERIES; a number above MOST means “more than that”."""

    numbers: dict[str, int]
    oldest_at: datetime | None  # of the events that wait to be routed

    def __getitem__(self, name: str) -> int:
        """Return one count."""
        return self.numbers[name]


def take(session: Session) -> Counts:
    """Count what waits just now."""
    now, connection = store_now(session), session.connection()
    times = {"now": now, "late": now - timedelta(seconds=LATE_SECONDS)}
    numbers = {}
    for name, statement in _COUNTS.items():
        condition = QUERIES[name][1]
        values = {key: at for key, at in times.items() if f":{key}" in condition}
        found = connection.execute(statement, {"most": MOST + 1, **values})
        numbers[name] = int(found.scalar_one())
    oldest = connection.execute(_OLDEST).scalar() if numbers["events_new"] else None
    return Counts(numbers, oldest)
