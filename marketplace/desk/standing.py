"""Standing: how one tenant is, for the operator: what stopped, what is held, what was refused.

Reads counts, states and reasons. Addresses are cut down to their host, and of a refused request
only its code and its moment are given: the operator needs no content of anybody's events.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import func, select, text
from sqlmodel import Session, col

from connectors.tables import Flow, Run
from identity.tables import Member, User
from marketplace.desk.counts import MOST
from webhooks.tables import DELIVERY, ENDPOINT, EVENT, REFUSALS, SOURCE

SHOWN = 20


@dataclass(frozen=True, slots=True)
class Stopped:
    """What of one endpoint or flow waits for a person; a count stops a little above MOST."""

    kind: str  # endpoint | flow | events
    name: str
    why: str
    count: int


@dataclass(frozen=True, slots=True)
class Circuit:
    """An endpoint to which nothing, or nothing but a probe, goes out now."""

    host: str
    state: str  # open | refilling | disabled
    cause: str | None
    since: datetime | None
    next_at: datetime | None


@dataclass(frozen=True, slots=True)
class Refused:
    """What was refused at a source, by its code; `status` when the code is one of a limit."""

    source: str
    code: str
    title: str
    count: int
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Contact:
    """Who may speak for the tenant."""

    name: str
    email: str


def _few(session: Session, statement: Any) -> int:
    counted = select(func.count()).select_from(statement.limit(MOST + 1).subquery())
    return int(session.execute(counted).scalar_one())


def stopped(session: Session, organization_id: str) -> list[Stopped]:
    """Count what is parked or set aside, by where it stopped and why, most first."""
    found = [
        *_parked_runs(session, organization_id),
        *_parked_deliveries(session, organization_id),
    ]
    for state in ("rejected", "quarantined"):
        wanted = select(EVENT.c.id).where(
            EVENT.c.organization_id == organization_id,
            text("state IN ('rejected', 'quarantined')"),
            EVENT.c.state == state,
        )
        count = _few(session, wanted)
        if count:
            found.append(Stopped("events", "", state, count))
    return sorted(found, key=lambda one: -one.count)[:SHOWN]


def _parked_runs(session: Session, organization_id: str) -> list[Stopped]:
    some = (
        select(col(Run.flow_id).label("flow_id"), col(Run.cause).label("cause"))
        .where(col(Run.organization_id) == organization_id, text("state = 'parked'"))
        .order_by(col(Run.flow_id), col(Run.cause))
        .limit(MOST + 1)
        .subquery()
    )
    rows = session.execute(
        select(some.c.flow_id, some.c.cause, func.count()).group_by(some.c.flow_id, some.c.cause)
    ).all()
    named = select(col(Flow.id), col(Flow.name)).where(
        col(Flow.organization_id) == organization_id,
        col(Flow.id).in_({row[0] for row in rows}),
    )
    names = {row[0]: row[1] for row in session.execute(named)}
    return [Stopped("flow", names.get(r[0], r[0]), r[1] or "unknown", int(r[2])) for r in rows]


def _parked_deliveries(session: Session, organization_id: str) -> list[Stopped]:
    some = (
        select(DELIVERY.c.endpoint_id, DELIVERY.c.last_problem)
        .where(DELIVERY.c.organization_id == organization_id, text("state = 'parked'"))
        .order_by(DELIVERY.c.id)
        .limit(MOST + 1)
        .subquery()
    )
    rows = session.execute(
        select(some.c.endpoint_id, some.c.last_problem, func.count()).group_by(
            some.c.endpoint_id, some.c.last_problem
        )
    ).all()
    wanted = select(ENDPOINT.c.id, ENDPOINT.c.url).where(
        ENDPOINT.c.organization_id == organization_id, ENDPOINT.c.id.in_({row[0] for row in rows})
    )
    hosts = {row[0]: host_of(row[1]) for row in session.execute(wanted)}
    return [Stopped("endpoint", hosts.get(r[0], r[0]), r[1] or "unknown", int(r[2])) for r in rows]


def host_of(url: str) -> str:
    """Return where an address leads to, without the parts that may be secret."""
    try:
        return urlsplit(url).hostname or "?"
    except ValueError:
        return "?"


def circuits(session: Session, organization_id: str) -> list[Circuit]:
    """Return the endpoints that get nothing now, the latest first."""
    rows = session.execute(
        select(ENDPOINT)
        .where(
            ENDPOINT.c.organization_id == organization_id,
            (ENDPOINT.c.circuit != "closed") | (ENDPOINT.c.state == "disabled"),
        )
        .order_by(ENDPOINT.c.id.desc())
        .limit(SHOWN)
    )
    return [
        Circuit(host_of(one.url), "disabled", one.disabled_reason, one.disabled_at, None)
        if one.state == "disabled"
        else Circuit(
            host_of(one.url), one.circuit, one.circuit_cause, one.circuit_since, one.circuit_at
        )
        for one in rows
    ]


def refused(session: Session, organization_id: str) -> list[Refused]:
    """Return what was refused at the tenant's sources, by code, the latest first."""
    rows = session.execute(
        select(REFUSALS.c.counts, REFUSALS.c.latest, SOURCE.c.name)
        .join(
            SOURCE,
            (SOURCE.c.organization_id == REFUSALS.c.organization_id)
            & (SOURCE.c.id == REFUSALS.c.id),
        )
        .where(REFUSALS.c.organization_id == organization_id)
        .limit(MOST)
    ).all()
    found = []
    for counts, latest, name in rows:
        titles = {note["code"]: note["title"] for note in latest}
        for code, one in counts.items():
            last = datetime.fromisoformat(one["last_at"])
            found.append(Refused(name, code, titles.get(code, ""), int(one["count"]), last))
    return sorted(found, key=lambda one: one.last_at, reverse=True)[:SHOWN]


def contacts(session: Session, organization_id: str) -> list[Contact]:
    """Return the owners, whom an operator may have to write to."""
    rows = session.execute(
        select(col(User.name), col(User.email))
        .join(Member, col(Member.user_id) == col(User.id))
        .where(
            col(Member.organization_id) == organization_id,
            col(Member.status) == "active",
            col(Member.role) == "owner",
        )
        .order_by(col(Member.id))
        .limit(5)
    )
    return [Contact(*row) for row in rows]
