"""Bulk replays: many events sent to one endpoint once more, carefully.

A few go first; only when all of them arrived do the rest follow, at a bounded rate and never with
many unfinished. The row says how far it is and any process's sweep takes the next turn.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select, update
from sqlmodel import Session

from kernel import clock, queue
from kernel.database import EVERY, reading, store_now, write
from kernel.errors import N_, Conflict, FieldError, Invalid
from kernel.ids import first_id, new_id
from kernel.tenancy import find
from webhooks import circuits, endpoints, replay
from webhooks.fan_out import matches
from webhooks.tables import BULK_REPLAY, DELIVERY, EVENT, BulkReplay, Endpoint, Event

CANARIES = 3
TURN_SECONDS = 5
PER_TURN = circuits.RATE_PER_SECOND * TURN_SECONDS
MOST_UNFINISHED = 2 * PER_TURN
CANCELLED = "replay_cancelled"
_PAGE, _PAGES = 500, 4
_AT_ONCE = 20
_SKEW = timedelta(minutes=1)
_ON_THE_WAY = ("due", "leased", "waiting")


def begin(
    session: Session,
    organization_id: str,
    endpoint_id: str,
    *,
    since: datetime,
    until: datetime | None = None,
    event_types: Sequence[str] = (),
    only_failed: bool = True,
) -> BulkReplay:
    """Start one; raises Conflict while the endpoint is off or another one is under way."""
    endpoint = endpoints.locked(session, organization_id, endpoint_id)
    if endpoint.state != "active":
        raise Conflict(detail=N_("The endpoint is not active; resume it first"))
    now = clock.now()
    until = until or now
    errors: list[FieldError] = []
    if since > now:
        errors.append({"pointer": "/since", "message": N_("This is in the future")})
    elif until <= since:
        errors.append({"pointer": "/until", "message": N_("Choose an end after the start")})
    if errors:
        raise Invalid(errors=errors)
    patterns = endpoints.checked_types(event_types) if event_types else []
    busy = select(BULK_REPLAY.c.id).where(
        BULK_REPLAY.c.organization_id == organization_id,
        BULK_REPLAY.c.endpoint_id == endpoint_id,
        BULK_REPLAY.c.state.in_(("trying", "running")),
    )
    if session.execute(busy).first():
        raise Conflict(
            detail=N_("Another bulk replay of this endpoint is under way; cancel it first")
        )
    row = BulkReplay(
        organization_id=organization_id,
        id=new_id("brp"),
        endpoint_id=endpoint_id,
        event_types=patterns,
        since=since,
        until=until,
        only_failed=only_failed,
        after=first_id("evt", since - _SKEW),
        next_at=store_now(session),
    )
    session.add(row)
    session.flush()
    return row


def get(session: Session, organization_id: str, bulk_replay_id: str) -> BulkReplay:
    """Return the organization's bulk replay; raises NotFound."""
    return find(session, BulkReplay, organization_id, bulk_replay_id)


def listing(organization_id: str, endpoint_id: str | None = None) -> Any:
    """Select the organization's bulk replays, for a page of them."""
    wanted = BulkReplay.of(organization_id)
    return wanted.where(BULK_REPLAY.c.endpoint_id == endpoint_id) if endpoint_id else wanted


def progress(session: Session, row: BulkReplay) -> dict[str, int]:
    """Count its deliveries: delivered, on_the_way, failed."""
    found = session.execute(
        select(DELIVERY.c.state, func.count()).where(_of(row)).group_by(DELIVERY.c.state)
    )
    by_state = {one.state: one[1] for one in found}
    return {
        "delivered": by_state.get("delivered", 0),
        "on_the_way": sum(by_state.get(state, 0) for state in _ON_THE_WAY),
        "failed": by_state.get("parked", 0) + by_state.get("cancelled", 0),
    }


def _of(row: BulkReplay) -> Any:
    return (DELIVERY.c.organization_id == row.organization_id) & (
        DELIVERY.c.bulk_replay_id == row.id
    )


def cancel(session: Session, organization_id: str, bulk_replay_id: str) -> BulkReplay:
    """Send nothing more of it; what is not sent yet is set aside, or as delivered as it was."""
    row = _locked(session, organization_id, bulk_replay_id)
    if row.state not in ("trying", "running"):
        raise Conflict(detail=N_("It is over already"))
    endpoint = endpoints.locked(session, organization_id, row.endpoint_id, even_deleted=True)
    _end(session, row, "cancelled")
    unsent = (_of(row)) & DELIVERY.c.state.in_(("due", "waiting"))
    off = {"next_at": None, "lane": None}
    was_there = DELIVERY.c.delivered_at.is_not(None)
    session.execute(update(DELIVERY).where(unsent, was_there).values(state="delivered", **off))
    session.execute(
        update(DELIVERY).where(unsent).values(state="parked", last_problem=CANCELLED, **off)
    )
    if endpoint.state == "active" and endpoint.circuit == "closed" and endpoint.ordering != "none":
        circuits.refill(session, (organization_id, endpoint.id))
    return row


def _locked(session: Session, organization_id: str, bulk_replay_id: str) -> BulkReplay:
    get(session, organization_id, bulk_replay_id)
    wanted = BulkReplay.of(organization_id).where(BULK_REPLAY.c.id == bulk_replay_id)
    fresh = {"populate_existing": True}
    row: BulkReplay = session.execute(
        wanted.with_for_update(), execution_options=fresh
    ).scalar_one()
    return row


def _end(session: Session, row: BulkReplay, state: str, problem: str | None = None) -> None:
    row.state, row.problem = state, problem
    row.next_at, row.finished_at = None, clock.now()
    session.flush()


def sweep() -> int:
    """Take the next turn of every bulk replay whose time has come; returns how many deliveries
    were started.
    """
    with reading(EVERY) as session:
        due = select(BULK_REPLAY.c.organization_id, BULK_REPLAY.c.id)
        due = due.where(BULK_REPLAY.c.next_at <= store_now(session))
        keys = session.execute(due.order_by(BULK_REPLAY.c.next_at).limit(_AT_ONCE)).all()
    return sum(write(lambda session, key=key: _turn(session, *key)) for key in keys)  # type: ignore[misc]


def _turn(session: Session, organization_id: str, bulk_replay_id: str) -> int:
    row = _locked(session, organization_id, bulk_replay_id)
    now = store_now(session)
    if row.next_at is None or row.next_at > now:
        return 0  # somebody else was faster
    endpoint = endpoints.locked(session, organization_id, row.endpoint_id, even_deleted=True)
    row.next_at = now + timedelta(seconds=1)
    if endpoint.state in ("disabled", "deleted"):
        _end(session, row, "stopped", f"endpoint_{endpoint.state}")
        return 0
    moved = 0
    if endpoint.state == "active" and row.state == "trying":
        moved = _try(session, row, endpoint)
    elif endpoint.state == "active":
        moved = _run(session, row, endpoint)
    session.flush()
    if moved:
        queue.nudge(session, "webhooks.drain")
    return moved


def _try(session: Session, row: BulkReplay, endpoint: Endpoint) -> int:
    """Send the first few, or look what became of them."""
    if row.started < CANARIES and not row.is_fed:
        return _feed(session, row, endpoint, CANARIES - row.started)
    failed = session.execute(
        select(DELIVERY.c.last_problem)
        .where(
            _of(row),
            DELIVERY.c.state.in_(("parked", "waiting")),
            DELIVERY.c.last_problem.is_not(None),
            DELIVERY.c.last_problem.not_in(("held_back", "condition_failed")),
        )
        .limit(1)
    ).first()
    if failed:
        _end(session, row, "stopped", failed[0])
    elif not progress(session, row)["on_the_way"]:
        row.state = "running"
        return _run(session, row, endpoint)
    return 0


def _run(session: Session, row: BulkReplay, endpoint: Endpoint) -> int:
    """Send the next portion, unless the target is down or much of the last one is unfinished."""
    unfinished = progress(session, row)["on_the_way"]
    row.next_at = store_now(session) + timedelta(seconds=TURN_SECONDS)
    if row.is_fed:
        if not unfinished:
            _end(session, row, "done")
        return 0
    if endpoint.circuit != "closed" or unfinished >= MOST_UNFINISHED:
        return 0
    moved = _feed(session, row, endpoint, PER_TURN)
    if row.is_fed and not moved and not unfinished:
        _end(session, row, "done")
    return moved


def _feed(session: Session, row: BulkReplay, endpoint: Endpoint, most: int) -> int:
    """Let the next few events go, spread evenly over the turn; looks at a bounded number."""
    started, at = 0, store_now(session)
    for _ in range(_PAGES):
        page = _page(session, row, most - started)
        if not page:
            row.is_fed = True
            break
        wanted = [event for event in page if _fits(row, endpoint, event)]
        revived = ("parked",) if row.only_failed else ("parked", "delivered", "cancelled")
        for first in range(0, len(wanted), circuits.RATE_PER_SECOND):
            some = wanted[first : first + circuits.RATE_PER_SECOND]
            moment = at + timedelta(seconds=first // circuits.RATE_PER_SECOND)
            sent = replay.send_again(session, endpoint, some, revived, row.id, moment)
            started += sent.started
            row.passed_over += sent.passed_over
        row.after = page[-1].id
        if started >= most:
            break
    row.started += started
    return started


def _fits(row: BulkReplay, endpoint: Endpoint, event: Event) -> bool:
    wanted = not row.event_types or matches(row.event_types, event.type)
    return wanted and (row.only_failed or matches(endpoint.event_types, event.type))


def _page(session: Session, row: BulkReplay, most: int) -> list[Event]:
    """Return the next events of the time: those with a parked delivery, or all."""
    found = select(Event).where(
        EVENT.c.organization_id == row.organization_id,
        EVENT.c.id > row.after,
        EVENT.c.id < first_id("evt", row.until + _SKEW),
        EVENT.c.received_at >= row.since,
        EVENT.c.received_at <= row.until,
        EVENT.c.state == "routed",
    )
    if row.only_failed:
        parked = (
            select(DELIVERY.c.event_id)
            .where(
                DELIVERY.c.organization_id == row.organization_id,
                DELIVERY.c.endpoint_id == row.endpoint_id,
                DELIVERY.c.state == "parked",
                DELIVERY.c.event_id > row.after,
            )
            .order_by(DELIVERY.c.event_id)
            .limit(_PAGE)
        )
        found = found.where(EVENT.c.id.in_(parked))
    return list(session.execute(found.order_by(EVENT.c.id).limit(min(most, _PAGE))).scalars())
