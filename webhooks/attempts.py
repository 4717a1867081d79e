"""Attempts: due deliveries are claimed, sent together and written down in one commit."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, insert, select, update
from sqlmodel import Session

from kernel import clock, http, log
from kernel.columns import one_of
from kernel.http import Failure, Request, Response
from kernel.ids import new_id
from webhooks import endpoints, leases, retry
from webhooks.parcels import KEPT_RESPONSE_BYTES, Parcel, cloud_event, request_of, target_of
from webhooks.tables import ATTEMPT, DELIVERY, ENDPOINT, EVENT

WAVE = 64
GIVE_SECONDS = 0.008
# A target that did not answer holds no further request of the batch; they come back after this.
HELD_BACK_SECONDS = 60
# Failing without one success for this long means that nobody looks after the target any more.
GIVE_UP_AFTER = timedelta(days=5)
_UNREACHABLE = {"timeout", "connect", "dns", "tls", "refused_address"}
_SHOWN_HEADERS = 30
_logger = log.get_logger(__name__)

Send = Callable[[Sequence[Request]], Sequence[Response | Failure]]


def send_together(requests: Sequence[Request]) -> Sequence[Response | Failure]:
    """Send a whole wave at once, so that it lasts no longer than its slowest target."""
    return http.send_all(requests, limit=WAVE)


@dataclass(frozen=True, slots=True)
class Tried:
    """One HTTP try and what came of it."""

    parcel: Parcel
    request: Request
    result: Response | Failure
    started_at: datetime
    elapsed_ms: int


@dataclass(slots=True)
class Batch:
    """What a worker did with the parcels of one lease: tried some, held others back untried."""

    tried: list[Tried] = field(default_factory=list)
    held_back: list[Parcel] = field(default_factory=list)


def claim_due(
    session: Session, worker_id: str, slow: frozenset[str], *, is_slow: bool
) -> list[Parcel]:
    """Lease deliveries whose time has come and pack them."""
    now = clock.now()
    pairs = leases.claim_deliveries(session, worker_id, slow, is_slow=is_slow)
    event_keys = {(row["organization_id"], row["event_id"]) for row, _ in pairs}
    if not event_keys:
        return []
    found = session.execute(select(EVENT).where(leases.any_of(EVENT, event_keys))).mappings()
    bodies = {(row["organization_id"], row["id"]): cloud_event(dict(row)) for row in found}
    return [
        Parcel(
            organization_id=row["organization_id"],
            delivery_id=row["id"],
            event_id=row["event_id"],
            target=target_of(endpoint, now),
            body=bodies[row["organization_id"], row["event_id"]],
            attempt_no=row["attempt_count"] + 1,
            ladder_step=row["ladder_step"] + 1,
            lease_owner=row["lease_owner"],
        )
        for row, endpoint in pairs
    ]


def send_waves(parcels: Sequence[Parcel], send: Send = send_together) -> Iterator[Batch]:
    """Send in waves of a few per endpoint; stops asking an endpoint that gives no answer.

    Gives what was tried every few milliseconds, to be written down before more is sent: whatever
    is sent and not written down when a process dies goes out again.
    """
    began = gave = time.monotonic()
    waiting = list(parcels)
    dead: set[str] = set()
    batch = Batch()
    while waiting:
        if time.monotonic() - began > leases.LEASE_SECONDS / 2:
            batch.held_back += waiting  # the lease might not last for another wave
            break
        wave, waiting = _next_wave(waiting)
        now = clock.now()
        requests = [request_of(parcel, now) for parcel in wave]
        started = time.monotonic()
        results = send(requests)
        spent_ms = int((time.monotonic() - started) * 1000)
        for parcel, request, result in zip(wave, requests, results, strict=True):
            elapsed_ms = result.elapsed_ms or spent_ms
            batch.tried.append(Tried(parcel, request, result, now, elapsed_ms))
            if isinstance(result, Failure) and result.kind in _UNREACHABLE:
                dead.add(parcel.target.id)
        batch.held_back += [parcel for parcel in waiting if parcel.target.id in dead]
        waiting = [parcel for parcel in waiting if parcel.target.id not in dead]
        if time.monotonic() - gave > GIVE_SECONDS:
            yield batch
            batch, gave = Batch(), time.monotonic()
    if batch.tried or batch.held_back:
        yield batch


def try_once(parcel: Parcel) -> Tried:
    """Send one parcel and write nothing down."""
    (batch,) = send_waves([parcel])
    return batch.tried[0]


def _next_wave(parcels: list[Parcel]) -> tuple[list[Parcel], list[Parcel]]:
    wave: list[Parcel] = []
    rest: list[Parcel] = []
    in_flight: dict[str, int] = {}
    for parcel in parcels:
        taken = in_flight.get(parcel.target.id, 0)
        if taken < leases.IN_FLIGHT_PER_ENDPOINT and len(wave) < WAVE:
            in_flight[parcel.target.id] = taken + 1
            wave.append(parcel)
        else:
            rest.append(parcel)
    return wave, rest


_STILL_HELD = (
    select(DELIVERY.c.organization_id, DELIVERY.c.id)
    .where(
        one_of(DELIVERY.c.organization_id, "tenants"),
        one_of(DELIVERY.c.id, "ids"),
        DELIVERY.c.lease_owner == bindparam("owner"),
        leases.is_in(DELIVERY.c.state, "leased"),
    )
    .order_by(DELIVERY.c.organization_id, DELIVERY.c.id)
)
_LOCKED = {"sqlite": _STILL_HELD, "postgresql": _STILL_HELD.with_for_update()}


def _still_held(session: Session) -> Any:
    return _LOCKED[session.get_bind().dialect.name]


def record(session: Session, batch: Batch) -> int:
    """Write a batch's attempts and next states down; rows whose lease was lost are left alone."""
    parcels = [tried.parcel for tried in batch.tried] + batch.held_back
    if not parcels:
        return 0
    held = {
        "tenants": sorted({parcel.organization_id for parcel in parcels}),
        "ids": [parcel.delivery_id for parcel in parcels],
        "owner": parcels[0].lease_owner,
    }
    ours = {tuple(row) for row in session.connection().execute(_still_held(session), held)}
    tried = [t for t in batch.tried if (t.parcel.organization_id, t.parcel.delivery_id) in ours]
    held_back = [p for p in batch.held_back if (p.organization_id, p.delivery_id) in ours]
    if len(ours) < len(parcels):
        _logger.warning("late_record_refused", count=len(parcels) - len(ours))
    now = clock.now()
    states = _endpoint_states(session, parcels)
    _insert_attempts(session, tried, now)
    changes = [_change(t, states[_target_key(t.parcel)], now) for t in tried]
    again = now + timedelta(seconds=HELD_BACK_SECONDS)
    changes += [_unchanged(p, states[_target_key(p)], again) for p in held_back]
    _apply(session, changes)
    _judge_endpoints(session, tried, states, now)
    return len(tried)


def _target_key(parcel: Parcel) -> tuple[str, str]:
    return parcel.organization_id, parcel.target.id


def _endpoint_states(
    session: Session, parcels: Iterable[Parcel]
) -> dict[tuple[str, str], tuple[str, datetime | None]]:
    wanted = {_target_key(parcel) for parcel in parcels}
    keys = {
        "tenants": sorted({organization_id for organization_id, _ in wanted}),
        "ids": sorted({endpoint_id for _, endpoint_id in wanted}),
    }
    found = session.connection().execute(_STATES, keys)
    return {(row[0], row[1]): (row[2], row[3]) for row in found}


_STATES = select(
    ENDPOINT.c.organization_id, ENDPOINT.c.id, ENDPOINT.c.state, ENDPOINT.c.failing_since
).where(one_of(ENDPOINT.c.organization_id, "tenants"), one_of(ENDPOINT.c.id, "ids"))


_INSERT_ATTEMPTS = insert(ATTEMPT)


def _insert_attempts(session: Session, tried: list[Tried], now: datetime) -> None:
    rows = []
    for one in tried:
        response = one.result if isinstance(one.result, Response) else None
        rows.append(
            {
                "organization_id": one.parcel.organization_id,
                "id": new_id("atm"),
                "created_at": now,
                "delivery_id": one.parcel.delivery_id,
                "number": one.parcel.attempt_no,
                "started_at": one.started_at,
                "elapsed_ms": one.elapsed_ms,
                "status": response.status if response else None,
                "failure": failure_of(one.result),
                "request_headers": dict(one.request.headers),
                "response_headers": _kept_headers(response),
                "response_body": response.body[:KEPT_RESPONSE_BYTES] if response else b"",
            }
        )
    if rows:
        session.connection().execute(_INSERT_ATTEMPTS, rows)


def _kept_headers(response: Response | None) -> dict[str, str]:
    if response is None:
        return {}
    few = list(response.headers.items())[:_SHOWN_HEADERS]
    return {str(name)[:100]: str(value)[:500] for name, value in few}


def failure_of(result: Response | Failure) -> str | None:
    """Name what went wrong: a failure's kind, "status" for an answer outside 2xx, else None."""
    if isinstance(result, Failure):
        return result.kind
    return None if 200 <= result.status < 300 else "status"


def outcome_of(result: Response | Failure) -> retry.Outcome:
    """Read what the retry table needs out of a result."""
    if isinstance(result, Failure):
        return retry.Outcome(failure=result.kind)
    asked = next((v for k, v in result.headers.items() if k.lower() == "retry-after"), None)
    return retry.Outcome(status=result.status, retry_after=asked)


def _change(one: Tried, endpoint: tuple[str, datetime | None], now: datetime) -> dict[str, Any]:
    next_step = retry.after(one.parcel.ladder_step, outcome_of(one.result), now)
    change: dict[str, Any] = {
        "b_organization_id": one.parcel.organization_id,
        "b_id": one.parcel.delivery_id,
        "state": "delivered",
        "attempt_count": one.parcel.attempt_no,
        "ladder_step": one.parcel.ladder_step,
        "next_at": None,
        "last_problem": failure_of(one.result),
        "last_status": one.result.status if isinstance(one.result, Response) else None,
        "delivered_at": now,
    }
    if isinstance(next_step, retry.Delivered):
        return change
    change["delivered_at"] = None
    if isinstance(one.result, Failure) and one.result.is_ours:
        # our own trouble uses up none of the target's chances
        next_step = retry.RetryAt(now + timedelta(seconds=HELD_BACK_SECONDS))
        change["ladder_step"] = one.parcel.ladder_step - 1
    if isinstance(next_step, retry.Parked):
        return change | {"state": "parked", "last_problem": next_step.reason}
    if endpoint[0] == "disabled":
        return change | {"state": "parked", "last_problem": "endpoint_disabled"}
    # a paused endpoint's deliveries wait without a time until somebody resumes it
    return change | {
        "state": "waiting",
        "next_at": next_step.at if endpoint[0] == "active" else None,
    }


def _unchanged(
    parcel: Parcel, endpoint: tuple[str, datetime | None], again: datetime
) -> dict[str, Any]:
    return {
        "b_organization_id": parcel.organization_id,
        "b_id": parcel.delivery_id,
        "state": "parked" if endpoint[0] == "disabled" else "waiting",
        "attempt_count": parcel.attempt_no - 1,
        "ladder_step": parcel.ladder_step - 1,
        "next_at": again if endpoint[0] == "active" else None,
        "last_problem": "endpoint_disabled" if endpoint[0] == "disabled" else "held_back",
        "last_status": None,
        "delivered_at": None,
    }


_CHANGED = (
    "state",
    "attempt_count",
    "ladder_step",
    "next_at",
    "last_problem",
    "last_status",
    "delivered_at",
)
_UPDATE = (
    update(DELIVERY)
    .where(one_of(DELIVERY.c.organization_id, "tenants"), one_of(DELIVERY.c.id, "ids"))
    .values(
        lease_owner=None,
        lease_until=None,
        crash_count=0,
        **{name: bindparam(name) for name in _CHANGED},
    )
)


def _apply(session: Session, changes: list[dict[str, Any]]) -> None:
    """Update deliveries, those that end alike in one statement."""
    alike: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for change in changes:
        alike.setdefault(tuple(change[name] for name in _CHANGED), []).append(change)
    for values, same in alike.items():
        keys = {
            "tenants": sorted({one["b_organization_id"] for one in same}),
            "ids": [one["b_id"] for one in same],
        }
        session.connection().execute(_UPDATE, {**dict(zip(_CHANGED, values, strict=True)), **keys})


def _judge_endpoints(
    session: Session,
    tried: list[Tried],
    states: dict[tuple[str, str], tuple[str, datetime | None]],
    now: datetime,
) -> None:
    """Keep since when each endpoint fails; stop those that are gone or nobody repairs."""
    well = {_target_key(t.parcel) for t in tried if failure_of(t.result) is None}
    gone = {
        _target_key(t.parcel)
        for t in tried
        if isinstance(t.result, Response) and t.result.status == 410
    }
    blamed = [t for t in tried if not (isinstance(t.result, Failure) and t.result.is_ours)]
    ill = {_target_key(t.parcel) for t in blamed} - well
    recovered = sorted(k for k in well if states[k][1] is not None)
    if recovered:
        session.execute(
            update(ENDPOINT).where(leases.any_of(ENDPOINT, recovered)).values(failing_since=None)
        )
    fresh = sorted(k for k in ill if states[k][1] is None)
    if fresh:
        session.execute(
            update(ENDPOINT).where(leases.any_of(ENDPOINT, fresh)).values(failing_since=now)
        )
    for organization_id, endpoint_id in sorted(gone | ill):
        since = states[organization_id, endpoint_id][1]
        is_gone = (organization_id, endpoint_id) in gone
        if states[organization_id, endpoint_id][0] != "disabled" and (
            is_gone or (since is not None and now - since > GIVE_UP_AFTER)
        ):
            endpoints.disable(
                session, organization_id, endpoint_id, "gone" if is_gone else "failing"
            )
