"""Routing: which flows listen to an event; each that does gets a run, once."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import literal_column, null, select, text, union_all
from sqlmodel import Session, col

from connectors import advance, lanes, order_lanes
from connectors.claims import LEASE_SECONDS
from connectors.keys import Key, among
from connectors.order_keys import value_of
from connectors.order_lanes import LinedUp
from connectors.resting import waits
from connectors.resting.tables import ARRIVAL, AWAITED
from connectors.stages.tables import IN_TEST
from connectors.tables import RUN, Flow
from kernel import ids
from kernel.columns import one_of
from kernel.database import store_now
from kernel.rows import Rows
from webhooks.fan_out import MustLockError, Planned, Routed
from webhooks.ready import ReadyEvent
from webhooks.tables import SOURCE, Source

ASSISTANTS = "assistant."  # events that calls of assistants' tools become


@dataclass(slots=True)
class _Listening:
    """Who listens to some events: flows by tenant and type, and what else there is to know."""

    flows: dict[tuple[str, str], list[Any]] = field(default_factory=lambda: defaultdict(list))
    awaited: dict[str, list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))
    test_sources: set[Key] = field(default_factory=set)

    def stage_of(self, event: ReadyEvent) -> str:
        """Return the environment that an event belongs to."""
        is_test = (event.organization_id, event.source_id) in self.test_sources
        return "test" if is_test else "live"


def plan(session: Session, events: Sequence[ReadyEvent], routed: Routed) -> Planned | None:
    """Plan a run for every active flow that listens to one of the events.

    As many as there is room for are leased to the worker that routes and go on after the commit;
    those of apps known to be slow, and the rest, are left as due. Those of a flow with an order
    wait behind the first of their lane; they take a lock, or raise MustLockError. The same event
    and nonce never run twice.
    """
    found = _listening(session, events)
    arrived = _arrived(session, events, found) if found.awaited else None
    listening = found.flows
    if not listening:
        return arrived
    origins = _origins(session, events, listening)
    heard = _heard(events, listening, origins, found)
    if any(flow.order_key is not None for _, flow in heard):
        heard = _heard(events, _locked(session, heard, listening, routed), origins, found)
    now = store_now(session)
    pairs = [(_run(event, flow, now), event) for event, flow in heard]
    _say_environments(pairs, heard)
    ordered = [(row, event) for row, event in pairs if row["order_key"] is not None]
    lined_up = order_lanes.line_up(session, ordered) if ordered else LinedUp()
    _lease([row for row, _ in pairs if row["id"] not in lined_up.blocked], routed, now)

    def settle(inserted: Collection[str], routed: Routed) -> None:
        fresh = [(row, event) for row, event in pairs if row["id"] in inserted]
        mine = [(row, event) for row, event in fresh if row["state"] == "leased"]
        if mine:
            routed.follow_ups.append(partial(advance.go_on, routed.worker_id, mine))
        let_go = _let_go(session, [row for row, _ in fresh], lined_up) if ordered else []
        routed.lets_others_go |= any(row["order_key"] is not None for row, _ in mine)
        routed.is_rest_due |= bool(let_go) or any(row["state"] == "due" for row, _ in fresh)

    conflict = ("organization_id", "flow_id", "event_id", "replay_nonce")
    rows = Rows(RUN, [row for row, _ in pairs], conflict, of="event_id")
    return Planned(rows, settle, arrived)


def _say_environments(
    pairs: Sequence[tuple[dict[str, Any], ReadyEvent]], heard: Sequence[tuple[ReadyEvent, Any]]
) -> None:
    """Note which of the new runs are for testing; where none is, the rows stay as short as ever."""
    stages = [getattr(flow, "stage", "live") for _, flow in heard]
    if "test" in stages:
        for (row, _), stage in zip(pairs, stages, strict=True):
            row["environment"] = "test" if stage == "test" else None


def _arrived(
    session: Session,
    events: Iterable[ReadyEvent],
    found: _Listening,
) -> Planned | None:
    """Plan the arrivals of events that runs wait for, or will; whoever waits is told after."""
    now = store_now(session)
    rows = [
        row
        for event in events
        if event.organization_id in found.awaited
        for row in waits.arrivals(
            event, found.awaited[event.organization_id], now, found.stage_of(event)
        )
    ]
    if not rows:
        return None

    def settle(inserted: Collection[str], routed: Routed) -> None:
        fresh = [row for row in rows if row["id"] in inserted]
        if fresh:
            routed.follow_ups.append(partial(waits.tell, fresh))

    return Planned(Rows(ARRIVAL, rows, of="event_id"), settle)


def _heard(
    events: Iterable[ReadyEvent],
    listening: Mapping[tuple[str, str], Sequence[Any]],
    origins: Mapping[tuple[str, str], str],
    found: _Listening,
) -> list[tuple[ReadyEvent, Any]]:
    return [
        (event, flow)
        for event in events
        for flow in listening.get((event.organization_id, event.type), ())
        if getattr(flow, "stage", "live") == found.stage_of(event)
        and hears(flow, event, origins.get((event.organization_id, event.source_id or "")))
    ]


def _locked(
    session: Session,
    heard: Iterable[tuple[ReadyEvent, Any]],
    listening: Mapping[tuple[str, str], Sequence[Any]],
    routed: Routed,
) -> dict[tuple[str, str], list[Any]]:
    """Lock the flows that go in order, and return who listens as it is then."""
    if not routed.may_lock:
        raise MustLockError
    ordered = {(f.organization_id, f.id) for _, f in heard if f.order_key is not None}
    locked = order_lanes.lock(session, ordered)
    found: dict[tuple[str, str], list[Any]] = {}
    for (owner, event_type), flows in listening.items():
        fresh = [
            locked.get((owner, flow.id), flow) if flow.stage == "live" else flow for flow in flows
        ]
        found[owner, event_type] = [
            flow
            for flow in fresh
            if getattr(flow, "stage", "") == "test"
            or (owner, flow.id) not in locked
            or (flow.state == "active" and not flow.deleted_at and flow.listens_to == event_type)
        ]
    return found


def _lease(rows: Iterable[dict[str, Any]], routed: Routed, now: datetime) -> None:
    """Lease new runs to the worker that routes, as far as there is room."""
    slow = lanes.slow_lanes() | set(lanes.pace())
    lease = {
        "state": "leased",
        "lease_owner": routed.worker_id,
        "lease_epoch": 1,
        "lease_until": now + timedelta(seconds=LEASE_SECONDS),
        "started_at": now,
    }
    able = [row for row in rows if row["state"] == "due" and row["lane"] not in slow]
    for row in able[: routed.room]:
        row.update(lease)


def _let_go(session: Session, fresh: Iterable[dict[str, Any]], lined_up: LinedUp) -> list[Key]:
    """Give a time to heads of lanes that came in front of others, or behind one already known."""
    waiting: set[order_lanes.Lane] = set()
    at_work: set[order_lanes.Lane] = set()
    for row in fresh:
        if row["order_key"] is not None:
            here = waiting if row["state"] == "waiting" else at_work
            here.add(order_lanes.lane_of(row))
    return order_lanes.settle(session, waiting - at_work - lined_up.behind)


def hears(flow: Any, event: ReadyEvent, connection_id: str | None) -> bool:
    """Tell whether a flow that listens to the event's type wants this one.

    `connection_id` is the connection whose hook brought the event, if one did.
    """
    if flow.listens_version and event.version and flow.listens_version != event.version:
        return False
    if flow.listens_source_id and flow.listens_source_id != event.source_id:
        return False
    if flow.listens_to.startswith(ASSISTANTS) and event.source_id:
        return False  # what assistants ask for enters by their own door; no sender may say it
    wanted = flow.listens_connection_id
    return not wanted or wanted in (event.origin, connection_id)


# Beside the flows, in one trip: what some flow waits for, without a version of its own.
_AWAITED = select(
    AWAITED.c.organization_id,
    AWAITED.c.id,
    null(),
    AWAITED.c.path,
    null(),
    AWAITED.c.event_type,
    null(),
    null(),
    null(),
    literal_column("'awaited'"),
).where(one_of(AWAITED.c.organization_id, "tenants"), one_of(AWAITED.c.event_type, "types"))
_FLOWS: Any = select(
    col(Flow.organization_id),
    col(Flow.id),
    col(Flow.published_version),
    col(Flow.lane),
    col(Flow.order_key),
    col(Flow.listens_to),
    col(Flow.listens_version),
    col(Flow.listens_source_id),
    col(Flow.listens_connection_id),
    literal_column("'live'").label("stage"),
).where(
    one_of(Flow.organization_id, "tenants"),
    one_of(Flow.listens_to, "types"),
    text("state = 'active' AND deleted_at IS NULL"),  # word for word as the partial index
)
_IN_TEST = select(
    IN_TEST.c.organization_id,
    IN_TEST.c.id,
    IN_TEST.c.published_version,
    IN_TEST.c.lane,
    null(),  # in test runs go side by side
    IN_TEST.c.listens_to,
    IN_TEST.c.listens_version,
    IN_TEST.c.listens_source_id,
    IN_TEST.c.listens_connection_id,
    literal_column("'test'"),
).where(
    one_of(IN_TEST.c.organization_id, "tenants"),
    one_of(IN_TEST.c.listens_to, "types"),
    text("flow_in_test.state = 'active'"),
)
# what comes in at these is for testing
_TEST_SOURCES = select(
    SOURCE.c.organization_id,
    SOURCE.c.id,
    null(),
    null(),
    null(),
    null(),
    null(),
    null(),
    null(),
    literal_column("'source'"),
).where(one_of(SOURCE.c.organization_id, "tenants"), text("source.environment = 'test'"))
_LISTENING: Any = union_all(_FLOWS, _AWAITED, _IN_TEST, _TEST_SOURCES)


def _listening(session: Session, events: Iterable[ReadyEvent]) -> _Listening:
    wanted = {
        "tenants": sorted({event.organization_id for event in events}),
        "types": sorted({event.type for event in events}),
    }
    found = _Listening()
    for row in session.connection().execute(_LISTENING, wanted):
        if row.stage == "awaited":
            found.awaited[row.organization_id].append((row.listens_to, row.lane))
        elif row.stage == "source":
            found.test_sources.add((row.organization_id, row.id))
        else:
            found.flows[row.organization_id, row.listens_to].append(row)
    return found


def _origins(
    session: Session,
    events: Iterable[ReadyEvent],
    listening: dict[tuple[str, str], list[Any]],
) -> dict[tuple[str, str], str]:
    """Return the connection behind each source, read only when a flow asks for one."""
    if not any(flow.listens_connection_id for flows in listening.values() for flow in flows):
        return {}
    sources = sorted({(one.organization_id, one.source_id) for one in events if one.source_id})
    if not sources:
        return {}
    statement = select(
        col(Source.organization_id), col(Source.id), col(Source.connection_id)
    ).where(
        among(Source, sources),
        col(Source.connection_id).is_not(None),
    )
    return {(row[0], row[1]): row[2] for row in session.execute(statement)}


def _run(event: ReadyEvent, flow: Any, now: datetime) -> dict[str, Any]:
    return {
        "organization_id": event.organization_id,
        "id": ids.new_id("run"),
        "created_at": now,
        "flow_id": flow.id,
        "flow_version": flow.published_version,
        "event_id": event.id,
        "event_type": event.type,
        "replay_nonce": event.replay_nonce,
        "effect_nonce": "",
        "state": "due",
        "lane": flow.lane or flow.id,
        "order_key": None if flow.order_key is None else value_of(flow.order_key, event),
        "next_step": 0,
        "next_at": now,
        "attempt_count": 0,
        "lease_owner": None,
        "lease_epoch": 0,
        "lease_until": None,
        "crash_count": 0,
        "started_at": None,
    }
