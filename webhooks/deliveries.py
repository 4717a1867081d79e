"""Deliveries: each one event on its way to one endpoint, and how its tries went."""

from typing import Any

from sqlalchemy import func, select
from sqlmodel import Session

from kernel.tenancy import find
from webhooks import circuits, leases
from webhooks.tables import DELIVERY, Attempt, Delivery

MOST_COUNTED = 10_000


def listing(organization_id: str, endpoint_id: str | None = None, state: str | None = None) -> Any:
    """Select deliveries that fit every given filter, for a page of them."""
    statement = Delivery.of(organization_id)
    if endpoint_id:
        statement = statement.where(DELIVERY.c.endpoint_id == endpoint_id)
    if state:
        states = ("due", "leased") if state == "due" else (state,)
        statement = statement.where(DELIVERY.c.state.in_(states))
    return statement


def get(session: Session, organization_id: str, delivery_id: str) -> Delivery:
    """Return the organization's delivery; raises NotFound."""
    return find(session, Delivery, organization_id, delivery_id)


def attempts_of(session: Session, organization_id: str, delivery_id: str) -> list[Attempt]:
    """Return a delivery's attempts, latest first."""
    columns = Attempt.__table__.c  # type: ignore[attr-defined]
    statement = Attempt.of(organization_id).where(columns.delivery_id == delivery_id)
    return list(session.execute(statement.order_by(columns.number.desc())).scalars())


def count_missed(session: Session, organization_id: str, endpoint_id: str) -> int:
    """Return how many deliveries were parked while the endpoint was off, up to a limit."""
    missed = (
        select(DELIVERY.c.id)
        .where(
            DELIVERY.c.organization_id == organization_id,
            DELIVERY.c.endpoint_id == endpoint_id,
            leases.is_in(DELIVERY.c.state, "waiting", "parked"),
            DELIVERY.c.state == "parked",
            DELIVERY.c.last_problem.in_(circuits.MISSED),
        )
        .limit(MOST_COUNTED)
    )
    return int(session.execute(select(func.count()).select_from(missed.subquery())).scalar_one())


def counts(session: Session, organization_id: str, *more: Any) -> dict[str, dict[str, int]]:
    """Return how many deliveries each endpoint has in each state that needs somebody's eye.

    `more` are further conditions on deliveries.
    """
    found = session.execute(
        select(DELIVERY.c.endpoint_id, DELIVERY.c.state, func.count())
        .where(
            DELIVERY.c.organization_id == organization_id,
            DELIVERY.c.state.in_(("due", "leased", "waiting", "parked")),
            *more,
        )
        .group_by(DELIVERY.c.endpoint_id, DELIVERY.c.state)
    )
    numbers: dict[str, dict[str, int]] = {}
    for endpoint_id, state, number in found:
        numbers.setdefault(endpoint_id, {})[state] = number
    return numbers
