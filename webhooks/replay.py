"""Replay: sending a delivery once more, and catching an endpoint up on what it missed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select, update
from sqlmodel import Session

from kernel import clock, queue
from kernel.database import store_now
from kernel.errors import N_, Conflict, Invalid
from kernel.rows import insert_ignore
from webhooks import circuits, conditions, deliveries, endpoints, events, lanes
from webhooks.fan_out import delivery_row, matches
from webhooks.tables import DELIVERY, EVENT, Delivery, Endpoint, Event

RECOVER_LIMIT = 10_000
_PAGE = 500


def resend(session: Session, organization_id: str, delivery_id: str) -> Delivery:
    """Start a delivery's ladder afresh, under the same event id; its attempts go on counting.

    While the endpoint's circuit is open it is the next probe. Raises Conflict while it is being
    sent or its endpoint is off.
    """
    delivery = deliveries.get(session, organization_id, delivery_id)
    endpoint = endpoints.locked(session, organization_id, delivery.endpoint_id)
    if endpoint.state != "active":
        raise Conflict(detail=N_("The endpoint is not active; resume it first"))
    is_ordered = endpoint.ordering != "none"
    lane = None
    if is_ordered:
        event = events.get(session, organization_id, delivery.event_id)
        lane = lanes.lane_of(endpoint.ordering, event.subject)
    changed = session.execute(
        update(DELIVERY)
        .where(
            DELIVERY.c.organization_id == organization_id,
            DELIVERY.c.id == delivery_id,
            DELIVERY.c.state != "leased",
        )
        .values(
            state="waiting" if is_ordered else "due",
            ladder_step=0,
            crash_count=0,
            next_at=None if is_ordered else store_now(session),
            lane=lane,
        )
        .returning(DELIVERY.c.id)
    ).all()
    if not changed:
        raise Conflict(detail=N_("It is being sent right now"))
    _let_go(session, endpoint, delivery_id, lane)
    session.refresh(delivery)
    queue.nudge(session, "webhooks.drain")
    return delivery


def _let_go(session: Session, endpoint: Endpoint, delivery_id: str, lane: str | None) -> None:
    """Send a delivery in its turn; while the circuit is open as a probe, or the head before it."""
    key = endpoint.organization_id, endpoint.id
    if endpoint.circuit == "open" and lane is None:
        circuits.expect(session, key, delivery_id)
    elif endpoint.circuit == "open":
        circuits.probe(session, key, endpoint)
    elif lane is not None:
        lanes.release(session, key, [lane])


def cancel(session: Session, organization_id: str, delivery_id: str) -> Delivery:
    """Take a waiting or parked delivery off the road; raises Conflict for any other.

    The next one of its lane goes on.
    """
    delivery = deliveries.get(session, organization_id, delivery_id)
    endpoint = endpoints.locked(session, organization_id, delivery.endpoint_id)
    changed = session.execute(
        update(DELIVERY)
        .where(
            DELIVERY.c.organization_id == organization_id,
            DELIVERY.c.id == delivery_id,
            DELIVERY.c.state.in_(("due", "waiting", "parked")),
        )
        .values(state="cancelled", next_at=None)
        .returning(DELIVERY.c.lane)
    ).all()
    if not changed:
        raise Conflict(detail=N_("It is being sent right now or is already done"))
    if changed[0][0] is not None and endpoint.state == "active" and endpoint.circuit != "open":
        lanes.release(session, (organization_id, endpoint.id), [changed[0][0]])
        queue.nudge(session, "webhooks.drain")
    session.refresh(delivery)
    return delivery


def send_missed(session: Session, organization_id: str, endpoint_id: str) -> int:
    """Send what was parked while the endpoint was off, in order and bit by bit; returns how many
    that are, as far as they are counted.
    """
    endpoint = endpoints.locked(session, organization_id, endpoint_id)
    if endpoint.state != "active":
        raise Conflict(detail=N_("The endpoint is not active; resume it first"))
    count = deliveries.count_missed(session, organization_id, endpoint_id)
    if endpoint.ordering == "none":
        endpoint.sends_missed = True
    else:
        missed = DELIVERY.c.last_problem.in_(circuits.MISSED)
        lanes.join(session, (organization_id, endpoint_id), endpoint.ordering, missed)
    session.flush()
    if endpoint.circuit == "closed":
        circuits.refill(session, (organization_id, endpoint_id))
    return count


def recover(session: Session, organization_id: str, endpoint_id: str, since: datetime) -> int:
    """Send an endpoint whatever it did not get since then; returns how many deliveries that is.

    Given up deliveries start afresh; events that never had a delivery here get one. What was set
    aside because the condition could not be computed is asked again. At most 10,000 events are
    looked at; a further call with a later `since` goes on.
    """
    endpoint = endpoints.locked(session, organization_id, endpoint_id)
    if endpoint.state != "active":
        raise Conflict(detail=N_("The endpoint is not active; resume it first"))
    if since > clock.now():
        raise Invalid(errors=[{"pointer": "/since", "message": N_("This is in the future")}])
    types = session.execute(
        select(EVENT.c.type).where(EVENT.c.organization_id == organization_id).distinct()
    ).scalars()
    wanted = [name for name in types if matches(endpoint.event_types, name)]
    count, last, seen = 0, "", 0
    while wanted and seen < RECOVER_LIMIT:
        page = _events_after(session, organization_id, wanted, since, last)
        if not page:
            break
        count += send_again(session, endpoint, page, ("parked",)).started
        last, seen = page[-1].id, seen + len(page)
    queue.nudge(session, "webhooks.drain")
    return count


@dataclass(slots=True)
class Sent:
    """What became of events that were to be sent once more."""

    started: int = 0
    passed_over: int = 0  # kept out by the endpoint's condition


def send_again(
    session: Session,
    endpoint: Endpoint,
    page: Sequence[Event],
    revived: Sequence[str],
    bulk_replay_id: str | None = None,
    at: datetime | None = None,
) -> Sent:
    """Send events to a locked, active endpoint: their latest delivery in one of the states
    `revived` starts afresh, and those that never had one get it. Its condition is asked again.
    """
    row, sent = endpoint.model_dump(), Sent()
    latest = _latest(session, endpoint, [event.id for event in page])
    afresh, missing, unwanted = [], [], []
    for event in page:
        known = latest.get(event.id)
        if known is not None and known["state"] not in revived:
            continue
        verdict = conditions.judge(row, conditions.View(event))
        if verdict and known is not None:
            afresh.append((known["id"], event))
        elif verdict:
            missing.append((event, True))
        else:
            sent.passed_over += 1
            if known is not None and known["last_problem"] == conditions.FAILED:
                unwanted += [known["id"]] if verdict is False else []
            elif known is None and verdict is None:
                missing.append((event, False))
    made = _make(session, endpoint, missing, bulk_replay_id)
    sent.started = len(afresh) + made
    _start(session, endpoint, afresh, bulk_replay_id, at or store_now(session))
    for delivery_id in unwanted:
        _set(session, endpoint, delivery_id, {"state": "cancelled", "next_at": None, "lane": None})
    return sent


def _latest(session: Session, endpoint: Endpoint, event_ids: list[str]) -> dict[str, Any]:
    found = session.execute(
        select(DELIVERY.c.id, DELIVERY.c.event_id, DELIVERY.c.state, DELIVERY.c.last_problem)
        .where(
            DELIVERY.c.organization_id == endpoint.organization_id,
            DELIVERY.c.endpoint_id == endpoint.id,
            DELIVERY.c.event_id.in_(event_ids),
        )
        .order_by(DELIVERY.c.id)
    )
    return {row["event_id"]: row for row in found.mappings()}


def _make(
    session: Session,
    endpoint: Endpoint,
    page: Sequence[tuple[Event, bool]],
    bulk_replay_id: str | None,
) -> int:
    """Give events a delivery of their own; returns how many of them are on their way.

    One for which the condition says neither yes nor no (False) is set aside.
    """
    columns, rows = endpoint.model_dump(), []
    for event, is_wanted in page:
        row = delivery_row((endpoint.organization_id, event.id, ""), columns, store_now(session))
        if not is_wanted:
            row |= {"state": "parked", "next_at": None, "last_problem": conditions.FAILED}
        elif endpoint.ordering != "none":
            lane = lanes.lane_of(endpoint.ordering, event.subject)
            row |= {"state": "waiting", "next_at": None, "lane": lane}
        rows.append(row | {"bulk_replay_id": bulk_replay_id})
    conflict = ("organization_id", "event_id", "endpoint_id", "replay_nonce")
    inserted = set(insert_ignore(session, Delivery, rows, conflict))
    live = [row for row in rows if row["id"] in inserted and row["state"] != "parked"]
    _release(session, endpoint, {row["lane"] for row in live})
    return len(live)


def _start(
    session: Session,
    endpoint: Endpoint,
    afresh: Sequence[tuple[str, Event]],
    bulk_replay_id: str | None,
    at: datetime,
) -> None:
    """Start deliveries afresh, in order where the endpoint wants it, held while it is held."""
    is_sending = endpoint.circuit == "closed"
    for delivery_id, event in afresh:
        lane = lanes.lane_of(endpoint.ordering, event.subject)
        is_due = is_sending and lane is None
        values = {
            "state": "due" if is_due else "waiting",
            "next_at": at if is_due else None,
            "lane": lane,
            "ladder_step": 0,
            "crash_count": 0,
            "last_problem": None,
            "last_status": None,
            "bulk_replay_id": bulk_replay_id,
        }
        _set(session, endpoint, delivery_id, values)
    _release(session, endpoint, {lanes.lane_of(endpoint.ordering, e.subject) for _, e in afresh})


def _set(session: Session, endpoint: Endpoint, delivery_id: str, values: dict[str, Any]) -> None:
    session.execute(
        update(DELIVERY)
        .where(
            DELIVERY.c.organization_id == endpoint.organization_id,
            DELIVERY.c.id == delivery_id,
            DELIVERY.c.state != "leased",
        )
        .values(**values)
    )


def _release(session: Session, endpoint: Endpoint, names: Iterable[str | None]) -> None:
    if endpoint.circuit == "closed":
        known = [name for name in names if name is not None]
        lanes.release(session, (endpoint.organization_id, endpoint.id), known)


def _events_after(
    session: Session, organization_id: str, types: list[str], since: datetime, last: str
) -> list[Event]:
    found = session.execute(
        select(Event)
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
