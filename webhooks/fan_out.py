"""Fan-out: from stored events to what they cause, deliveries here and runs through ROUTERS."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import select, text
from sqlmodel import Session

from kernel import clock
from kernel.columns import one_of
from kernel.database import insert_ignore
from kernel.ids import new_id
from webhooks import leases
from webhooks.parcels import Parcel, cloud_event, target_of
from webhooks.ready import ReadyEvent
from webhooks.tables import ENDPOINT, Delivery

# What goes on after the commit, in the process that routed: gives the number of rows moved.
FollowUp = Callable[[], int]

# How many of the new deliveries the routing worker keeps for itself; the rest is left as due.
FIRST_ATTEMPTS = 100


@dataclass(slots=True)
class Routed:
    """A batch being routed: for whom, and what came of it."""

    worker_id: str
    room: int = FIRST_ATTEMPTS  # so many rows of a kind may be leased to the worker at once
    count: int = 0
    leased: list[tuple[dict[str, Any], ReadyEvent, Mapping[str, Any]]] = field(default_factory=list)
    follow_ups: list[FollowUp] = field(default_factory=list)
    is_rest_due: bool = False  # something was left to whoever looks for what is due

    def parcels(self) -> list[Parcel]:
        """Pack the leased deliveries; needs no database."""
        return _pack(self.leased)


# Filled by the composition root; each adds its rows for the events (of any tenant) in the same
# transaction, must be idempotent on (event id, replay_nonce) and must not touch the network. Rows
# it leases to the worker go on in a follow-up, others are `is_rest_due`.
Router = Callable[[Session, Sequence[ReadyEvent], Routed], None]
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
    if events:
        _deliver(session, events, slow, routed)
        for router in ROUTERS:
            router(session, events, routed)
    return routed


_ENDPOINTS = select(ENDPOINT).where(
    one_of(ENDPOINT.c.organization_id, "tenants"), text("endpoint.state <> 'disabled'")
)


def _deliver(
    session: Session, events: Sequence[ReadyEvent], slow: frozenset[str], routed: Routed
) -> None:
    wanted = sorted({event.organization_id for event in events})
    rows = session.connection().execute(_ENDPOINTS, {"tenants": wanted})
    found = [dict(row) for row in rows.mappings()]
    if not found:
        return
    endpoints: dict[str, list[Mapping[str, Any]]] = {}
    for one in found:
        endpoints.setdefault(one["organization_id"], []).append(one)
    now = clock.now()
    lease = {
        "state": "leased",
        "lease_owner": leases.owner_name(routed.worker_id),
        "lease_epoch": 1,
        "lease_until": leases.lease_end(session),
    }
    made = []
    kept = 0
    for event in events:
        for endpoint in endpoints.get(event.organization_id, ()):
            if matches(endpoint["event_types"], event.type):
                key = (event.organization_id, event.id, event.replay_nonce)
                row = delivery_row(key, endpoint, now)
                if kept < routed.room and row["state"] == "due" and endpoint["id"] not in slow:
                    kept += 1
                    row |= lease
                made.append((row, event, endpoint))
    conflict = ("organization_id", "event_id", "endpoint_id", "replay_nonce")
    inserted = set(insert_ignore(session, Delivery, [row for row, _, _ in made], conflict))
    fresh = [one for one in made if one[0]["id"] in inserted]
    routed.leased = [one for one in fresh if one[0]["state"] == "leased"]
    routed.is_rest_due = any(one[0]["state"] == "due" for one in fresh)


def delivery_row(
    key: tuple[str, str, str], endpoint: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    """Return the columns of a new delivery for (organization, event, replay nonce).

    That of a paused endpoint waits without a time.
    """
    organization_id, event_id, replay_nonce = key
    is_active = endpoint["state"] == "active"
    return {
        "organization_id": organization_id,
        "id": new_id("dlv"),
        "created_at": now,
        "event_id": event_id,
        "endpoint_id": endpoint["id"],
        "replay_nonce": replay_nonce,
        "state": "due" if is_active else "waiting",
        "attempt_count": 0,
        "ladder_step": 0,
        "next_at": now if is_active else None,
        "lease_owner": None,
        "lease_epoch": 0,
        "lease_until": None,
        "crash_count": 0,
        "last_problem": None,
        "last_status": None,
        "delivered_at": None,
    }


def _pack(leased: Iterable[tuple[dict[str, Any], ReadyEvent, Mapping[str, Any]]]) -> list[Parcel]:
    bodies: dict[str, bytes] = {}
    targets: dict[str, Any] = {}
    now = clock.now()
    parcels = []
    for row, event, endpoint in leased:
        if event.id not in bodies:
            bodies[event.id] = cloud_event(event.columns())
        if endpoint["id"] not in targets:
            targets[endpoint["id"]] = target_of(endpoint, now)
        parcels.append(
            Parcel(
                organization_id=row["organization_id"],
                delivery_id=row["id"],
                event_id=event.id,
                target=targets[endpoint["id"]],
                body=bodies[event.id],
                attempt_no=1,
                ladder_step=1,
                lease_owner=row["lease_owner"],
            )
        )
    return parcels
