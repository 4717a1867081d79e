"""Trouble beside runs that stopped: what apps keep waiting, deliveries given up, webhooks refused.

These are counted where they are; each look compares the count with the one before.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select, text
from sqlmodel import Session, col

from connectors.incidents import incidents
from connectors.incidents.incidents import Trouble
from connectors.incidents.sorting import RETRYING
from connectors.incidents.tables import Incident
from connectors.tables import RUN, Connection
from kernel.database import store_now
from webhooks.tables import DELIVERY, ENDPOINT, REFUSALS

REFUSED_LATELY = timedelta(hours=24)
MOST = 200  # troubles of one kind in one look
GIVEN_UP = text("delivery.state = 'parked'")  # word for word as the partial index has it


def look(session: Session, organization_id: str) -> int:
    """Count what is in trouble beside runs that stopped; returns how many troubles that are."""
    now = store_now(session)
    counted = {
        "retry": _retrying(session, organization_id, now),
        "delivery": _deliveries(session, organization_id, now),
        "refusal": _refusals(session, organization_id, now),
    }
    known = _open(session, organization_id)
    for kind, troubles in counted.items():
        here = {fingerprint for fingerprint, one in known.items() if one.kind == kind}
        for fingerprint in here - troubles.keys():
            incidents.settle(session, known[fingerprint], 0)
        _take_in(session, organization_id, known, troubles, now)
    return sum(map(len, counted.values()))


def _open(session: Session, organization_id: str) -> dict[str, Incident]:
    statement = Incident.of(organization_id).where(
        col(Incident.state) == "open", col(Incident.kind) != "run"
    )
    return {one.fingerprint: one for one in session.execute(statement).scalars()}


def _take_in(
    session: Session,
    organization_id: str,
    known: Mapping[str, Incident],
    troubles: Mapping[str, tuple[Trouble, int]],
    now: datetime,
) -> None:
    """Count what came since the last look, and say how much there is now."""
    for fingerprint, (trouble, stuck) in troubles.items():
        before = known[fingerprint].stuck_count if fingerprint in known else 0
        if stuck > before:
            trouble.add(trouble.last_at or now, stuck - before)
        elif fingerprint in known:
            if stuck < before:
                incidents.settle(session, known[fingerprint], stuck)
            continue
        incident = incidents.take_in(session, organization_id, [trouble])[fingerprint]
        incidents.settle(session, incident, stuck)


def _retrying(
    session: Session, organization_id: str, now: datetime
) -> dict[str, tuple[Trouble, int]]:
    counted = (
        select(RUN.c.lane, RUN.c.cause, func.count())
        .where(RUN.c.organization_id == organization_id, RETRYING)
        .group_by(RUN.c.lane, RUN.c.cause)
        .limit(MOST)
    )
    rows = session.execute(counted).all()
    statement = Connection.of(organization_id).where(col(Connection.id).in_([r[0] for r in rows]))
    keys = {one.id: one.connector_key for one in session.execute(statement).scalars()}
    found = {}
    for lane, cause, number in rows:
        one = Trouble("retry", cause, connector_key=keys.get(lane), connection_id=lane, last_at=now)
        found[one.fingerprint] = one, int(number)
    return found


def _deliveries(
    session: Session, organization_id: str, now: datetime
) -> dict[str, tuple[Trouble, int]]:
    alive = (
        select(ENDPOINT.c.id)
        .where(ENDPOINT.c.organization_id == organization_id, ENDPOINT.c.state != "deleted")
        .scalar_subquery()
    )
    counted = (
        select(
            DELIVERY.c.endpoint_id, DELIVERY.c.last_problem, DELIVERY.c.last_status, func.count()
        )
        .where(
            DELIVERY.c.organization_id == organization_id,
            GIVEN_UP,
            DELIVERY.c.endpoint_id.in_(alive),
        )
        .group_by(DELIVERY.c.endpoint_id, DELIVERY.c.last_problem, DELIVERY.c.last_status)
        .limit(MOST)
    )
    found = {}
    for endpoint_id, problem, status, number in session.execute(counted):
        one = Trouble(
            "delivery", problem or "status", str(status or ""), endpoint_id=endpoint_id, last_at=now
        )
        found[one.fingerprint] = one, int(number)
    return found


def _refusals(
    session: Session, organization_id: str, now: datetime
) -> dict[str, tuple[Trouble, int]]:
    """Return what was turned away within a day, less what somebody has dealt with."""
    statement = select(REFUSALS.c.id, REFUSALS.c.counts).where(
        REFUSALS.c.organization_id == organization_id
    )
    rows: list[Any] = list(session.execute(statement.limit(MOST)))
    dealt = _dealt_with(session, organization_id)
    found = {}
    for source_id, counts in rows:
        for code, known in counts.items():
            last_at = datetime.fromisoformat(known["last_at"])
            base = dealt.get((source_id, code), 0)
            number = int(known["count"])
            stuck = number - base if number >= base else number
            if stuck > 0 and last_at > now - REFUSED_LATELY:
                one = Trouble("refusal", code, source_id=source_id, last_at=last_at)
                found[one.fingerprint] = one, stuck
    return found


def _dealt_with(session: Session, organization_id: str) -> dict[tuple[str | None, str], int]:
    statement = Incident.of(organization_id).where(col(Incident.kind) == "refusal")
    found = session.execute(statement.limit(2_000)).scalars()
    return {(one.source_id, one.cause): one.counted for one in found}
