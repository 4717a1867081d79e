"""Claiming reconciliations under a lease: fairly over organizations, gently over connections."""

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, or_, select, text, update
from sqlmodel import Session

from connectors.tables import CONNECTION, RECONCILIATION, Reconciliation
from identity import suspensions
from kernel.database import store_now

LEASE_SECONDS = 180  # longer than a turn, which ends its calls after TURN_SECONDS
REST = timedelta(seconds=5)  # of a connection between two turns
PER_ORGANIZATION = 2
_ORGANIZATIONS = 200


@dataclass(frozen=True, slots=True)
class Turn:
    """What a worker holds: the row as it was claimed, and by which lease."""

    row: Reconciliation
    owner: str
    epoch: int
    now: datetime  # by the store's clock, when it was claimed


def _is_free(now: datetime) -> Any:
    """Match what is due and neither over a connection that works or rests, nor one too many."""
    other, firm = RECONCILIATION.alias("other"), RECONCILIATION.alias("firm")
    busy = select(other.c.id).where(
        other.c.organization_id == RECONCILIATION.c.organization_id,
        other.c.connection_id == RECONCILIATION.c.connection_id,
        or_(other.c.state == "leased", other.c.called_at > now - REST),
    )
    under_way = (
        select(func.count())
        .select_from(firm)
        .where(firm.c.organization_id == RECONCILIATION.c.organization_id, firm.c.state == "leased")
        .scalar_subquery()
    )
    return (
        text("reconciliation.state = 'waiting'"),  # as the partial index has it
        RECONCILIATION.c.next_at <= now,
        RECONCILIATION.c.organization_id.not_in(suspensions.suspended_ids()),
        ~busy.exists(),
        under_way < PER_ORGANIZATION,
    )


def count_due(session: Session, most: int) -> int:
    """Count what could be claimed right now, up to `most`."""
    now = store_now(session)
    found = select(RECONCILIATION.c.id).where(*_is_free(now)).limit(most)
    return len(session.execute(found).all())


def claim(session: Session, worker_id: str) -> Turn | None:
    """Lease one reconciliation of an organization picked by lot; None: nothing is due."""
    now = store_now(session)
    owners = (
        select(RECONCILIATION.c.organization_id)
        .where(*_is_free(now))
        .distinct()
        .limit(_ORGANIZATIONS)
    )
    able = list(session.execute(owners).scalars())
    if not able:
        return None
    organization_id = random.choice(able)  # noqa: S311 - shares turns out, no secret
    row = session.execute(
        select(Reconciliation)
        .where(RECONCILIATION.c.organization_id == organization_id, *_is_free(now))
        .order_by(RECONCILIATION.c.next_at)
        .limit(1)
        .with_for_update(skip_locked=True, of=RECONCILIATION)
    ).scalar_one_or_none()
    if row is None or not _has_connection(session, row, now):
        return None
    row.state, row.lease_owner, row.lease_epoch = "leased", worker_id, row.lease_epoch + 1
    row.lease_until, row.called_at = now + timedelta(seconds=LEASE_SECONDS), now
    session.flush()
    return Turn(row, worker_id, row.lease_epoch, now)


def _has_connection(session: Session, row: Reconciliation, now: datetime) -> bool:
    """Take the connection's row, so that of two workers who saw it free at once one gets it."""
    mine = (CONNECTION.c.organization_id == row.organization_id) & (
        CONNECTION.c.id == row.connection_id
    )
    wanted = select(CONNECTION.c.id).where(mine)
    taken = session.execute(wanted.with_for_update(skip_locked=True, key_share=True)).first()
    if taken is None:
        return session.execute(wanted).first() is None  # gone: the turn will find that out
    again = select(RECONCILIATION.c.id).where(RECONCILIATION.c.id == row.id, *_is_free(now))
    return session.execute(again).first() is not None


def held(session: Session, turn: Turn) -> Reconciliation | None:
    """Return the row for writing while the lease still is this turn's, else None."""
    statement = (
        select(Reconciliation)
        .where(
            RECONCILIATION.c.organization_id == turn.row.organization_id,
            RECONCILIATION.c.id == turn.row.id,
            RECONCILIATION.c.state == "leased",
            RECONCILIATION.c.lease_owner == turn.owner,
            RECONCILIATION.c.lease_epoch == turn.epoch,
        )
        .with_for_update()
    )
    return session.execute(statement).scalar_one_or_none()


def release(session: Session, worker_id: str) -> int:
    """Take back what a worker held that is known to be gone."""
    return _put_back(session, RECONCILIATION.c.lease_owner == worker_id)


def is_lease_over(session: Session) -> bool:
    """Tell whether any lease ran out, without writing."""
    over = RECONCILIATION.c.lease_until < store_now(session)
    found = select(RECONCILIATION.c.id).where(text("state = 'leased'"), over).limit(1)
    return session.execute(found).first() is not None


def reclaim(session: Session) -> int:
    """Take back what leases ran out on."""
    return _put_back(session, RECONCILIATION.c.lease_until < store_now(session))


def _put_back(session: Session, is_over: Any) -> int:
    """Let it be claimed again after its connection has rested."""
    now = store_now(session)
    found: Any = session.execute(
        update(RECONCILIATION)
        .where(text("state = 'leased'"), is_over)
        .values(
            state="waiting",
            lease_owner=None,
            lease_until=None,
            called_at=now,  # it rests before the next one
        )
    )
    return int(found.rowcount)
