"""Holding: what a suspended organization has waiting here stays where it is until it is resumed.

Events wait without a time. Deliveries are held as those of a target that is down, by the circuit
of their endpoint, which nothing but resuming closes; what was held goes out bit by bit then.
"""

from sqlalchemy import select
from sqlmodel import Session

from identity.suspensions import Hold
from kernel import queue
from kernel.database import store_now
from webhooks import circuits, endpoints, ready
from webhooks.tables import ENDPOINT

_TASK = "webhooks.drain"


def hold_endpoints(session: Session, organization_id: str, most: int) -> int:
    """Open the circuits of an organization's sending endpoints for as long as it is suspended."""
    wanted = select(ENDPOINT.c.id).where(
        ENDPOINT.c.organization_id == organization_id,
        ENDPOINT.c.state == "active",
        ENDPOINT.c.circuit_cause.is_distinct_from("suspended"),
    )
    found = list(session.execute(wanted.order_by(ENDPOINT.c.id).limit(most)).scalars())
    for endpoint_id in found:
        endpoint = endpoints.locked(session, organization_id, endpoint_id)
        endpoint.circuit, endpoint.circuit_cause = "open", "suspended"
        endpoint.circuit_since, endpoint.circuit_at = store_now(session), None
        endpoint.probe_id = None
        session.add(endpoint)
    session.flush()
    return len(found)


def let_endpoints_go(session: Session, organization_id: str, most: int) -> int:
    """Close those circuits again; each lets a first portion of its deliveries go at once."""
    wanted = select(ENDPOINT.c.id).where(
        ENDPOINT.c.organization_id == organization_id, ENDPOINT.c.circuit_cause == "suspended"
    )
    found = list(session.execute(wanted.order_by(ENDPOINT.c.id).limit(most)).scalars())
    for endpoint_id in found:
        endpoints.locked(session, organization_id, endpoint_id)
        circuits.close(session, (organization_id, endpoint_id))
    return len(found)


def let_events_go(session: Session, organization_id: str, most: int) -> int:
    """Make held events new again."""
    count = ready.let_go(session, organization_id, most)
    if count:
        queue.nudge(session, _TASK)
    return count


EVENTS = Hold("events", ready.hold, let_events_go)
ENDPOINTS = Hold("endpoints", hold_endpoints, let_endpoints_go)
