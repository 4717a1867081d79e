"""Polls: apps that send nothing by themselves are asked, and what is new comes in as events.

A poll is a source that nobody sends to, and the look that fills it. It belongs to a connection and
one of its triggers, never to a flow: publishing, pausing or deleting flows moves no cursor. What
was asked for when is written down in the look (connectors.reconciliations).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlmodel import Session, select

from connectors import connections, reconciliations
from connectors.engine import loader, triggers
from connectors.engine.connector import Trigger
from connectors.errors import Unfit, finding
from connectors.tables import Connection, Reconciliation
from kernel.database import store_now
from kernel.errors import NotFound
from webhooks import sources
from webhooks.tables import SOURCE, Source

LONGEST_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Offer:
    """A trigger that a connection's app can be asked for, and the poll of it if there is one."""

    trigger: Trigger
    source: Source | None = None
    look: Reconciliation | None = None

    @property
    def every_seconds(self) -> int:
        """Return how often the app is asked, or would be."""
        assert self.trigger.every is not None
        own = self.look.every_seconds if self.look else None
        return own or self.trigger.every.seconds


def offers(session: Session, connection: Connection) -> list[Offer]:
    """Return what a connection's app can be asked for."""
    connector = loader.known(connection.connector_key)
    polled = [one for one in connector.triggers.values() if one.every] if connector else []
    if not polled:
        return []
    found = session.execute(
        select(Source).where(
            SOURCE.c.organization_id == connection.organization_id,
            SOURCE.c.connection_id == connection.id,
            SOURCE.c.state != "closed",
        )
    ).scalars()
    own = {one.trigger_key: one for one in found}
    return [
        Offer(one, source, _look_of(session, source))
        for one, source in ((one, own.get(one.key)) for one in polled)
    ]


def _look_of(session: Session, source: Source | None) -> Reconciliation | None:
    if source is None:
        return None
    return reconciliations.find(session, source.organization_id, source.id)


def start(
    session: Session,
    organization_id: str,
    connection_id: str,
    trigger_key: str,
    *,
    values: Mapping[str, Any] | None = None,
    every_seconds: int | None = None,
    since: datetime | None = None,
) -> Reconciliation:
    """Ask a connection's app from now on, or otherwise than so far; returns the look.

    `since` brings in what changed from then on, as far back as the app keeps it; without it only
    what changes from now on. Raises NotFound, and Unfit for values that do not fit.
    """
    connection = connections.find(session, organization_id, connection_id)
    known = {one.trigger.key: one for one in offers(session, connection)}
    offer = known.get(trigger_key)
    if offer is None or connection.state == "revoked":
        words = ("这个连接不能查询它", "This connection cannot be asked for it")
        raise Unfit([finding("/trigger", *words)])
    _check(offer.trigger, every_seconds)
    source = offer.source or _open(session, connection, offer.trigger)
    session.flush()
    look = reconciliations.set_up(
        session, organization_id, source.id, connection_id=connection.id, values=values or {}
    )
    look.every_seconds = every_seconds or offer.every_seconds
    if since is not None:
        look.cursor, look.token, look.progress = min(since, store_now(session)), None, None
    session.add(look)
    session.flush()
    return look


def _check(trigger: Trigger, every_seconds: int | None) -> None:
    assert trigger.every is not None
    least = trigger.every.least_seconds
    if every_seconds is not None and not least <= every_seconds <= LONGEST_SECONDS:
        words = (
            f"请填写 {least} 到 {LONGEST_SECONDS} 秒",
            f"Choose between {least} and {LONGEST_SECONDS} seconds",
        )
        raise Unfit([finding("/every_seconds", *words)])


def _open(session: Session, connection: Connection, trigger: Trigger) -> Source:
    """Open the source that the events will belong to; nobody can send to it."""
    return sources.create(
        session,
        connection.organization_id,
        name=f"{connection.name} · {trigger.title['zh']}",
        scheme=sources.POLL,
        scheme_options={"id_header": trigger.dedupe["header"]},
        rules=triggers.rules_of(trigger),
        connection_id=connection.id,
        connector_key=connection.connector_key,
        trigger_key=trigger.key,
    )


def stop(session: Session, organization_id: str, poll_id: str) -> Source:
    """Ask no more, and return the source that is closed; what came in stays."""
    source = sources.get(session, organization_id, poll_id)
    if source.scheme != sources.POLL:
        raise NotFound
    look = reconciliations.find(session, organization_id, poll_id)
    if look is not None:
        session.delete(look)
        session.flush()
    sources.close(session, organization_id, poll_id)
    return source
