"""Repairs: the runs of an incident repeated or given up together, carefully.

A few go first. Only when all of them got past where they stood do the rest follow, a portion at a
time; when what went stops again, nothing more goes. The row says how far it is and any process's
sweep takes the next turn. What stopped after the repair began is no part of it.
"""

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from sqlalchemy import Select, select, text
from sqlmodel import Session, col

from connectors import order_lanes, recovery
from connectors.errors import NotNow
from connectors.incidents import incidents
from connectors.incidents.tables import REPAIR, BulkRepair, Incident
from connectors.tables import RUN, Run
from kernel import ids, tenancy
from kernel.database import EVERY, reading, store_now, write
from kernel.errors import N_

CANARIES = 3
MOST_CANARIES = 20
PER_TURN = 200
TURN_SECONDS = 2
MOST_UNFINISHED = 3 * PER_TURN
# How many of those that went may stop again: a few, or one in ten.
FEW, SHARE = 5, 10
LONGEST_TRY = timedelta(minutes=15)  # then something else holds the first few up
_AT_ONCE = 20
_UNDER_WAY = ("trying", "running")
_MOVING = ("due", "leased")


def begin(
    session: Session,
    organization_id: str,
    incident_id: str,
    by: str,
    *,
    kind: str = "replay",
    canaries: int = CANARIES,
) -> BulkRepair:
    """Start one; NotNow while another is under way, or where each run needs a person's word."""
    incident = incidents.locked(session, organization_id, incident_id)
    if incident.kind != "run" or incident.state != "open":
        raise NotNow(N_("No run waits because of this"))
    if kind == "replay" and incident.cause == "unknown":
        raise NotNow(
            N_("Runs with an unknown outcome are looked at one by one"),
            N_("Look into the app first; then say for each run whether it was done."),
        )
    if under_way(session, incident) is not None:
        raise NotNow(N_("Another repair of these runs is under way; stop it first"))
    now = store_now(session)
    row = BulkRepair(
        organization_id=organization_id,
        id=ids.new_id("rpr"),
        incident_id=incident.id,
        kind=kind,
        state="trying" if kind == "replay" else "running",
        canary_count=max(1, min(canaries, MOST_CANARIES)),
        until=now,
        asked_by=by,
        next_at=now,
    )
    session.add(row)
    incidents.remember(incident, by, kind, incident.stuck_count, "begun")
    session.add(incident)
    session.flush()
    return row


def under_way(session: Session, incident: Incident) -> BulkRepair | None:
    """Return the repair of an incident that is not over; None without one."""
    statement = select_all(incident.organization_id, incident.id)
    found: BulkRepair | None = session.execute(
        statement.where(col(BulkRepair.state).in_(_UNDER_WAY)).limit(1)
    ).scalar_one_or_none()
    return found


def latest(session: Session, incident: Incident) -> BulkRepair | None:
    """Return the last repair of an incident; None without one."""
    statement = select_all(incident.organization_id, incident.id)
    found: BulkRepair | None = session.execute(
        statement.order_by(col(BulkRepair.id).desc()).limit(1)
    ).scalar_one_or_none()
    return found


def select_all(organization_id: str, incident_id: str) -> Select[Any]:
    """Select the repairs of an incident; pages order them."""
    return BulkRepair.of(organization_id).where(col(BulkRepair.incident_id) == incident_id)


def find(session: Session, organization_id: str, repair_id: str) -> BulkRepair:
    """Return the organization's repair; a stranger's is NotFound."""
    return tenancy.find(session, BulkRepair, organization_id, repair_id)


def stop(session: Session, organization_id: str, repair_id: str, by: str) -> BulkRepair:
    """Let no more runs go; those that went are not called back."""
    row = _locked(session, organization_id, repair_id)
    if row.state not in _UNDER_WAY:
        raise NotNow(N_("It is over already"))
    incident = incidents.find(session, organization_id, row.incident_id)
    _end(session, row, incident, "cancelled", by)
    return row


def _locked(session: Session, organization_id: str, repair_id: str) -> BulkRepair:
    row = find(session, organization_id, repair_id)
    session.flush()
    session.refresh(row, with_for_update=True)
    return row


def _end(session: Session, row: BulkRepair, incident: Incident, state: str, by: str = "") -> None:
    row.state, row.next_at, row.finished_at = state, None, store_now(session)
    session.add(row)
    incidents.remember(incident, by or row.asked_by, row.kind, row.started, state)
    incidents.recount_soon(session, incident)
    session.flush()


def sweep() -> int:
    """Take the next turn of every repair whose time has come; returns how many runs went."""
    with reading(EVERY) as session:
        due = select(REPAIR.c.organization_id, REPAIR.c.id).where(
            REPAIR.c.next_at.is_not(None), REPAIR.c.next_at <= store_now(session)
        )
        keys = session.execute(due.order_by(REPAIR.c.next_at).limit(_AT_ONCE)).all()
    return sum(write(partial(_turn, organization_id=key[0], repair_id=key[1])) for key in keys)


def _turn(session: Session, organization_id: str, repair_id: str) -> int:
    wanted = (
        BulkRepair.of(organization_id)
        .where(col(BulkRepair.id) == repair_id)
        .with_for_update(skip_locked=True)
    )
    row: BulkRepair | None = session.execute(wanted).scalar_one_or_none()
    now = store_now(session)
    if row is None or row.next_at is None or row.next_at > now:
        return 0  # somebody else was faster
    incident = incidents.find(session, organization_id, row.incident_id)
    row.next_at = now + timedelta(seconds=TURN_SECONDS)
    session.add(row)
    if row.kind == "cancel":
        return _give_up(session, row, incident)
    if row.state == "trying":
        return _try(session, row, incident)
    return _run(session, row, incident)


def _try(session: Session, row: BulkRepair, incident: Incident) -> int:
    """Let the first few go, or look what became of them."""
    if not row.canary_ids:
        some = _take(session, row, row.canary_count)
        row.canary_ids = [run.id for run in some]
        row.started = len(some)
        recovery.wake(session, some)
        if not some:
            _end(session, row, incident, "done")
        return len(some)
    states = _states(session, row)
    row.failed = sum(state == "failed" for state in states)
    if row.failed or store_now(session) - row.until > LONGEST_TRY:
        _end(session, row, incident, "stopped")
    elif not any(state == "moving" for state in states):
        row.state = "running"
        return _run(session, row, incident)
    return 0


def _states(session: Session, row: BulkRepair) -> list[str]:
    """Tell of each of the first few whether it is moving, failed or got through.

    One that rests as its flow wants it, for a time or a decision, got through.
    """
    statement = Run.of(row.organization_id).where(col(Run.id).in_(row.canary_ids))
    found = []
    for run in session.execute(statement).scalars():
        is_resting = run.state == "waiting" and run.cause in ("delay", "approval")
        if run.state in ("succeeded", "skipped") or is_resting:
            found.append("through")
        elif run.state == "parked" or (run.state == "waiting" and run.next_at is not None):
            found.append("failed")
        else:
            found.append("failed" if run.state == "cancelled" else "moving")
    return found


def _run(session: Session, row: BulkRepair, incident: Incident) -> int:
    """Let the next portion go, unless too many stopped again or much of the last one is moving."""
    row.failed = _count(session, _stopped_again(row), FEW + row.started // SHARE + 1)
    if row.failed > max(FEW, row.started // SHARE):
        _end(session, row, incident, "stopped")
        return 0
    if _count(session, _moving(row), MOST_UNFINISHED) >= MOST_UNFINISHED:
        return 0
    some = _take(session, row, PER_TURN)
    row.started += len(some)
    recovery.wake(session, some)
    if not some:
        _end(session, row, incident, "done")
    return len(some)


def _give_up(session: Session, row: BulkRepair, incident: Incident) -> int:
    some = _take(session, row, PER_TURN)
    for run in some:
        recovery.give_up(session, run)
    row.started += len(some)
    if not some:
        _end(session, row, incident, "done")
    return len(some)


def _take(session: Session, row: BulkRepair, most: int) -> Sequence[Run]:
    """Return the oldest runs that still stand where they stood, locked after their flows."""
    standing = (
        Run.of(row.organization_id)
        .where(
            col(Run.incident_id) == row.incident_id,
            text("run.state = 'parked'"),
            col(Run.finished_at) <= row.until,
        )
        .order_by(col(Run.id))
        .limit(most)
    )
    if row.kind == "replay":
        standing = standing.where(col(Run.cause) != "unknown")
    flows = {run.flow_id for run in session.execute(standing).scalars()}
    order_lanes.lock(session, [(row.organization_id, one) for one in sorted(flows)])
    fresh = standing.with_for_update(skip_locked=True).execution_options(populate_existing=True)
    return [run for run in session.execute(fresh).scalars() if run.flow_id in flows]


def _stopped_again(row: BulkRepair) -> Any:
    """Select what stopped for the same reason since the repair began."""
    return select(RUN.c.id).where(
        RUN.c.organization_id == row.organization_id,
        text("run.state = 'parked'"),
        RUN.c.incident_id == row.incident_id,
        RUN.c.finished_at > row.until,
    )


def _moving(row: BulkRepair) -> Any:
    """Select what is under way in the organization."""
    return select(RUN.c.id).where(
        RUN.c.organization_id == row.organization_id, RUN.c.state.in_(_MOVING)
    )


def _count(session: Session, which: Any, most: int) -> int:
    return len(session.execute(which.limit(most)).all())
