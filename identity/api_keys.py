"""API keys: how programs act for an organization, never with more than their maker may do."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import and_, or_, update
from sqlmodel import Session, col, select

from identity import proofs, roles
from identity.tables import ApiKey, Member, Organization, User
from kernel import clock
from kernel.errors import N_, Forbidden, Invalid
from kernel.tenancy import find as find_owned

PREFIX: Final = "yfk_"
TOUCH_EVERY: Final = timedelta(minutes=1)
_LIMIT: Final = 200


@dataclass(frozen=True)
class Found:
    """A working key, its organization and what it may do at this moment."""

    key: ApiKey
    organization: Organization
    role: str
    permissions: frozenset[str]


def mint(
    session: Session,
    organization: Organization,
    *,
    name: str,
    role: str,
    permissions: Collection[str] | None = None,
    expires_at: datetime | None = None,
    created_by: str | None = None,
    actor_role: str = "owner",
    actor_permissions: frozenset[str] | None = None,
) -> tuple[ApiKey, str]:
    """Make a key and return it with its secret, which is shown once.

    `permissions` narrows the role; `actor_role` and `actor_permissions` are what the maker is and
    may do (None: everything, for the system).
    Raises Invalid for a bad name, role, permission or date, Forbidden when the key would outgrow
    its maker.
    """
    granted = _granted(organization, role, permissions)
    outgrows = actor_permissions is not None and not granted <= actor_permissions
    if outgrows or (role == "owner" and actor_role != "owner"):
        raise Forbidden(detail=N_("A key cannot do more than the person who makes it."))
    name = " ".join(name.split())
    if not name or len(name) > 80:
        raise _wrong("/name", N_("Please give a name of at most 80 characters."))
    if expires_at is not None and expires_at <= clock.now():
        raise _wrong("/expires_at", N_("Please choose a day in the future."))
    if len(list_working(session, organization.id)) >= _LIMIT:
        raise Invalid(detail=N_("There are too many keys already; revoke some first."))
    secret = proofs.seal_owner(PREFIX, organization.id)
    key = ApiKey(
        organization_id=organization.id,
        digest=proofs.digest(secret),
        hint=f"…{secret[-4:]}",
        name=name,
        role=role,
        permissions=sorted(granted) if permissions is not None else None,
        created_by=created_by,
        expires_at=expires_at,
    )
    session.add(key)
    return key, secret


def organization_of(secret: str) -> str | None:
    """Name the tenant in which a key is looked up, or None when it is no key of ours."""
    return proofs.owner_of(PREFIX, secret)


def find(session: Session, secret: str) -> Found | None:
    """Return the working key this secret opens; None when unknown, revoked, expired or orphaned.

    A key made by a person can never do more than that person may do now, and stops with their seat.
    """
    organization_id = organization_of(secret)
    if organization_id is None:
        return None
    row = session.execute(
        select(ApiKey, Organization, Member, User)
        .join(Organization, col(Organization.id) == col(ApiKey.organization_id))
        .outerjoin(
            Member,
            and_(
                col(Member.organization_id) == col(ApiKey.organization_id),
                col(Member.user_id) == col(ApiKey.created_by),
                col(Member.status) == "active",
            ),
        )
        .outerjoin(User, and_(col(User.id) == col(Member.user_id), col(User.disabled_at).is_(None)))
        .where(*_working(organization_id, clock.now()), col(ApiKey.digest) == proofs.digest(secret))
    ).first()
    if row is None:
        return None
    key, organization, member, user = row
    role, permissions = key.role, _granted(organization, key.role, key.permissions)
    if key.created_by is not None:
        if member is None or user is None:
            return None
        permissions &= _granted(organization, member.role, None)
        role = member.role if role == "owner" else role
    return Found(key, organization, role, permissions)


def is_touch_due(key: ApiKey) -> bool:
    """Say whether the last noted use is more than a minute old."""
    return key.last_used_at is None or clock.now() - key.last_used_at > TOUCH_EVERY


def touch(session: Session, organization_id: str, key_id: str) -> None:
    """Note that the key was used just now."""
    session.execute(
        update(ApiKey)
        .where(col(ApiKey.organization_id) == organization_id, col(ApiKey.id) == key_id)
        .values(last_used_at=clock.now())
    )


def list_working(session: Session, organization_id: str) -> list[ApiKey]:
    """Return the keys that are neither revoked nor expired, newest first."""
    statement = ApiKey.of(organization_id).where(*_working(organization_id, clock.now()))
    return list(session.execute(statement.order_by(col(ApiKey.id).desc())).scalars())


def revoke(session: Session, organization_id: str, key_id: str) -> ApiKey:
    """Stop a key at once; stopping it twice changes nothing. A stranger's key is NotFound."""
    key = find_owned(session, ApiKey, organization_id, key_id)
    key.revoked_at = key.revoked_at or clock.now()
    session.add(key)
    return key


def _granted(
    organization: Organization, role: str, permissions: Collection[str] | None
) -> frozenset[str]:
    if role not in roles.ROLES:
        raise _wrong("/role", N_("Please choose one of the roles offered."))
    granted = roles.permissions_of(
        role, is_vendor=organization.is_vendor, is_operator=organization.is_operator
    )
    if permissions is None:
        return granted
    if not set(permissions) <= set(roles.PERMISSIONS):
        raise _wrong("/permissions", N_("There is no such permission."))
    return granted & frozenset(permissions)


def _working(organization_id: str, now: datetime) -> list[Any]:
    return [
        col(ApiKey.organization_id) == organization_id,
        col(ApiKey.revoked_at).is_(None),
        or_(col(ApiKey.expires_at).is_(None), col(ApiKey.expires_at) > now),
    ]


def _wrong(pointer: str, message: str) -> Invalid:
    return Invalid(detail=message, errors=[{"pointer": pointer, "message": message}])
