"""Replay: sending a delivery once more, and catching an endpoint up on what it missed."""

from datetime import datetime
from typing import Any

from sqlalchemy import select, update
from sqlmodel import Session

from kernel import clock, queue
from kernel.database import insert_ignore
from kernel.errors import N_, Conflict, Invalid
from webhooks import endpoints
from webhooks.fan_out import delivery_row, matches
from webhooks.tables import DELIVERY, EVENT, Delivery

RECOVER_LIMIT = 10_000
_PAGE = 500


def resend(session: Session, organization_id: str, delivery_id: str) -> Delivery:
    """Start a delivery's ladder afresh, under the same event id; its attempts go on counting.

    Raises Conflict while it is being sent or its endpoint is off.
    """
    delivery = endpoints.delivery(session, organization_id, delivery_id)
    endpoint = endpoints.get(session, organization_id, delivery.endpoint_id)
    if endpoint.state != "active":
        raise Conflict(detail=N_("The endpoint is not active; resume it first"))
    changed = session.execute(
        update(DELIVERY)
        .where(
            DELIVERY.c.organization_id == organization_id,
            DELIVERY.c.id == delivery_id,
            DELIVERY.c.state != "leased",
        )
        .values(state="due", ladder_step=0, crash_count=0, next_at=clock.now())
        .returning(DELIVERY.c.id)
    ).all()
    if not changed:
        raise Conflict(detail=N_("It is being sent right now"))
    session.refresh(delivery)
    queue.nudge(session, "webhooks.drain")
    return delivery


def cancel(session: Session, organization_id: str, delivery_id: str) -> Delivery:
    """Take a waiting or parked delivery off the road; raises Conflict for any other."""
    delivery = endpoints.delivery(session, organization_id, delivery_id)
    changed = session.execute(
        update(DELIVERY)
        .where(
            DELIVERY.c.organization_id == organization_id,
            DELIVERY.c.id == delivery_id,
            DELIVERY.c.state.in_(("due", "waiting", "parked")),
        )
        .values(state="cancelled", next_at=None)
        .returning(DELIVERY.c.id)
    ).all()
    if not changed:
        raise Conflict(detail=N_("It is being sent right now or is already done"))
    session.refresh(delivery)
    return delivery


def recover(session: Session, organization_id: str, endpoint_id: str, since: datetime) -> int:
    """Send an endpoint whatever it did not get since then; returns how many deliveries that is.

    Given up deliveries start afresh; events that never had a delivery here get one. At most
    10,000 events are looked at; a further call with a later `since` goes on.
    """
    endpoint = endpoints.get(session, organization_id, endpoint_id)
    if endpoint.state != "active":
        raise Conflict(detail=N_("The endpoint is not active; resume it first"))
    now = clock.now()
    if since > now:
        raise Invalid(errors=[{"pointer": "/since", "message": N_("This is in the future")}])
    parked: Any = session.execute(
        update(DELIVERY)
        .where(
            DELIVERY.c.organization_id == organization_id,
            DELIVERY.c.endpoint_id == endpoint_id,
            DELIVERY.c.state == "parked",
            DELIVERY.c.created_at >= since,
        )
        .values(state="due", ladder_step=0, crash_count=0, next_at=now)
    )
    row = endpoint.model_dump()
    missed = 0
    types = session.execute(
        select(EVENT.c.type).where(EVENT.c.organization_id == organization_id).distinct()
    ).scalars()
    wanted = [name for name in types if matches(endpoint.event_types, name)]
    last, seen = "", 0
    while wanted and seen < RECOVER_LIMIT:
        page = _events_after(session, organization_id, wanted, since, last)
        if not page:
            break
        conflict = ("organization_id", "event_id", "endpoint_id", "replay_nonce")
        rows = [delivery_row((organization_id, event_id, ""), row, now) for event_id in page]
        missed += len(insert_ignore(session, Delivery, rows, conflict))
        last, seen = page[-1], seen + len(page)
    queue.nudge(session, "webhooks.drain")
    return int(parked.rowcount) + missed


def _events_after(
    session: Session, organization_id: str, types: list[str], since: datetime, last: str
) -> list[str]:
    found = session.execute(
        select(EVENT.c.id)
        .where(
            EVENT.c.organization_id == organization_id,
            EVENT.c.type.in_(types),
            EVENT.c.state == "routed",
            EVENT.c.received_at >= since,
            EVENT.c.id > last,
        )
        .order_by(EVENT.c.id)
        .limit(_PAGE)
    )
    return list(found.scalars())
