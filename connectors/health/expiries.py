"""Expiries: when what a connection lives on ends, as far as it is known, and who must act.

Tokens that the hub renews by itself need nobody; what counts is a consent that ends, a token that
cannot be renewed, a certificate among the fields, and an end that a person has written down.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from sqlalchemy import and_, or_, select, text
from sqlmodel import Session

from connectors.engine.connector import Auth
from connectors.engine.findings import Say, say
from connectors.tables import CONNECTION, Connection
from kernel import outbox
from kernel.database import EVERY, reading, store_now, write

WARN_DAYS = (14, 7, 1)
NEWS = "connection.expiring"
AT_ONCE = 100
_PEM = "-----BEGIN CERTIFICATE-----"
WORDS: dict[str, Say] = {
    "consent": say("在对方应用里的授权到期", "The consent in the app ends"),
    "token": say("访问令牌到期，且不能自动续期", "The access token ends and cannot be renewed"),
    "certificate": say("证书到期", "A certificate ends"),
    "credentials": say("密钥到期（由你们填写）", "The key ends, as you have written down"),
}


@dataclass(frozen=True, slots=True)
class End:
    """Something that ends: what, and when."""

    what: str  # consent | token | certificate | credentials
    at: datetime


def ends_of(connection: Connection, way: Auth | None, fields: Mapping[str, Any]) -> list[End]:
    """Return what of a connection ends and needs a person then, the soonest first."""
    found = []
    if connection.credentials_end_at is not None:
        found.append(End("credentials", connection.credentials_end_at))
    found += [End("certificate", at) for at in _certificate_ends(fields)]
    if way is not None and way.authorize is not None:
        if connection.grant_expires_at is not None:
            found.append(End("consent", connection.grant_expires_at))
        elif connection.token_expires_at is not None and not way.refresh:
            found.append(End("token", connection.token_expires_at))
    return sorted(found, key=lambda one: one.at)


def _certificate_ends(fields: Mapping[str, Any]) -> list[datetime]:
    ends = []
    for value in fields.values():
        if not isinstance(value, str) or _PEM not in value:
            continue
        try:
            # of a chain the owner's own certificate stands first
            found = x509.load_pem_x509_certificate(value[value.index(_PEM) :].encode())
        except ValueError:
            continue
        ends.append(found.not_valid_after_utc)
    return ends


def settle(connection: Connection, way: Auth | None, fields: Mapping[str, Any]) -> None:
    """Note the soonest end that needs a person; a later one than before starts the warnings anew.

    To be called whenever what a connection lives on has changed.
    """
    ends = ends_of(connection, way, fields)
    first = ends[0] if ends else None
    if connection.ends_at != (first.at if first else None):
        connection.warned_days = None
    connection.ends_at = first.at if first else None
    connection.ends_what = first.what if first else None


def days_left(connection: Connection, now: datetime) -> int | None:
    """Return how many whole days are left, below zero for what has ended; None: nothing ends."""
    if connection.ends_at is None:
        return None
    return int((connection.ends_at - now).total_seconds() // 86_400)


def upcoming(session: Session, organization_id: str, days: int) -> list[Connection]:
    """List the connections that need a person within so many days, the most urgent first."""
    until = store_now(session) + timedelta(days=days)
    statement = Connection.of(organization_id).where(
        CONNECTION.c.ends_at <= until, CONNECTION.c.state != "revoked"
    )
    return list(session.execute(statement.order_by(CONNECTION.c.ends_at)).scalars())


# --- warnings ------------------------------------------------------------------------------------


def _unwarned(now: datetime) -> Any:
    """Match connections that have come nearer to their end than anybody was told."""
    steps = []
    for days in WARN_DAYS:
        is_near = CONNECTION.c.ends_at <= now + timedelta(days=days)
        untold = or_(CONNECTION.c.warned_days.is_(None), CONNECTION.c.warned_days > days)
        steps.append(and_(is_near, untold))
    return and_(text("connection.ends_at IS NOT NULL"), CONNECTION.c.state != "revoked",
                or_(*steps))  # fmt: skip


def sweep() -> int:
    """Tell what comes near its end, in every organization, once at each step; returns how many."""
    with reading(EVERY) as session:
        found = session.execute(
            select(CONNECTION.c.id).where(_unwarned(store_now(session))).limit(1)
        ).first()
    return write(_warn) if found is not None else 0


def _warn(session: Session) -> int:
    now = store_now(session)
    rows = session.execute(
        select(Connection)
        .where(_unwarned(now))
        .order_by(CONNECTION.c.ends_at)
        .limit(AT_ONCE)
        .with_for_update(skip_locked=True)
    ).scalars()
    count = 0
    for connection in rows:
        left = days_left(connection, now)
        assert left is not None
        assert connection.ends_at is not None
        connection.warned_days = min(
            (d for d in WARN_DAYS if connection.ends_at <= now + timedelta(days=d)), default=1
        )
        session.add(connection)
        outbox.emit(session, connection.organization_id, NEWS, _told(connection, left),
                    connection.id)  # fmt: skip
        count += 1
    return count


def _told(connection: Connection, left: int) -> dict[str, Any]:
    assert connection.ends_at is not None
    return {
        "connection_id": connection.id,
        "name": connection.name,
        "connector_key": connection.connector_key,
        "what": connection.ends_what,
        "ends_at": connection.ends_at.isoformat(),
        "days_left": str(max(0, left)),
        "path": f"/connections/{connection.id}",
    }
