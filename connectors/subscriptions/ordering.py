"""Ordered webhooks: which sources the hub has ordered from apps, and which it should have.

A row says what shall be; a turn (connectors.subscriptions.turns) makes it so and looks every night
that it still is. The app's own list is the truth about what is there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import select, update
from sqlmodel import Session, col

from connectors import connections, triggers_in
from connectors.engine import deliveries, loader, schemas, triggers
from connectors.engine.connector import Connector, Subscribe, Trigger
from connectors.errors import NotNow, Unfit, finding
from connectors.subscriptions.tables import VENDOR_HOOK, VendorHook
from connectors.tables import Connection, Flow
from kernel import tenancy
from kernel.database import store_now
from kernel.errors import N_, NotFound
from webhooks import signing, sources
from webhooks.tables import SOURCE, Source

NIGHTLY = timedelta(hours=24)
MOST_KEPT = 30  # lines of a row's ledger
AT_ONCE = 100
ALIVE = ("wanted", "active", "stuck")


@dataclass(frozen=True, slots=True)
class Offer:
    """A trigger whose webhook can be ordered over a connection, and the order if there is one."""

    trigger: Trigger
    plan: Subscribe
    hook: VendorHook | None = None


def plan_of(connector: Connector | None, trigger_key: str | None) -> Subscribe | None:
    """Return how a trigger's webhook is ordered, None when it has to be set up by hand."""
    trigger = connector.triggers.get(trigger_key or "") if connector else None
    return trigger.subscribe if trigger else None


def offers(session: Session, connection: Connection) -> list[Offer]:
    """Return what can be ordered over a connection."""
    connector = loader.known(connection.connector_key)
    if connector is None or not any(one.subscribe for one in connector.triggers.values()):
        return []
    known = {one.trigger_key: one for one in of_connection(session, connection)}
    return [
        Offer(one, one.subscribe, known.get(key))
        for key, one in connector.triggers.items()
        if one.subscribe is not None
    ]


def of_connection(session: Session, connection: Connection) -> list[VendorHook]:
    """Return the orders over a connection that are not over, the newest last."""
    statement = VendorHook.of(connection.organization_id).where(
        VENDOR_HOOK.c.connection_id == connection.id, VENDOR_HOOK.c.state != "gone"
    )
    return list(session.execute(statement.order_by(VENDOR_HOOK.c.id)).scalars())


def find(session: Session, organization_id: str, hook_id: str) -> VendorHook:
    """Return the organization's order; a stranger's is NotFound."""
    return tenancy.find(session, VendorHook, organization_id, hook_id)


def order(
    session: Session,
    organization_id: str,
    connection_id: str,
    trigger_key: str,
    values: Mapping[str, Any] | None = None,
) -> VendorHook:
    """Open a source for a trigger and order its webhook from the app.

    Raises NotFound, and Unfit for values that do not fit.
    """
    connection = connections.find(session, organization_id, connection_id)
    connector = loader.find(connection.connector_key)
    plan = plan_of(connector, trigger_key)
    if plan is None:
        words = ("这个连接不能设置它的回调", "Its webhook cannot be set up over this connection")
        raise Unfit([finding("/trigger", *words)])
    if connection.state == "revoked":
        raise NotNow(N_("This connection was disconnected"))
    given = {name: value for name, value in (values or {}).items() if value not in ("", None)}
    missing = [
        finding(f"/input/{name}", "请填写这一项", "Please fill this in")
        for name in plan.input.get("required", ())
        if not given.get(name)
    ]
    wrong = missing or [
        {"pointer": one.target, "say": dict(one.say)}
        for one in schemas.problems(plan.input, given, "/input")
    ]
    if wrong:
        raise Unfit(wrong)
    for one in of_connection(session, connection):
        if one.trigger_key == trigger_key and one.input == given and one.state in ALIVE:
            return one
    filled = _made_up(connector.triggers[trigger_key])
    opened = triggers_in.open_source(session, connection, trigger_key, filled)
    source = sources.get(session, organization_id, opened.source_id)
    return want(session, connection, source, given)


def _made_up(trigger: Trigger) -> dict[str, str]:
    """Make up the secret that a recipe proves deliveries with, where it asks for one alone."""
    if not deliveries.uses_recipe(trigger):
        return {}
    asked = trigger.verify.get("options", {}).get("secrets", {})
    return {name: signing.new_secret() for name in asked} if len(asked) == 1 else {}


def want(
    session: Session, connection: Connection, source: Source, given: Mapping[str, Any]
) -> VendorHook:
    """Order the webhook of a source that is open; the next turn asks the app for it."""
    now = store_now(session)
    hook = VendorHook(
        organization_id=source.organization_id,
        id=source.id,
        connection_id=connection.id,
        connector_key=connection.connector_key,
        trigger_key=str(source.trigger_key),
        input=dict(given),
        next_at=now,
    )
    session.add(hook)
    session.flush()
    return hook


def end(session: Session, organization_id: str, hook_id: str) -> VendorHook:
    """Let a webhook be ended at the app, and take nothing in from it any more."""
    hook = session.get(VendorHook, (organization_id, hook_id), with_for_update=True)
    if hook is None:
        raise NotFound
    if hook.state != "gone":
        hook.state, hook.next_at, hook.failure_count = "leaving", store_now(session), 0
        hook.lease_until = None  # whoever works on it now may not record
        session.add(hook)
    source = sources.maybe(session, organization_id, hook_id)
    if source is not None and source.state == "active":
        source.state = "paused"
        session.add(source)
    return hook


def look_now(session: Session, organization_id: str, hook_id: str) -> VendorHook:
    """Let the app be asked at once whether a webhook is there."""
    hook = find(session, organization_id, hook_id)
    if hook.state == "gone":
        raise NotNow(N_("This was ended; order it anew"))
    hook.next_at, hook.failure_count = store_now(session), 0
    hook.state = "wanted" if hook.state == "stuck" else hook.state
    session.add(hook)
    return hook


def note(hook: VendorHook, did: str, at: Any, remote_id: str | None = None) -> None:
    """Write a line into an order's ledger, the newest first."""
    line = {"at": at.isoformat(), "did": did, "id": remote_id}
    hook.ledger = [line, *hook.ledger][:MOST_KEPT]


# --- what should be ordered or ended without anybody asking --------------------------------------


def settle(session: Session) -> int:
    """Order what flows need, and end what no source takes in, in every organization."""
    return _order_needed(session) + _end_forsaken(session)


def _order_needed(session: Session) -> int:
    """Order webhooks for flows that listen to a connection which nothing tells anything yet."""
    opened = select(SOURCE.c.id).where(
        SOURCE.c.organization_id == Flow.organization_id,
        SOURCE.c.connection_id == Flow.listens_connection_id,
        SOURCE.c.state != "closed",
    )
    statement = (
        select(col(Flow.organization_id), col(Flow.listens_connection_id), col(Flow.listens_to))
        .where(
            col(Flow.state) == "active",
            col(Flow.deleted_at).is_(None),
            col(Flow.listens_connection_id).is_not(None),
            ~opened.exists(),
        )
        .distinct()
        .limit(AT_ONCE)
    )
    count = 0
    for organization_id, connection_id, event in session.execute(statement).all():
        connection = session.get(Connection, (organization_id, connection_id))
        connector = loader.known(connection.connector_key) if connection else None
        if connector is None or connection is None or connection.state != "ready":
            continue
        for key, trigger in connector.triggers.items():
            plan = trigger.subscribe
            fits = plan is not None and not plan.input.get("required")
            if fits and triggers.matches(trigger, event):
                order(session, organization_id, connection_id, key)
                count += 1
                break
    return count


def _end_forsaken(session: Session) -> int:
    """End what was ordered for sources that are closed by now."""
    open_source = select(SOURCE.c.id).where(
        SOURCE.c.organization_id == VENDOR_HOOK.c.organization_id,
        SOURCE.c.id == VENDOR_HOOK.c.id,
        SOURCE.c.state != "closed",
    )
    found: Any = session.execute(
        update(VENDOR_HOOK)
        .where(VENDOR_HOOK.c.state.in_(ALIVE), ~open_source.exists())
        .values(state="leaving", next_at=store_now(session), failure_count=0)
    )
    return int(found.rowcount)
