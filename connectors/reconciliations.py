"""Reconciliations: which sources are compared with what their app sent, and how that goes."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select, update
from sqlmodel import Session

from connectors import connections
from connectors.engine import loader, schemas
from connectors.engine.connector import Connector, Reconcile
from connectors.errors import Unfit, finding
from connectors.tables import RECONCILIATION, Connection, Reconciliation
from kernel import tenancy
from kernel.database import store_now
from kernel.errors import N_, Conflict, NotFound
from kernel.rows import insert_ignore
from webhooks import fetched, sources
from webhooks.tables import SOURCE, Source

INTERVAL = timedelta(minutes=15)
RESTING = timedelta(seconds=10)
ADOPTED_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Way:
    """How a source's sender can be asked what it sent: its connector, and the manifest's plan."""

    connector: Connector
    plan: Reconcile
    connections: tuple[Connection, ...] = ()

    @property
    def needs_input(self) -> bool:
        """Tell whether a person must say more than which connection."""
        return bool(self.plan.input.get("required"))


@dataclass(frozen=True, slots=True)
class Status:
    """What people want to know of a reconciliation."""

    state: str  # looking | waiting | trouble
    complete_until: datetime
    open: tuple[Mapping[str, Any], ...]  # missing and asked for, or still to be asked for
    lost: tuple[Mapping[str, Any], ...]  # missing, and nothing more is tried by itself


def plan_of(connector: Connector, source: Source) -> Reconcile | None:
    """Return how a connector looks for what a source lacks; None when it cannot."""
    own = connector.triggers.get(source.trigger_key or "")
    if own is not None and connector.key == source.connector_key:
        return own.reconcile
    for trigger in connector.triggers.values():
        if trigger.reconcile is not None and trigger.verify["scheme"] == source.scheme:
            return trigger.reconcile
    return None


def ways(session: Session, source: Source) -> list[Way]:
    """Return the ways a source's sender could be asked, with the connections to ask over."""
    if source.connector_key:
        known = loader.known(source.connector_key)
        choice = [known] if known else []
    else:
        choice = list(loader.library().values())
    found = []
    for connector in choice:
        plan = plan_of(connector, source)
        if plan is not None:
            own = connections.all_of(session, source.organization_id, connector.key)
            found.append(Way(connector, plan, tuple(own)))
    return found


def find(session: Session, organization_id: str, source_id: str) -> Reconciliation | None:
    """Return a source's reconciliation, None when nobody looks; a stranger's is None, too."""
    return session.get(Reconciliation, (organization_id, source_id))


def get(session: Session, organization_id: str, source_id: str) -> Reconciliation:
    """Return a source's reconciliation; raises NotFound."""
    sources.get(session, organization_id, source_id)
    found = find(session, organization_id, source_id)
    if found is None:
        raise NotFound(detail=N_("Nobody looks for missing events of this source yet"))
    return found


def interval_of(one: Reconciliation) -> timedelta:
    """Return how long after one look the next begins."""
    return timedelta(seconds=one.every_seconds) if one.every_seconds else INTERVAL


def status(one: Reconciliation, now: datetime) -> Status:
    """Say how a reconciliation stands."""
    is_due = one.progress is not None or one.look_at <= now
    # between two turns it rests for a moment; who waits longer, waits for something
    is_looking = one.state == "leased" or (is_due and one.next_at <= now + RESTING)
    is_stuck = one.problem is not None and one.state != "leased" and one.next_at > now
    waiting = tuple(m for m in one.missing if m["state"] != "lost")
    lost = tuple(m for m in one.missing if m["state"] == "lost")
    times = [datetime.fromisoformat(m["at"]) for m in one.missing if m.get("at")]
    return Status(
        state="trouble" if is_stuck else "looking" if is_looking else "waiting",
        complete_until=min([one.cursor, *times]),
        open=waiting,
        lost=lost,
    )


def watch(session: Session, source: Source) -> bool:
    """Look for what a source lacks from now on, if its app can be asked without more input."""
    connector = loader.known(source.connector_key or "")
    plan = plan_of(connector, source) if connector else None
    if plan is None or source.connection_id is None or plan.input.get("required"):
        return False
    if not fetched.can_tell_apart(source.scheme_options):
        return False
    row = _row(session, source, source.connection_id, plan, {})
    return bool(insert_ignore(session, Reconciliation, [row], ("organization_id", "id")))


def _row(
    session: Session, source: Source, connection_id: str, plan: Reconcile, values: Mapping[str, Any]
) -> dict[str, Any]:
    now = store_now(session)
    wait = timedelta(seconds=plan.every.seconds) if plan.every else INTERVAL
    first = now + wait * random.random()  # noqa: S311 - spreads load, no secret
    return {
        "organization_id": source.organization_id,
        "id": source.id,
        "created_at": now,
        "connection_id": connection_id,
        "input": dict(values),
        "state": "waiting",
        "next_at": first,
        "look_at": first,
        "cursor": max(source.created_at, now - timedelta(hours=plan.keeps_hours)),
        "missing": [],
        "skew_seconds": 0,
        "every_seconds": plan.every.seconds if plan.every else None,
        "token": None,
        "failure_count": 0,
        "found_count": 0,
        "asked_count": 0,
        "fetched_count": 0,
        "failed_count": 0,
        "lease_epoch": 0,
    }


def set_up(
    session: Session,
    organization_id: str,
    source_id: str,
    *,
    connection_id: str,
    values: Mapping[str, Any],
) -> Reconciliation:
    """Say over which connection a source's sender is asked, and look at once.

    Raises NotFound for the source, Unfit for a connection or values that do not fit, Conflict when
    the source is closed or does not tell events apart.
    """
    source = sources.get(session, organization_id, source_id)
    connection = session.get(Connection, (organization_id, connection_id))
    known = loader.known(connection.connector_key) if connection else None
    plan = plan_of(known, source) if known else None
    if plan is None or connection is None or connection.state == "revoked":
        text = ("这个连接不能用来查询该来源的事件", "This connection cannot be asked for it")
        raise Unfit([finding("/connection_id", *text)])
    given = {name: value for name, value in values.items() if value not in ("", None)}
    findings = list(_problems(plan, given))
    if findings:
        raise Unfit(findings)
    if source.state == "closed" or not fetched.can_tell_apart(source.scheme_options):
        raise Conflict(
            detail=N_("This source does not tell events apart by their ids, or it is closed")
        )
    row = _row(session, source, connection_id, plan, given)
    insert_ignore(session, Reconciliation, [row], ("organization_id", "id"))
    one = tenancy.find(session, Reconciliation, organization_id, source_id)
    if (one.connection_id, one.input) != (connection_id, given):
        # another place lists other things: what was found in the old one says nothing here
        one.connection_id, one.input = connection_id, given
        one.cursor, one.progress, one.missing, one.skew_seconds = row["cursor"], None, [], 0
        one.token = None
        one.lease_epoch += 1  # whoever is looking there now must not write here
        one.state, one.lease_owner, one.lease_until = "waiting", None, None
    session.flush()
    return look_now(session, organization_id, source_id)


def _problems(plan: Reconcile, given: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    missing = [name for name in plan.input.get("required", ()) if not given.get(name)]
    for name in missing:
        yield finding(f"/input/{name}", "请填写这一项", "Please fill this in")
    if not missing:
        for one in schemas.problems(plan.input, dict(given), "/input"):
            yield {"pointer": one.target, "say": dict(one.say)}


def look_now(session: Session, organization_id: str, source_id: str) -> Reconciliation:
    """Let the next worker look at once, and ask anew for what was given up."""
    one = get(session, organization_id, source_id)
    now = store_now(session)
    one.look_at = one.next_at = now
    one.failure_count = 0
    one.missing = [
        {**entry, "state": "open", "asks": 0, "next_at": now.isoformat(), "why": None}
        if entry["state"] == "lost" and entry.get("id") is not None
        else entry
        for entry in one.missing
    ]
    session.add(one)
    session.flush()
    return one


def look_soon(session: Session, now: datetime) -> int:
    """Let every source of every organization be looked at now; returns how many.

    A look under way begins anew: what it has read already lies before the gap.
    """
    waiting = update(RECONCILIATION).where(RECONCILIATION.c.state == "waiting")
    found: Any = session.execute(waiting.values(look_at=now, next_at=now, progress=None))
    leased = update(RECONCILIATION).where(RECONCILIATION.c.state == "leased")
    under_way: Any = session.execute(leased.values(look_at=now))
    return int(found.rowcount) + int(under_way.rowcount)


def adopt(session: Session) -> int:
    """Watch sources of every organization that were opened before anybody could look."""
    able = [
        connector.key
        for connector in loader.library().values()
        if any(trigger.reconcile for trigger in connector.triggers.values())
    ]
    watched = select(RECONCILIATION.c.id).where(
        RECONCILIATION.c.organization_id == SOURCE.c.organization_id,
        RECONCILIATION.c.id == SOURCE.c.id,
    )
    statement = select(Source).where(
        SOURCE.c.state != "closed",
        SOURCE.c.connection_id.is_not(None),
        SOURCE.c.connector_key.in_(able),
        ~watched.exists(),
    )
    found = session.execute(statement.limit(ADOPTED_AT_ONCE)).scalars().all()
    return sum(watch(session, source) for source in found)
