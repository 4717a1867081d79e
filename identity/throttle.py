"""Slows down whoever guesses: counts by account and by address, kept where all processes see it.

A try is counted before the password is looked at, so that many tries at once gain nothing, and a
good one takes its count back. Waiting is always short and ends by itself: nobody is locked out.
A browser that has signed in before has a count of its own, so a stranger's guessing elsewhere
does not stop the person who owns the account.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import delete, update
from sqlmodel import Session, col, select

from identity import proofs
from identity.tables import LoginThrottle
from kernel import clock
from kernel.errors import N_, TooMany
from kernel.rows import insert_ignore

FORGET_AFTER: Final = timedelta(hours=1)


@dataclass(frozen=True)
class Limit:
    """One thing that is counted: how many tries are free and how long a wait may grow."""

    key: str
    free: int
    longest_seconds: int


def sign_in_limits(email: str, address: str, *, device: str | None = None) -> list[Limit]:
    """Say what a sign-in counts against: the address, the account here, the account anywhere.

    `email` comes in the one spelling of identity.users, so that another spelling buys no tries.
    `device` is the mark of a browser that has signed in to this account before; it replaces the
    counts that strangers can fill.
    """
    account = proofs.digest(email)[:32]
    place = _network(address)
    if device is not None:
        return [Limit(f"device:{account}:{proofs.digest(device)[:16]}", 5, 300)]
    return [
        Limit(f"address:{place}", 30, 900),
        Limit(f"pair:{account}:{proofs.digest(place)[:16]}", 5, 900),
        Limit(f"account:{account}", 50, 30),
    ]


def sign_up_limits(address: str) -> list[Limit]:
    """Say what a sign-up counts against."""
    return [Limit(f"sign_up:{_network(address)}", 20, 900)]


def confirm_limits(user_id: str) -> list[Limit]:
    """Say what typing one's password again counts against."""
    return [Limit(f"confirm:{user_id}", 5, 300)]


def link_limits(address: str) -> list[Limit]:
    """Say what opening a link that works once counts against."""
    return [Limit(f"link:{_network(address)}", 60, 300)]


def reserve(session: Session, limits: Sequence[Limit]) -> None:
    """Count one try against every limit; raises TooMany with the seconds to wait.

    A refused try is not counted, so that waiting always ends. The caller's transaction must be
    committed before the password is looked at.
    """
    now = clock.now()
    for limit in limits:
        _make_row(session, limit.key, now)
    rows = _lock(session, [limit.key for limit in limits])
    wait = max((_wait(rows[limit.key], now) for limit in limits), default=0)
    if wait > 0:
        raise TooMany(
            detail=N_("Please wait %(seconds)s seconds and try again. Your account is safe."),
            retry_after_seconds=wait,
            seconds=wait,
        )
    for limit in limits:
        row = rows[limit.key]
        stale = now - row.last_failed_at > FORGET_AFTER
        row.failures = 1 if stale else row.failures + 1
        row.last_failed_at = now
        row.blocked_until = _blocked_until(limit, row.failures, now)
        session.add(row)


def clear(session: Session, limits: Sequence[Limit]) -> None:
    """Take a good try back: what names the account starts afresh, the address loses one."""
    for limit in limits:
        where = col(LoginThrottle.id) == limit.key
        if limit.key.startswith(("pair:", "device:", "confirm:")):
            session.execute(delete(LoginThrottle).where(where))
        else:
            session.execute(
                update(LoginThrottle)
                .where(where, col(LoginThrottle.failures) > 0)
                .values(failures=LoginThrottle.failures - 1, blocked_until=None)
            )


def forget_old(session: Session) -> int:
    """Drop counts nobody has added to for an hour; returns how many."""
    dropped = session.execute(
        delete(LoginThrottle)
        .where(col(LoginThrottle.last_failed_at) < clock.now() - FORGET_AFTER)
        .returning(col(LoginThrottle.id))
    ).scalars()
    return len(list(dropped))


def _make_row(session: Session, key: str, now: datetime) -> None:
    row: dict[str, Any] = {"id": key, "failures": 0, "last_failed_at": now, "created_at": now}
    insert_ignore(session, LoginThrottle, [row], ["id"])


def _lock(session: Session, keys: Sequence[str]) -> dict[str, LoginThrottle]:
    statement = (
        select(LoginThrottle)
        .where(col(LoginThrottle.id).in_(keys))
        .order_by(col(LoginThrottle.id))
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    return {row.id: row for row in session.execute(statement).scalars()}


def _wait(row: LoginThrottle, now: datetime) -> int:
    if row.blocked_until is None or row.blocked_until <= now:
        return 0
    return int((row.blocked_until - now).total_seconds()) + 1


def _blocked_until(limit: Limit, failures: int, now: datetime) -> datetime | None:
    over = failures - limit.free
    if over < 0:
        return None
    seconds = min(2 ** min(over, 20), limit.longest_seconds)
    return now + timedelta(seconds=seconds)


def _network(address: str) -> str:
    """Return the address, or for IPv6 its /64: one line of a provider, not one of its addresses."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)
