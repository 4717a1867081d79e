"""Turns: whose data is looked after next, and by whom; the sweep over every tenant.

One worker at a time keeps an organization's data: it archives, writes exports, erases and drops
what is too old. Its lease has an owner, an epoch and an end by the store's clock; every write that
takes something away shows them in its own transaction, so that who was too slow can take nothing.
"""

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import exists, select, update
from sqlmodel import Session

from identity.tables import Organization
from kernel import clock, log
from kernel.database import EVERY, StoreUnavailable, reading, store_now, transaction
from kernel.ids import new_id
from kernel.rows import insert_ignore
from webhooks import workers
from webhooks.keeping import stores
from webhooks.keeping.tables import KEEPING, Keeping

LEASE = timedelta(seconds=120)
EVERY_DAY = timedelta(hours=24)
AFTER_TROUBLE = timedelta(minutes=10)
NEWCOMERS_EVERY = timedelta(minutes=10)
_NEWCOMERS = 500
_ORGANIZATION: Any = Organization.__table__  # type: ignore[attr-defined]
_logger = log.get_logger(__name__)


class LeaseLost(Exception):  # noqa: N818 - says what happened; the next turn goes on
    """Somebody else looks after this organization's data by now."""


class Trouble(Exception):  # noqa: N818 - named after what people read
    """Keeping cannot go on for now; nothing was taken away."""

    def __init__(self, code: str) -> None:
        """Hold the word for it: disk_full, folder, not_verified or failed."""
        self.code = code
        super().__init__(code)


@dataclass(slots=True)
class Lease:
    """The right to keep one organization's data."""

    organization_id: str
    owner: str
    epoch: int
    next_at: datetime  # as the claim left it: another value is somebody's who asked for a turn

    def _is_mine(self) -> Any:
        return (
            (KEEPING.c.organization_id == self.organization_id)
            & (KEEPING.c.id == self.organization_id)
            & (KEEPING.c.lease_owner == self.owner)
            & (KEEPING.c.lease_epoch == self.epoch)
        )

    def hold(self, session: Session, **values: Any) -> None:
        """Prove in this transaction that it still holds, and note `values`; else LeaseLost."""
        now = store_now(session)
        changed = session.execute(
            update(KEEPING)
            .where(self._is_mine(), KEEPING.c.lease_until > now)
            .values(lease_until=now + LEASE, **values)
            .returning(KEEPING.c.id)
        ).all()
        if not changed:
            raise LeaseLost

    def renew(self) -> None:
        """Make it last longer, in a transaction of its own."""
        with transaction(self.organization_id) as session:
            self.hold(session)

    def give_back(self, session: Session, next_at: datetime, **values: Any) -> None:
        """End it; a turn that was asked for meanwhile is not put off."""
        asked = session.execute(select(KEEPING.c.next_at).where(self._is_mine())).scalar()
        values["next_at"] = next_at if asked == self.next_at else asked
        session.execute(
            update(KEEPING)
            .where(self._is_mine())
            .values(lease_owner=None, lease_until=None, **values)
        )


# One piece of work on an organization's data: True when it wants another turn soon.
Chore = Callable[[Lease], bool]


def claim(session: Session, owner: str) -> Lease | None:
    """Lease the organization whose turn is longest overdue."""
    now = store_now(session)
    free = (KEEPING.c.lease_until.is_(None)) | (KEEPING.c.lease_until <= now)
    found = session.execute(
        select(KEEPING.c.organization_id, KEEPING.c.lease_epoch)
        .where(KEEPING.c.next_at <= now, free)
        .order_by(KEEPING.c.next_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    ).first()
    if found is None:
        return None
    # whoever is killed is followed when the lease has run out
    until = now + LEASE
    name = f"{owner}/{new_id('kp')}"
    lease = Lease(found.organization_id, name, found.lease_epoch + 1, until)
    session.execute(
        update(KEEPING)
        .where(
            KEEPING.c.organization_id == lease.organization_id,
            KEEPING.c.id == lease.organization_id,
        )
        .values(lease_owner=lease.owner, lease_epoch=lease.epoch, lease_until=until, next_at=until)
    )
    return lease


def turn(chores: Sequence[Chore]) -> bool:
    """Look after one organization whose turn it is; False when it is nobody's."""
    with reading(EVERY) as session:
        due = select(KEEPING.c.id).where(KEEPING.c.next_at <= store_now(session)).limit(1)
        if session.execute(due).first() is None:
            return False
    owner = workers.name()
    with transaction(EVERY) as session:
        lease = claim(session, owner)
    if lease is None:
        return False
    trouble, is_unfinished = None, False
    try:
        for chore in chores:
            is_unfinished |= chore(lease)
    except LeaseLost:
        _logger.warning("keeping_lease_lost", organization_id=lease.organization_id)
        return True
    except Trouble as found:
        trouble = found.code
    except OSError as error:
        trouble = stores.trouble_of(error)
    except StoreUnavailable:
        raise  # the lease runs out by itself
    except Exception:
        _logger.exception("keeping_failed", organization_id=lease.organization_id)
        trouble = "failed"
    _end(lease, trouble, is_unfinished=is_unfinished)
    return True


def _end(lease: Lease, trouble: str | None, *, is_unfinished: bool) -> None:
    if trouble:
        _logger.warning("keeping_waits", organization_id=lease.organization_id, trouble=trouble)
    with transaction(EVERY) as session:
        now = store_now(session)
        pause = timedelta(0) if is_unfinished else EVERY_DAY * random.uniform(0.95, 1)  # noqa: S311
        row = session.get(Keeping, (lease.organization_id, lease.organization_id))
        since = row.trouble_since if row is not None and row.trouble == trouble else now
        lease.give_back(
            session,
            now + (AFTER_TROUBLE if trouble else pause),
            trouble=trouble,
            trouble_since=since if trouble else None,
        )


def trouble(session: Session) -> str | None:
    """Return what keeps the archive from being written, for whichever organization."""
    found = select(KEEPING.c.trouble).where(KEEPING.c.trouble.is_not(None))
    word: str | None = session.execute(found.order_by(KEEPING.c.trouble).limit(1)).scalar()
    return word


def welcome_newcomers() -> int:
    """Give every organization a turn of its own; returns how many had none."""
    with reading(EVERY) as session:
        known = exists().where(KEEPING.c.organization_id == _ORGANIZATION.c.id)
        wanted = select(_ORGANIZATION.c.id).where(~known).limit(_NEWCOMERS)
        found = session.execute(wanted).scalars().all()
        now = store_now(session)
    if not found:
        return 0
    rows = [
        {
            "created_at": now, "organization_id": one, "id": one, "lease_epoch": 0,
            "passed_id": "", "detail_id": "", "moved": 0,
            "next_at": now + EVERY_DAY * random.uniform(0, 1),  # noqa: S311 - spread over the day
        }
        for one in sorted(found)
    ]  # fmt: skip
    with transaction(EVERY) as session:
        return len(insert_ignore(session, Keeping, rows, ("organization_id", "id")))


class Housekeeper:
    """The thread of this process that takes turns; it begins when the sweep finds it at rest."""

    def __init__(self, chores: Sequence[Chore]) -> None:
        """Do these chores, in their order."""
        self.chores = chores
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._welcomed_at: datetime | None = None

    def wake(self) -> int:
        """Begin unless it is at work; returns at once, because a turn may take minutes."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self.run, name="keeping", daemon=True)
                self._thread.start()
        return 0

    def run(self) -> int:
        """Take turns until there is none left; returns how many."""
        count = 0
        try:
            if self._welcomed_at is None or clock.now() - self._welcomed_at > NEWCOMERS_EVERY:
                self._welcomed_at = clock.now()
                welcome_newcomers()
            while turn(self.chores):
                count += 1
        except StoreUnavailable:
            pass  # the next sweep wakes it again
        except Exception:
            _logger.exception("keeping_stopped")
        return count
