"""Gauges: how much of each budget of a connection is left, and who waits for it."""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlmodel import Session

from connectors.budgets import levels, taking
from connectors.budgets.tables import ALLOWANCE, Allowance
from connectors.engine import loader
from connectors.engine.call_budgets import CallBudget
from connectors.tables import Connection
from kernel.database import store_now


@dataclass(frozen=True, slots=True)
class Gauge:
    """One budget as it stands."""

    budget: CallBudget
    left: int  # calls that may go at once, now
    used: int  # of those that may go at once
    full_at: datetime | None  # when it is whole again; None: it is
    blocked_until: datetime | None  # the app said so
    flows_waiting: int
    in_air: int


def of(session: Session, connection: Connection) -> list[Gauge]:
    """Return the gauges of a connection, in the manifest's order."""
    connector = loader.known(connection.connector_key)
    budgets = connector.http.budgets if connector else ()
    if not budgets:
        return []
    ids = {taking.row_id(connection, one): one for one in budgets}
    statement = Allowance.of(connection.organization_id).where(ALLOWANCE.c.id.in_(sorted(ids)))
    rows = {row.id: row for row in session.execute(statement).scalars()}
    now = store_now(session).timestamp()
    return [_gauge(budget, rows.get(key), now) for key, budget in ids.items()]


def _gauge(budget: CallBudget, row: Allowance | None, now: float) -> Gauge:
    if row is None:
        return Gauge(budget, budget.burst, 0, None, None, 0, 0)
    level = taking.level_of(row, budget)
    level.mend(now)
    left = level.ready(now)
    seats = [seat for seat in level.seats.values() if seat[1] > now]
    return Gauge(
        budget,
        left,
        budget.burst - left,
        _moment(level.full_at, now),
        _moment(level.blocked_until, now),
        levels.waiting(level.queues, now),
        int(sum(seat[0] for seat in seats)),
    )


def _moment(seconds: float, now: float) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds > now else None
