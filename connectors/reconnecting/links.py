"""Links to reconnect: who holds one may renew one connection, once, and learns nothing of it.

The secret names its organization, so that it is looked up in one tenant, and is kept as a digest
alone. What is entered is tried first; an account that is another than before waits for its owner.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import select, update
from sqlmodel import Session, col

from connectors import connections, consents
from connectors.engine.grants import Granted
from connectors.errors import NotNow
from connectors.reconnecting.tables import RECONNECT_LINK, ReconnectLink
from connectors.tables import Connection
from identity import proofs, throttle
from identity.principals import Principal
from identity.suspensions import Suspended
from identity.tables import Organization
from kernel import clock, documents, ids, vault
from kernel.errors import N_, NotFound
from kernel.settings import settings
from kernel.tenancy import find

PREFIX: Final = "yrl_"
PATH: Final = "/reconnect"
LASTS: Final = timedelta(days=7)
MOST_SHOWN: Final = 20
_ASK = N_("Nothing was changed. Ask whoever gave you the link for a new one.")


@dataclass(frozen=True, slots=True)
class Guest:
    """Somebody who came through a link: which one, to which connection, of whom."""

    link: ReconnectLink
    connection: Connection
    organization_name: str

    @property
    def organization_id(self) -> str:
        """The tenant whose connection it is."""
        return self.link.organization_id


def make(
    session: Session,
    organization_id: str,
    connection_id: str,
    *,
    note: str = "",
    made_by: str | None = None,
    made_by_name: str = "",
) -> tuple[ReconnectLink, str]:
    """Let somebody renew a connection; returns the link and its address, which is not kept."""
    connection = connections.find(session, organization_id, connection_id)
    if connection.state == "revoked":
        raise NotNow(
            N_("This connection was disconnected"),
            N_("Connect the app anew; a link can only renew what is there."),
        )
    secret = proofs.seal_owner(PREFIX, organization_id)
    link = ReconnectLink(
        organization_id=organization_id,
        id=ids.new_id("rlk"),
        connection_id=connection_id,
        secret_digest=proofs.digest(secret),
        note=note.strip()[:200],
        made_by=made_by,
        made_by_name=made_by_name[:120],
        expires_at=clock.now() + LASTS,
    )
    session.add(link)
    session.flush()
    return link, f"{settings().base_url.rstrip('/')}{PATH}/{secret}"


def listing(session: Session, organization_id: str, connection_id: str) -> list[ReconnectLink]:
    """Return a connection's links, the newest first."""
    statement = ReconnectLink.of(organization_id).where(
        RECONNECT_LINK.c.connection_id == connection_id
    )
    ordered = statement.order_by(RECONNECT_LINK.c.id.desc()).limit(MOST_SHOWN)
    return list(session.execute(ordered).scalars())


def state_of(link: ReconnectLink) -> str:
    """Say whether a link is `active`, `held` (its owner is asked), `used`, `revoked`, `expired`."""
    if link.used_at is not None:
        return "held" if link.held_sealed is not None else "used"
    if link.revoked_at is not None:
        return "revoked"
    return "active" if link.expires_at > clock.now() else "expired"


def get(session: Session, organization_id: str, link_id: str) -> ReconnectLink:
    """Return the organization's link; raises NotFound."""
    return find(session, ReconnectLink, organization_id, link_id)


def revoke(session: Session, organization_id: str, link_id: str) -> ReconnectLink:
    """End a link; one that was used stays used."""
    link = get(session, organization_id, link_id)
    link.revoked_at = link.revoked_at or clock.now()
    session.add(link)
    return link


# --- coming in -----------------------------------------------------------------------------------


def organization_of(secret: str) -> str:
    """Name the organization whose link this could be; raises NotFound."""
    found = proofs.owner_of(PREFIX, secret)
    if found is None:
        raise _gone()
    return found


def look_up(session: Session, secret: str) -> Guest:
    """Return who comes with a secret; raises NotFound when it works no more."""
    organization_id = organization_of(secret)
    now = clock.now()
    found = session.execute(
        select(ReconnectLink, col(Organization.name), col(Organization.state))
        .join(Organization, col(Organization.id) == RECONNECT_LINK.c.organization_id)
        .where(
            RECONNECT_LINK.c.organization_id == organization_id,
            RECONNECT_LINK.c.secret_digest == proofs.digest(secret),
            RECONNECT_LINK.c.used_at.is_(None),
            RECONNECT_LINK.c.revoked_at.is_(None),
            RECONNECT_LINK.c.expires_at > now,
        )
    ).first()
    if found is None:
        raise _gone()
    if found[2] == "suspended":
        raise Suspended
    link = found[0]
    connection = session.get(Connection, (organization_id, link.connection_id))
    if connection is None or connection.state == "revoked":
        raise _gone()
    return Guest(link, connection, found[1])


def note_opening(session: Session, guest: Guest) -> None:
    """Write down that somebody has opened a link."""
    session.execute(
        update(RECONNECT_LINK)
        .where(
            RECONNECT_LINK.c.organization_id == guest.organization_id,
            RECONNECT_LINK.c.id == guest.link.id,
            RECONNECT_LINK.c.opened_at.is_(None),
        )
        .values(opened_at=clock.now())
    )


def _gone() -> NotFound:
    return NotFound(N_("This link has been used, was withdrawn, or has run out"), _ASK)


def limits(guest: Guest) -> list[throttle.Limit]:
    """Say what trying credentials through a link counts against: ten tries are free."""
    return [throttle.Limit(f"reconnect:{guest.link.id}", 10, 600)]


def actor(guest: Guest, address: str | None) -> Principal:
    """Return who acts through a link, for the audit trail; it holds no permission at all."""
    return Principal(
        organization_id=guest.organization_id,
        user_id=None,
        member_id=None,
        role="",
        kind="guest",
        permissions=frozenset(),
        name=guest.link.note or guest.link.made_by_name,
        link_id=guest.link.id,
        address=address,
    )


# --- renewing ------------------------------------------------------------------------------------


def is_other(connection: Connection, account: Mapping[str, str] | None) -> bool:
    """Tell whether an account is known to be another than the connection's so far."""
    known = (connection.account or {}).get("id")
    found = (account or {}).get("id")
    return bool(known) and bool(found) and known != found


def apply_fields(
    session: Session,
    guest: Guest,
    fields: Mapping[str, str],
    account: Mapping[str, str] | None,
) -> bool:
    """Store what was entered, or hold it for the owner; True when it counts already.

    Raises NotFound when somebody was faster with the same link.
    """
    connection = _use_up(session, guest)
    if is_other(connection, account):
        _hold(session, guest.link.id, connection, {"fields": dict(fields)}, account)
        return False
    # where the app does not say whose account it is, what stands open tells: its id, its user name
    changed = [] if account else _changed(connection, fields)
    if changed:
        told = {"name": ", ".join(changed)[:200]}
        _hold(session, guest.link.id, connection, {"fields": dict(fields)}, told)
        return False
    known = dict(account) if account else connection.account
    connections.change_credentials(session, guest.organization_id, connection.id, fields=fields)
    connection.account, connection.checked_at = known, clock.now()
    session.add(connection)
    return True


def _changed(connection: Connection, fields: Mapping[str, str]) -> list[str]:
    """Return the public values that are not what they were."""
    return [
        fields[name]
        for name, value in sorted(connection.public_fields.items())
        if value and fields.get(name, value) != value
    ]


def apply_grant(session: Session, guest: Guest, begun: consents.Begun, brought: Any) -> bool:
    """Store what a consent brought, or hold it for the owner; True when it counts already."""
    connection = _use_up(session, guest)
    granted = brought.granted
    if is_other(connection, brought.account):
        told = {
            "texts": dict(granted.texts),
            "ends_at": _written(granted.ends_at),
            "grant_ends_at": _written(granted.grant_ends_at),
        }
        _hold(session, guest.link.id, connection, {"grant": told}, brought.account)
        return False
    account = brought.account or connection.account
    consents.keep(session, connection, begun.way, granted, account)
    return True


def _use_up(session: Session, guest: Guest) -> Connection:
    """Use a link up; of two who do so at once one gets through."""
    changed = session.execute(
        update(RECONNECT_LINK)
        .where(
            RECONNECT_LINK.c.organization_id == guest.organization_id,
            RECONNECT_LINK.c.id == guest.link.id,
            RECONNECT_LINK.c.used_at.is_(None),
            RECONNECT_LINK.c.revoked_at.is_(None),
            RECONNECT_LINK.c.expires_at > clock.now(),
        )
        .values(used_at=clock.now())
        .returning(RECONNECT_LINK.c.id)
    ).all()
    if not changed:
        raise _gone()
    connection = connections.find(session, guest.organization_id, guest.link.connection_id)
    if connection.state == "revoked":
        raise _gone()
    return connection


def _hold(
    session: Session,
    link_id: str,
    connection: Connection,
    value: Mapping[str, Any],
    account: Mapping[str, str] | None,
) -> None:
    link = get(session, connection.organization_id, link_id)
    session.refresh(link)
    link.held_sealed = vault.seal(documents.dump(value), _context(link))
    link.held_account = dict(account or {})
    session.add(link)


def decide(session: Session, organization_id: str, link_id: str, *, accepts: bool) -> Connection:
    """Take the other account, or drop what was entered for it; raises NotNow when none is held."""
    link = session.get(ReconnectLink, (organization_id, link_id), with_for_update=True)
    if link is None:
        raise NotFound
    if link.held_sealed is None:
        raise NotNow(N_("Nothing is waiting for your decision here"))
    connection = connections.find(session, organization_id, link.connection_id)
    if accepts:
        value = documents.parse(vault.open_sealed(link.held_sealed, _context(link)))
        _take_held(session, connection, value, link.held_account)
    link.held_sealed, link.decided_at = None, clock.now()
    session.add(link)
    return connection


def _take_held(
    session: Session,
    connection: Connection,
    value: Mapping[str, Any],
    account: Mapping[str, Any] | None,
) -> None:
    if "fields" in value:
        owner = connection.organization_id
        connections.change_credentials(session, owner, connection.id, fields=value["fields"])
        connection.account = dict(account) if account and account.get("id") else None
        session.add(connection)
        return
    way = consents.way_of(connections.open_connection(connection))
    if way is None or connection.state == "revoked":
        raise NotNow(N_("This connection works without signing in at the app"))
    told = value["grant"]
    granted = Granted(told["texts"], _read(told["ends_at"]), _read(told["grant_ends_at"]))
    consents.keep(session, connection, way, granted, account)


def _context(link: ReconnectLink) -> str:
    return f"{link.organization_id}|reconnect_link|{link.id}|held_sealed"


def _written(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


def _read(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
