"""Fan-out: from stored events to what they cause, deliveries here and runs through ROUTERS."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import select, update
from sqlmodel import Session

from kernel import clock
from kernel.database import insert_ignore
from kernel.ids import new_id
from webhooks import leases
from webhooks.parcels import Parcel, cloud_event, target_of
from webhooks.tables import ENDPOINT, EVENT, Delivery


@dataclass(frozen=True, slots=True)
class ReadyEvent:
    """A stored event that is being routed now."""

    organization_id: str
    id: str
    source_id: str | None
    origin: str
    type: str
    version: int | None
    subject: str | None
    occurred_at: datetime
    received_at: datetime
    content_type: str
    body: bytes
    replay_nonce: str
    lease_epoch: int
    crash_count: int


_FIELDS = tuple(field.name for field in fields(ReadyEvent))

Router = Callable[[Session, list[ReadyEvent]], None]

# Filled by the composition root; each adds its rows for the events (of any tenant) in the same
# transaction, must be idempotent on (event id, replay_nonce) and must not touch the network.
ROUTERS: list[Router] = []

# How many of the new deliveries the routing worker keeps for itself; the rest is left as due.
FIRST_ATTEMPTS = 100


def matches(patterns: Iterable[str], event_type: str) -> bool:
    """Tell whether a subscription wants the type: `order.paid`, `order.*` or `*`."""
    return any(
        pattern in ("*", event_type)
        or (pattern.endswith(".*") and event_type.startswith(pattern[:-1]))
        for pattern in patterns
    )


def route(
    session: Session,
    worker_id: str,
    claimed: list[dict[str, Any]],
    slow: frozenset[str] = frozenset(),
    keep: int = FIRST_ATTEMPTS,
) -> list[Parcel]:
    """Turn events of one claim into deliveries and runs, all in the caller's transaction.

    Events whose lease was lost meanwhile are left out. Gives at most `keep` first deliveries,
    leased to the same worker and ready to send; those of `slow` endpoints are left as due.
    """
    held = [(row["organization_id"], row["id"]) for row in claimed]
    still_ours = session.execute(
        update(EVENT)
        .where(leases.fence(EVENT, claimed[0]["lease_owner"], held))
        .values(state="routed", lease_owner=None, lease_until=None, problem=None)
        .returning(EVENT.c.organization_id, EVENT.c.id)
    ).all()
    ours = {tuple(key) for key in still_ours}
    events = [row for row in claimed if (row["organization_id"], row["id"]) in ours]
    if not events:
        return []
    parcels = _deliver(session, worker_id, events, slow, keep)
    if ROUTERS:
        ready = [ReadyEvent(**{name: row[name] for name in _FIELDS}) for row in events]
        for router in ROUTERS:
            router(session, ready)
    return parcels


def _deliver(
    session: Session,
    worker_id: str,
    events: list[dict[str, Any]],
    slow: frozenset[str],
    keep: int,
) -> list[Parcel]:
    wanted = {row["organization_id"] for row in events}
    found = session.execute(
        select(ENDPOINT).where(
            ENDPOINT.c.organization_id.in_(wanted), ENDPOINT.c.state != "disabled"
        )
    ).mappings()
    endpoints: dict[str, list[dict[str, Any]]] = {}
    for endpoint in map(dict, found):
        endpoints.setdefault(endpoint["organization_id"], []).append(endpoint)
    if not endpoints:
        return []
    now = clock.now()
    until, owner = leases.lease_end(session), leases.owner_name(worker_id)
    pairs = []
    kept = 0
    for event in events:
        for endpoint in endpoints.get(event["organization_id"], ()):
            if matches(endpoint["event_types"], event["type"]):
                row = delivery_row(event, endpoint, now)
                if kept < keep and row["state"] == "due" and endpoint["id"] not in slow:
                    kept += 1
                    row |= {
                        "state": "leased",
                        "lease_owner": owner,
                        "lease_epoch": 1,
                        "lease_until": until,
                    }
                pairs.append((row, event, endpoint))
    rows = [row for row, _, _ in pairs]
    conflict = ("organization_id", "event_id", "endpoint_id", "replay_nonce")
    inserted = set(insert_ignore(session, Delivery, rows, conflict))
    return _pack([pair for pair in pairs if pair[0]["id"] in inserted], now)


def delivery_row(
    event: Mapping[str, Any], endpoint: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    """Return the columns of a new delivery; that of a paused endpoint waits without a time."""
    is_active = endpoint["state"] == "active"
    return {
        "organization_id": event["organization_id"],
        "id": new_id("dlv"),
        "created_at": now,
        "event_id": event["id"],
        "endpoint_id": endpoint["id"],
        "replay_nonce": event["replay_nonce"],
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


def _pack(pairs: list[tuple[dict[str, Any], Any, Any]], now: datetime) -> list[Parcel]:
    bodies: dict[str, bytes] = {}
    targets: dict[str, Any] = {}
    parcels = []
    for row, event, endpoint in pairs:
        if row["state"] != "leased":
            continue
        if event["id"] not in bodies:
            bodies[event["id"]] = cloud_event(event)
        if endpoint["id"] not in targets:
            targets[endpoint["id"]] = target_of(endpoint, now)
        parcels.append(
            Parcel(
                organization_id=row["organization_id"],
                delivery_id=row["id"],
                event_id=event["id"],
                target=targets[endpoint["id"]],
                body=bodies[event["id"]],
                attempt_no=1,
                ladder_step=1,
                lease_owner=row["lease_owner"],
            )
        )
    return parcels
