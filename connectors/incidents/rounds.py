"""Rounds: an organization's trouble is sorted and counted, by one process at a time.

Whoever has the organization's row locked does a piece of the work in that commit; what is left has
its time at once. Organizations without trouble cost nothing: they are found by the rows that
stopped and by the hour's counts.
"""

import threading
import time
from datetime import timedelta
from functools import partial
from typing import Any

from sqlalchemy import delete, or_, select
from sqlmodel import Session, col

from connectors.incidents import elsewhere, incidents, sorting
from connectors.incidents.tables import INCIDENT, ROUND, Incident, IncidentRound
from connectors.tables import RUN
from kernel import clock
from kernel.database import EVERY, reading, store_now, write
from webhooks.tables import DELIVERY, USAGE

AT_ONCE = 20  # organizations
ELSEWHERE_SECONDS = 30
RECOUNT_SECONDS = 15
RECOUNTS = 20  # incidents in one commit
BUSY_SECONDS = 2.0  # of one sweep
KEPT = timedelta(days=90)  # an incident that is over

_lock = threading.Lock()
_places = {
    "runs": "",
    "retries": "",
    "deliveries": "",
}  # where the last look for organizations ended
_looked_at = -1_000.0


def sweep() -> int:
    """Look for organizations in trouble, take the rounds that are due; returns the rows done."""
    _find()
    done, until = 0, time.monotonic() + BUSY_SECONDS
    while time.monotonic() < until:
        moved = sum(write(partial(_turn, organization_id=one)) for one in _due())
        if not moved:
            break
        done += moved
    return done


def _due() -> list[str]:
    with reading(EVERY) as session:
        wanted = select(ROUND.c.organization_id).where(
            ROUND.c.next_at.is_not(None), ROUND.c.next_at <= store_now(session)
        )
        return list(session.execute(wanted.order_by(ROUND.c.next_at).limit(AT_ONCE)).scalars())


def _find() -> None:
    """Give organizations a round that have something new; what is rare is looked for rarely."""
    global _looked_at
    with _lock:
        is_time = time.monotonic() - _looked_at >= ELSEWHERE_SECONDS
        if is_time:
            _looked_at = time.monotonic()
    with reading(EVERY) as session:
        wanted = _next(session, RUN, sorting.UNSORTED, "runs")
        if is_time:
            wanted |= _next(session, RUN, sorting.RETRYING, "retries")
            wanted |= _next(session, DELIVERY, elsewhere.GIVEN_UP, "deliveries")
            wanted |= _troubled_lately(session)
    if wanted:
        write(lambda session: incidents.ask_round(session, wanted))


def _next(session: Session, table: Any, which: Any, place: str) -> set[str]:
    """Name the next organizations with such rows, and begin anew behind the last of them."""
    found = sorting.skip_through(session, table, which, _places[place], AT_ONCE)
    _places[place] = found[-1] if len(found) >= AT_ONCE else ""
    return set(found)


def _troubled_lately(session: Session) -> set[str]:
    hour = clock.now() - timedelta(hours=1)
    names = ("stuck", "undelivered", "refused_proof", "refused_form", "refused_limit")
    wanted = (
        select(USAGE.c.organization_id)
        .where(USAGE.c.hour >= hour, or_(*(USAGE.c[name] > 0 for name in names)))
        .distinct()
        .limit(1_000)
    )
    return set(session.execute(wanted).scalars())


def _turn(session: Session, organization_id: str) -> int:
    """Do a piece of an organization's round; returns how many rows it moved."""
    wanted = IncidentRound.of(organization_id).with_for_update(skip_locked=True)
    turn: IncidentRound | None = session.execute(wanted).scalar_one_or_none()
    now = store_now(session)
    if turn is None or turn.next_at is None or turn.next_at > now:
        return 0  # somebody else is at it, or was
    moved = sorting.sort_new(session, organization_id)
    if moved < sorting.BATCH:
        moved += _recount(session, organization_id)
        last = turn.looked_at
        if last is None or now - last >= timedelta(seconds=ELSEWHERE_SECONDS):
            elsewhere.look(session, organization_id)
            _forget_old(session, organization_id)
            turn.looked_at = now
    if moved:
        turn.next_at = now
    else:
        is_open = _is_open(session, organization_id)
        turn.next_at = now + timedelta(seconds=RECOUNT_SECONDS) if is_open else None
    session.add(turn)
    return moved


def _recount(session: Session, organization_id: str) -> int:
    """Count what open incidents hold up where it is time; returns how many changed."""
    now = store_now(session)
    wanted = (
        Incident.of(organization_id)
        .where(
            col(Incident.state) == "open", col(Incident.kind) == "run", col(Incident.next_at) <= now
        )
        .order_by(col(Incident.next_at))
        .limit(RECOUNTS)
        .with_for_update()
    )
    changed = 0
    for incident in session.execute(wanted).scalars().all():
        stuck = incidents.count_stuck(session, incident)
        changed += stuck != incident.stuck_count
        incident.next_at = now + timedelta(seconds=RECOUNT_SECONDS)
        incidents.settle(session, incident, stuck)
    return changed


def _is_open(session: Session, organization_id: str) -> bool:
    wanted = select(INCIDENT.c.id).where(
        INCIDENT.c.organization_id == organization_id, INCIDENT.c.state == "open"
    )
    return session.execute(wanted.limit(1)).first() is not None


def _forget_old(session: Session, organization_id: str) -> None:
    session.execute(
        delete(Incident).where(
            col(Incident.organization_id) == organization_id,
            col(Incident.state) == "closed",
            col(Incident.closed_at) < store_now(session) - KEPT,
        )
    )
