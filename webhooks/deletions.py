"""Deletions: an endpoint that goes for good, and what becomes of what was on its way to it.

What waited is not sent any more; a request that is being sent right now may still arrive. The row
stays without its secrets for as long as there is a record of what was sent to it.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import func, select, update
from sqlmodel import Session

from kernel import clock
from kernel.database import transaction
from kernel.tenancy import find
from webhooks import circuits, endpoints, lanes, leases
from webhooks.keeping.turns import Lease
from webhooks.tables import DELIVERY, ENDPOINT, Endpoint

WORD = "endpoint_deleted"
MOST_COUNTED = 10_000
_UNSENT = leases.is_in(DELIVERY.c.state, "due", "waiting", "parked")
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class UnderWay:
    """What a deletion would concern; `is_more` when more waits than is counted."""

    unsent: int
    sending: int
    is_more: bool


def under_way(session: Session, organization_id: str, endpoint_id: str) -> UnderWay:
    """Count what waits for an endpoint and what is being sent to it."""
    mine = (DELIVERY.c.organization_id == organization_id) & (DELIVERY.c.endpoint_id == endpoint_id)
    some = select(DELIVERY.c.id).where(mine, _UNSENT).limit(MOST_COUNTED + 1).subquery()
    unsent = int(session.execute(select(func.count()).select_from(some)).scalar_one())
    leased = select(func.count()).where(mine, leases.is_in(DELIVERY.c.state, "leased"))
    sending = int(session.execute(leased).scalar_one())
    return UnderWay(min(unsent, MOST_COUNTED), sending, unsent > MOST_COUNTED)


def delete(session: Session, organization_id: str, endpoint_id: str) -> Endpoint:
    """Delete an endpoint; raises NotFound when it is gone already."""
    endpoint = endpoints.locked(session, organization_id, endpoint_id)
    endpoint.state, endpoint.disabled_at = "deleted", clock.now()
    endpoint.disabled_reason = endpoint.failing_since = None
    endpoint.secret_sealed, endpoint.old_secrets, endpoint.headers = "", [], []
    endpoint.public_key = endpoint.client_certificate = endpoint.client_key_sealed = None
    for name, value in circuits.CLOSED.items():
        setattr(endpoint, name, value)
    session.flush()
    lanes.leave(session, (organization_id, endpoint_id))
    session.execute(
        update(DELIVERY)
        .where(
            DELIVERY.c.organization_id == organization_id,
            DELIVERY.c.endpoint_id == endpoint_id,
            _UNSENT,
        )
        .values(state="cancelled", next_at=None, last_problem=WORD)
    )
    return endpoint


def remembered(session: Session, organization_id: str, endpoint_id: str) -> Endpoint:
    """Return an endpoint for the record of what was sent to it, also a deleted one."""
    return find(session, Endpoint, organization_id, endpoint_id)


def settle(lease: Lease) -> bool:
    """Cancel what was planned for an endpoint at the very moment of its deletion.

    Whoever plans deliveries looks at endpoints without a lock (decision 0011), so one may come in
    behind the deletion; nobody would ever send it, and its event would never be finished.
    """
    tenant = lease.organization_id
    before = clock.now() - timedelta(seconds=2 * leases.LEASE_SECONDS)
    with transaction(tenant) as session:
        lease.hold(session)
        gone = select(ENDPOINT.c.id).where(
            ENDPOINT.c.organization_id == tenant, ENDPOINT.c.state == "deleted"
        )
        left = (
            select(DELIVERY.c.id)
            .where(
                DELIVERY.c.organization_id == tenant,
                leases.is_in(DELIVERY.c.state, "due", "waiting"),
                DELIVERY.c.endpoint_id.in_(gone),
                DELIVERY.c.created_at < before,
            )
            .limit(_AT_ONCE)
        )
        ids = session.execute(left).scalars().all()
        changed: Any = session.execute(
            update(DELIVERY)
            .where(
                DELIVERY.c.organization_id == tenant,
                DELIVERY.c.id.in_(ids),
                leases.is_in(DELIVERY.c.state, "due", "waiting"),
            )
            .values(state="cancelled", next_at=None, lane=None, last_problem=WORD)
        )
    return int(changed.rowcount) == _AT_ONCE
