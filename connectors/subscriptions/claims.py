"""Claiming ordered webhooks under a lease, fairly over organizations."""

import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import or_, select, text
from sqlmodel import Session

from connectors import connections
from connectors.connections import Open
from connectors.engine.connector import Subscribe, Trigger
from connectors.subscriptions.tables import VENDOR_HOOK, VendorHook
from connectors.tables import Connection
from identity import suspensions
from kernel import ids
from kernel.database import EVERY, reading, store_now
from kernel.errors import NotFound
from webhooks import fillings, sources
from webhooks.openings import RECIPE
from webhooks.tables import Source

LEASE_SECONDS = 180
MOST_FIRMS = 200


@dataclass
class Turn:
    """What a worker holds: the row as it was claimed, with its source as far as it is there."""

    hook: VendorHook
    owner: str
    now: datetime
    opened: Open | None
    plan: Subscribe | None
    trigger: Trigger | None
    url: str = ""
    secret: str = ""
    done: list[tuple[str, str | None]] = field(default_factory=list)  # lines for the ledger
    problem: dict[str, Any] | None = None
    after_seconds: float | None = None
    is_last: bool = False  # there will be no later try
    secret_told: str | None = None  # by the app, of a webhook that was just made


def is_any_due() -> bool:
    """Tell whether some order of any organization is due, without writing."""
    with reading(EVERY) as session:
        found = select(VENDOR_HOOK.c.id).where(*due(store_now(session))).limit(1)
        return session.execute(found).first() is not None


def due(now: datetime) -> tuple[Any, ...]:
    return (
        text("vendor_hook.next_at IS NOT NULL"),  # word for word as the partial index has it
        VENDOR_HOOK.c.next_at <= now,
        or_(VENDOR_HOOK.c.lease_until.is_(None), VENDOR_HOOK.c.lease_until < now),
        VENDOR_HOOK.c.organization_id.not_in(suspensions.suspended_ids()),
    )


def claim(session: Session) -> Turn | None:
    """Lease one order of an organization picked by lot; None: nothing is due."""
    now = store_now(session)
    owners = select(VENDOR_HOOK.c.organization_id).where(*due(now)).distinct().limit(MOST_FIRMS)
    able = list(session.execute(owners).scalars())
    if not able:
        return None
    organization_id = random.choice(able)  # noqa: S311 - shares turns out, no secret
    hook: VendorHook | None = session.execute(
        select(VendorHook)
        .where(VENDOR_HOOK.c.organization_id == organization_id, *due(now))
        .order_by(VENDOR_HOOK.c.next_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    ).scalar_one_or_none()
    return None if hook is None else lease(session, hook, now)


def lease(session: Session, hook: VendorHook, now: datetime) -> Turn:
    """Take an order for one worker, with all that its turn needs to know."""
    hook.lease_owner = ids.new_id("vht")
    hook.lease_until = now + timedelta(seconds=LEASE_SECONDS)
    session.add(hook)
    session.flush()
    opened, trigger = _open(session, hook)
    plan = trigger.subscribe if trigger else None
    turn = Turn(hook, hook.lease_owner, now, opened, plan, trigger)
    source = sources.maybe(session, hook.organization_id, hook.id)
    if source is not None:
        turn.url, turn.secret = sources.url_of(source), secret_of(source)
    return turn


def _open(session: Session, hook: VendorHook) -> tuple[Open | None, Trigger | None]:
    connection = session.get(Connection, (hook.organization_id, hook.connection_id))
    if connection is None:
        return None, None
    try:
        opened = connections.open_connection(connection)
    except NotFound:
        return None, None
    return opened, opened.connector.triggers.get(hook.trigger_key)


def secret_of(source: Source) -> str:
    """Return the secret that deliveries are proved with; of a recipe its only value."""
    from_scheme = sources.secret_of(source)
    if from_scheme is not None:
        return from_scheme
    filled = list(fillings.get(source).values()) if source.scheme == RECIPE else []
    return filled[0] if len(filled) == 1 else ""
