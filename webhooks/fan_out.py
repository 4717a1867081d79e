"""Fan-out: from stored events to what they cause, deliveries here and runs through ROUTERS."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlmodel import Session

from kernel import clock
from kernel.columns import one_of
from kernel.database import store_now
from kernel.ids import new_id
from kernel.rows import Rows, insert_together
from webhooks import conditions, lanes, leases
from webhooks.parcels import Parcel, cloud_event, target_of
from webhooks.payloads import is_referred
from webhooks.ready import ReadyEvent
from webhooks.tables import DELIVERY, ENDPOINT

# What goes on after the commit, in the process that routed: gives the number of rows moved.
FollowUp = Callable[[], int]

# A new delivery, with its event and its endpoint.
_Made = tuple[dict[str, Any], ReadyEvent, Mapping[str, Any]]

# How many of the new deliveries the routing worker keeps for itself; the rest is left as due.
FIRST_ATTEMPTS = 400


@dataclass(slots=True)
class Routed:
    """A batch being routed: for whom, and what came of it."""

    worker_id: str
    room: int = FIRST_ATTEMPTS  # so many rows of a kind may be leased to the worker at once
    may_lock: bool = True  # the session's work is one transaction, or nobody else can write
    count: int = 0
    leased: list[_Made] = field(default_factory=list)
    follow_ups: list[FollowUp] = field(default_factory=list)
    is_rest_due: bool = False  # something was left to whoever looks for what is due
    is_ordered: bool = False  # something was left to whoever sends in order
    tally: Counter[str] = field(default_factory=Counter)  # events, by organization
    is_limited: bool = False  # once it is sent, more may go to the same endpoint
    lets_others_go: bool = False  # once its follow-ups are done, what waited in order may be due

    def parcels(self) -> list[Parcel]:
        """Pack the leased deliveries; needs no database."""
        return _pack(self.leased)


@dataclass(frozen=True, slots=True)
class Planned:
    """Rows that events cause, and what to do once it is known which of them went in, by id."""

    rows: Rows
    settle: Callable[[Collection[str], Routed], None]
    beside: "Planned | None" = None  # more of the same router, of another table

    def all(self) -> "list[Planned]":
        """Return it with what is beside it."""
        return [self] if self.beside is None else [self, *self.beside.all()]


class MustLockError(Exception):
    """What an event causes depends on rows that have to be locked first."""


# Filled by the composition root; each says what rows the events (of any tenant) cause, without
# writing any, idempotent on (event id, replay_nonce) and without touching the network. Rows that it
# leases to the worker go on in a follow-up, others are `is_rest_due`. Whoever must lock rows of its
# own locks them after the endpoints, or raises MustLockError.
Router = Callable[[Session, Sequence[ReadyEvent], Routed], Planned | None]
ROUTERS: list[Router] = []


def matches(patterns: Iterable[str], event_type: str) -> bool:
    """Tell whether a subscription wants the type: `order.paid`, `order.*` or `*`."""
    return any(
        pattern in ("*", event_type)
        or (pattern.endswith(".*") and event_type.startswith(pattern[:-1]))
        for pattern in patterns
    )


def route(
    session: Session,
    events: Sequence[ReadyEvent],
    routed: Routed,
    slow: frozenset[str] = frozenset(),
) -> Routed:
    """Write what the events cause, in the transaction that took them, and note it in `routed`.

    First deliveries are leased to the worker as far as there is room; those to `slow` endpoints
    are left as due.
    """
    routed.count = len(events)
    routed.tally = Counter(event.organization_id for event in events)
    write_down(session, plan(session, events, routed, slow), routed)
    return routed


def plan(
    session: Session,
    events: Sequence[ReadyEvent],
    routed: Routed,
    slow: frozenset[str] = frozenset(),
) -> list[Planned]:
    """Say what rows the events cause, for the worker and the room of `routed`; changes nothing.

    Raises MustLockError when that takes locks and may not.
    """
    if not events:
        return []
    planned = [_deliveries(session, events, slow, routed)]
    planned += [router(session, events, routed) for router in ROUTERS]
    return [part for one in planned if one is not None for part in one.all()]


def write_down(
    session: Session, planned: Sequence[Planned], routed: Routed, first: Rows | None = None
) -> set[str]:
    """Insert what was planned in one statement, and note in `routed` what came of it.

    With `first` its rows go in as well, and only what belongs to those that did. Returns the ids
    of all that went in.
    """
    groups = [one.rows for one in planned]
    inserted = insert_together(session.connection(), groups, first)
    for one in planned:
        one.settle(inserted, routed)
    return inserted


_ENDPOINTS = select(ENDPOINT).where(
    one_of(ENDPOINT.c.organization_id, "tenants"), ENDPOINT.c.state != "deleted"
)


def _deliveries(
    session: Session,
    events: Sequence[ReadyEvent],
    slow: frozenset[str],
    routed: Routed,
) -> Planned | None:
    endpoints, room = _endpoints(session, events, may_lock=routed.may_lock)
    if not endpoints:
        return None
    now = store_now(session)
    lease = {
        "state": "leased",
        "lease_owner": leases.owner_name(routed.worker_id),
        "lease_epoch": 1,
        "lease_until": leases.lease_end(session),
    }
    made: list[_Made] = []
    kept = 0
    for event in events:
        view = conditions.View(event)
        for endpoint in endpoints.get(event.organization_id, ()):
            if matches(endpoint["event_types"], event.type):
                key = (event.organization_id, event.id, event.replay_nonce)
                row = delivery_row(key, endpoint, now)
                if endpoint["condition"] and not conditions.lets_through(endpoint, view, row):
                    continue
                if endpoint["ordering"] != "none":
                    row |= _on_lane(endpoint, event, row)
                if kept < routed.room and row["state"] == "due" and endpoint["id"] not in slow:
                    left = room.get(endpoint["id"], 1)
                    if left > 0:
                        kept += 1
                        row |= lease
                        room[endpoint["id"]] = left - bool(endpoint["max_in_flight"])
                made.append((row, event, endpoint))
    conflict = ("organization_id", "event_id", "endpoint_id", "replay_nonce")
    rows = Rows(DELIVERY, [row for row, _, _ in made], conflict, of="event_id")

    def settle(inserted: Collection[str], routed: Routed) -> None:
        fresh = [one for one in made if one[0]["id"] in inserted]
        routed.leased = [one for one in fresh if one[0]["state"] == "leased"]
        routed.is_rest_due |= any(one[0]["state"] == "due" for one in fresh)
        routed.is_limited = any(endpoint["max_in_flight"] for _, _, endpoint in fresh)
        _release(session, fresh, routed)

    return Planned(rows, settle)


def _endpoints(
    session: Session, events: Sequence[ReadyEvent], *, may_lock: bool
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, int]]:
    """Return the endpoints of each organization, and how many those with a limit may lease."""
    wanted = sorted({event.organization_id for event in events})
    rows = session.connection().execute(_ENDPOINTS, {"tenants": wanted})
    found = [dict(row) for row in rows.mappings()]
    special = [one for one in found if _is_special(one)]
    if special and not may_lock:
        raise MustLockError
    room = _settle(session, special)
    endpoints: dict[str, list[dict[str, Any]]] = {}
    for one in found:
        endpoints.setdefault(one["organization_id"], []).append(one)
    return endpoints, room


def _is_special(endpoint: Mapping[str, Any]) -> bool:
    """Tell whether an endpoint is held, limited or ordered."""
    return bool(
        not is_sending(endpoint) or endpoint["max_in_flight"] or endpoint["ordering"] != "none"
    )


def _release(session: Session, fresh: Iterable[_Made], routed: Routed) -> None:
    """Give the heads of lanes that got something new a time, where things are sent at all."""
    names: dict[tuple[str, str], set[str]] = {}
    for row, _, endpoint in fresh:
        if row["lane"] is not None and is_sending(endpoint):
            key = row["organization_id"], row["endpoint_id"]
            names.setdefault(key, set()).add(row["lane"])
    for key in sorted(names):
        lanes.release(session, key, names[key])
    routed.is_ordered = bool(names)


def _settle(session: Session, special: list[dict[str, Any]]) -> dict[str, int]:
    """Read special endpoints once more, locked: whoever lets go what is held, or leases, then sees
    what is added here, or is seen. Returns how many those with a limit may lease.
    """
    if not special:
        return {}
    keys = [(one["organization_id"], one["id"]) for one in special]
    locked = leases.locked_endpoints(session, keys)
    for one in special:
        one.update(locked[one["organization_id"], one["id"]])
    return leases.room_of(session, special)


def _on_lane(endpoint: Mapping[str, Any], event: Any, row: dict[str, Any]) -> dict[str, Any]:
    """Return what makes a new delivery wait in its lane; one set aside is on none."""
    if row["state"] not in ("due", "waiting"):
        return {}
    lane = lanes.lane_of(endpoint["ordering"], event.subject)
    return {"state": "waiting", "next_at": None, "lane": lane}


def is_sending(endpoint: Mapping[str, Any]) -> bool:
    """Tell whether new deliveries of the endpoint may go out at once."""
    return bool(endpoint["state"] == "active" and endpoint["circuit"] == "closed")


def delivery_row(
    key: tuple[str, str, str], endpoint: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    """Return the columns of a new delivery for (organization, event, replay nonce).

    That of an endpoint that sends nothing now is held: it waits without a time. That of one which
    is switched off is parked, for whoever switches it on again to send or not.
    """
    organization_id, event_id, replay_nonce = key
    is_active, is_off = is_sending(endpoint), endpoint["state"] == "disabled"
    return {
        "organization_id": organization_id,
        "id": new_id("dlv"),
        "created_at": now,
        "event_id": event_id,
        "endpoint_id": endpoint["id"],
        "replay_nonce": replay_nonce,
        "state": "due" if is_active else "parked" if is_off else "waiting",
        "attempt_count": 0,
        "ladder_step": 0,
        "next_at": now if is_active else None,
        "lease_owner": None,
        "lease_epoch": 0,
        "lease_until": None,
        "crash_count": 0,
        "last_problem": "endpoint_disabled" if is_off else None,
        "last_status": None,
        "lane": None,
        "delivered_at": None,
    }


def _pack(leased: Iterable[_Made]) -> list[Parcel]:
    bodies: dict[tuple[str, str], bytes] = {}
    targets: dict[str, Any] = {}
    now = clock.now()
    parcels = []
    for row, event, endpoint in leased:
        packed = event.id, endpoint["id"] if is_referred(event.body, endpoint) else ""
        if packed not in bodies:
            bodies[packed] = cloud_event(event.columns(), packed[1])
        if endpoint["id"] not in targets:
            targets[endpoint["id"]] = target_of(endpoint, now)
        parcels.append(
            Parcel(
                organization_id=row["organization_id"],
                delivery_id=row["id"],
                event_id=event.id,
                target=targets[endpoint["id"]],
                body=bodies[packed],
                attempt_no=1,
                ladder_step=1,
                lease_owner=row["lease_owner"],
            )
        )
    return parcels
