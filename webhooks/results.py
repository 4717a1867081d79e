"""Results: what came of a batch of attempts is written down; late writers are refused."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, select, update
from sqlmodel import Session

from kernel import log
from kernel.columns import one_of
from kernel.database import EVERY, after_commit, reading, store_now, write, write_once
from kernel.http import Failure, Response
from kernel.ids import new_id
from kernel.rows import Rows, change_and_add, insert_rows
from webhooks import circuits, endpoints, lanes, leases, retry, usage
from webhooks.attempts import Batch, Tried
from webhooks.outcomes import answer_of, failure_of, outcome_of
from webhooks.parcels import KEPT_RESPONSE_BYTES, Parcel, shown_headers
from webhooks.tables import ATTEMPT, DELIVERY

# A target that did not answer holds no further request of the batch; they come back after this.
HELD_BACK_SECONDS = 60
_SHOWN_HEADERS = 30
_logger = log.get_logger(__name__)


def write_down(batch: Batch) -> int:
    """Write a batch's attempts and next states down; returns how many of the tries were still ours.

    Rows whose lease was lost are left alone.
    """
    if _is_all_well(batch):
        return _write_arrivals(batch)
    return write(lambda session: record(session, batch))


def _is_all_well(batch: Batch) -> bool:
    """Tell whether everything arrived, at targets of which a success changes nothing."""
    if batch.held_back or not batch.tried:
        return False
    if any(failure_of(tried.result) is not None for tried in batch.tried):
        return False
    with reading(EVERY) as session:
        rows = circuits.look(session, (_target_key(tried.parcel) for tried in batch.tried))
    return not any(circuits.is_troubled(row) or row.ordering != "none" for row in rows.values())


def _write_arrivals(batch: Batch) -> int:
    """Write down what arrived, each delivery with its attempt in one statement."""
    owner = batch.tried[0].parcel.lease_owner

    def work(session: Session) -> list[tuple[Any, ...]]:
        now = store_now(session)
        tries = {tried.parcel.delivery_id: tried for tried in batch.tried}
        found: list[tuple[Any, ...]] = []
        for values in _alike([_change(tried, "active", now) for tried in batch.tried]):
            rows = [_attempt(tries[delivery_id], now) for delivery_id in values["ids"]]
            added = Rows(ATTEMPT, rows, of="delivery_id")
            given = {**values, "owner": owner}
            found += change_and_add(session.connection(), _ARRIVE, given, added)
        return found

    found = write_once(work)
    ours = {row[0]: row for row in found}
    tried = [one for one in batch.tried if one.parcel.delivery_id in ours]
    if len(tried) < len(batch.tried):
        _logger.warning("late_record_refused", count=len(batch.tried) - len(tried))
    passed = [
        (_target_key(one.parcel), ours[one.parcel.delivery_id][1])
        for one in tried
        if ours[one.parcel.delivery_id][1] is not None
    ]
    if passed:
        write(lambda session: _move_up(session, passed))  # it was put in order just now
    _count(tried)
    return len(tried)


def _move_up(session: Session, passed: Sequence[tuple[tuple[str, str], str]]) -> None:
    rows = circuits.look(session, {key for key, _ in passed}, is_locking=True)
    lanes.move_up(session, passed, rows)


_STILL_HELD = (
    select(DELIVERY.c.organization_id, DELIVERY.c.id, DELIVERY.c.lane)
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
    rows = _endpoint_rows(session, batch, parcels)
    held = {
        "tenants": sorted({parcel.organization_id for parcel in parcels}),
        "ids": [parcel.delivery_id for parcel in parcels],
        "owner": parcels[0].lease_owner,
    }
    found = session.connection().execute(_still_held(session), held)
    ours = {(row[0], row[1]): row[2] for row in found}
    tried = [t for t in batch.tried if (t.parcel.organization_id, t.parcel.delivery_id) in ours]
    held_back = [p for p in batch.held_back if (p.organization_id, p.delivery_id) in ours]
    if len(ours) < len(parcels):
        _logger.warning("late_record_refused", count=len(parcels) - len(ours))
    now = store_now(session)
    insert_rows(session.connection(), ATTEMPT, [_attempt(one, now) for one in tried])
    changes = [_change(t, rows[_target_key(t.parcel)].state, now) for t in tried]
    for parcel in held_back:
        lane = ours[parcel.organization_id, parcel.delivery_id]
        again = now + timedelta(seconds=HELD_BACK_SECONDS) if lane is None else None
        changes.append(_unchanged(parcel, rows[_target_key(parcel)].state, again))
    _apply(session, changes)
    passed = [(_target_key(p), ours.get((p.organization_id, p.delivery_id))) for p in parcels]
    lanes.move_up(session, passed, rows)
    _judge_endpoints(session, tried, rows, now)
    after_commit(session, lambda: _count(tried))
    return len(tried)


def _endpoint_rows(session: Session, batch: Batch, parcels: Iterable[Parcel]) -> dict[Any, Any]:
    """Look at the endpoints; lock those that failed or are in trouble, before any delivery."""
    rows = circuits.look(session, map(_target_key, parcels))
    failed = {_target_key(t.parcel) for t in batch.tried if failure_of(t.result) is not None}
    failed |= {_target_key(parcel) for parcel in batch.held_back}
    touched = {
        key
        for key, row in rows.items()
        if key in failed or circuits.is_troubled(row) or row.ordering != "none"
    }
    return rows | circuits.look(session, touched, is_locking=True)


def _judge_endpoints(
    session: Session, tried: Iterable[Tried], rows: dict[Any, Any], now: datetime
) -> None:
    said: dict[tuple[str, str], list[circuits.Answer]] = {}
    for one in tried:
        said.setdefault(_target_key(one.parcel), []).append(
            answer_of(one.parcel.delivery_id, one.result, now)
        )
    answers = {
        key: some
        for key, some in said.items()
        if circuits.is_troubled(rows[key]) or not all(answer.is_good for answer in some)
    }
    circuits.judge(session, answers, rows)
    for key in sorted(answers):
        reason = endpoints.reason_to_stop(rows[key], answers[key], now)
        if reason:
            endpoints.give_up(session, *key, reason)


def _count(tried: Iterable[Tried]) -> None:
    for one in tried:
        is_good = failure_of(one.result) is None
        usage.add(one.parcel.organization_id, None, **_GOOD if is_good else _BAD)


_GOOD, _BAD = {"delivered": 1}, {"undelivered": 1}


def _target_key(parcel: Parcel) -> tuple[str, str]:
    return parcel.organization_id, parcel.target.id


def _attempt(one: Tried, now: datetime) -> dict[str, Any]:
    response = one.result if isinstance(one.result, Response) else None
    return {
        "organization_id": one.parcel.organization_id,
        "id": new_id("atm"),
        "created_at": now,
        "delivery_id": one.parcel.delivery_id,
        "number": one.parcel.attempt_no,
        "started_at": one.started_at,
        "elapsed_ms": one.elapsed_ms,
        "status": response.status if response else None,
        "failure": failure_of(one.result),
        "request_headers": shown_headers(one.parcel, one.request),
        "response_headers": _kept_headers(response),
        "response_body": response.body[:KEPT_RESPONSE_BYTES] if response else b"",
    }


def _kept_headers(response: Response | None) -> dict[str, str]:
    if response is None:
        return {}
    few = list(response.headers.items())[:_SHOWN_HEADERS]
    return {str(name)[:100]: str(value)[:500] for name, value in few}


def _change(one: Tried, endpoint_state: str, now: datetime) -> dict[str, Any]:
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
    if endpoint_state == "deleted":
        return change | {"state": "cancelled", "last_problem": "endpoint_deleted"}
    if isinstance(next_step, retry.Parked):
        return change | {"state": "parked", "last_problem": next_step.reason}
    if endpoint_state == "disabled":
        return change | {"state": "parked", "last_problem": "endpoint_disabled"}
    # a paused endpoint's deliveries wait without a time until somebody resumes it
    return change | {
        "state": "waiting",
        "next_at": next_step.at if endpoint_state == "active" else None,
    }


def _unchanged(parcel: Parcel, endpoint_state: str, again: datetime | None) -> dict[str, Any]:
    state, word = _ENDED.get(endpoint_state, ("waiting", "held_back"))
    return {
        "b_organization_id": parcel.organization_id,
        "b_id": parcel.delivery_id,
        "state": state,
        "attempt_count": parcel.attempt_no - 1,
        "ladder_step": parcel.ladder_step - 1,
        "next_at": again if endpoint_state == "active" else None,
        "last_problem": word,
        "last_status": None,
        "delivered_at": None,
    }


# of an endpoint that gets nothing any more: what becomes of a delivery, and why
_ENDED = {
    "disabled": ("parked", "endpoint_disabled"),
    "deleted": ("cancelled", "endpoint_deleted"),
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
_ARRIVE = _UPDATE.where(
    DELIVERY.c.lease_owner == bindparam("owner"), leases.is_in(DELIVERY.c.state, "leased")
).returning(DELIVERY.c.id, DELIVERY.c.lane)


def _apply(session: Session, changes: list[dict[str, Any]]) -> None:
    """Update deliveries, those that end alike in one statement."""
    for values in _alike(changes):
        session.connection().execute(_UPDATE, values)


def _alike(changes: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put together what ends alike: the parameters of `_UPDATE`, `ids` and `tenants` among them."""
    alike: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for change in changes:
        alike.setdefault(tuple(change[name] for name in _CHANGED), []).append(change)
    return [
        {
            **dict(zip(_CHANGED, values, strict=True)),
            "tenants": sorted({one["b_organization_id"] for one in same}),
            "ids": [one["b_id"] for one in same],
        }
        for values, same in alike.items()
    ]
