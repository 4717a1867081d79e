"""Invitations: a link that gives one person one seat, once, within seven days."""

from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import update
from sqlmodel import Session, col, select

from identity import members, proofs, roles, users
from identity.tables import Invitation, Member, Organization, User
from kernel import clock
from kernel.errors import N_, Conflict, Forbidden, Invalid, NotFound
from kernel.tenancy import find as find_owned

PREFIX: Final = "yfi_"
LIFETIME: Final = timedelta(days=7)


def invite(
    session: Session,
    organization_id: str,
    *,
    email: str,
    role: str,
    actor_role: str,
    actor_id: str | None,
    actor_permissions: frozenset[str] | None = None,
) -> tuple[Invitation, str]:
    """Offer a seat; returns the invitation and its secret, which is shown once.

    `actor_permissions` is what the actor may do (None: everything their role may). An older open
    invitation to the same address stops. Raises Forbidden, Invalid or Conflict.
    """
    if role not in roles.ROLES:
        message = N_("Please choose one of the roles offered.")
        raise Invalid(detail=message, errors=[{"pointer": "/role", "message": message}])
    if not roles.may_assign(actor_role, role):
        raise Forbidden(detail=N_("Only an owner can name or remove owners."))
    members.check_reach(session, organization_id, role, actor_permissions)
    email = users.normalise_email(email)
    if any(seat.email == email for seat in members.list_seats(session, organization_id)):
        raise Conflict(detail=N_("This person already belongs to the organization."))
    now = clock.now()
    session.execute(
        update(Invitation)
        .where(*_open(organization_id, now), col(Invitation.email) == email)
        .values(revoked_at=now)
    )
    secret = proofs.seal_owner(PREFIX, organization_id)
    invitation = Invitation(
        organization_id=organization_id,
        digest=proofs.digest(secret),
        email=email,
        role=role,
        invited_by=actor_id,
        expires_at=now + LIFETIME,
    )
    session.add(invitation)
    return invitation, secret


def link(base_url: str, secret: str) -> str:
    """Return the address that the invited person opens."""
    return f"{base_url.rstrip('/')}/invitations/{secret}"


def list_open(session: Session, organization_id: str) -> list[Invitation]:
    """Return the invitations that still wait for an answer, newest first."""
    statement = Invitation.of(organization_id).where(*_open(organization_id, clock.now()))
    return list(session.execute(statement.order_by(col(Invitation.id).desc())).scalars())


def revoke(session: Session, organization_id: str, invitation_id: str) -> Invitation:
    """Withdraw an invitation; one that was accepted stays accepted (Conflict)."""
    invitation = find_owned(session, Invitation, organization_id, invitation_id)
    if invitation.accepted_at is not None:
        raise Conflict(detail=N_("This invitation was already accepted."))
    invitation.revoked_at = invitation.revoked_at or clock.now()
    session.add(invitation)
    return invitation


def organization_of(secret: str) -> str:
    """Name the tenant in which an invitation's secret is looked up; raises NotFound."""
    organization_id = proofs.owner_of(PREFIX, secret)
    if organization_id is None:
        raise _gone()
    return organization_id


def look_up(session: Session, secret: str) -> tuple[Invitation, Organization, User | None]:
    """Return an open invitation, its organization and the invited person if they have an account.

    Raises NotFound for a link that is unknown, used, withdrawn or too old: all look the same.
    """
    organization_id = organization_of(secret)
    invitation = session.execute(
        select(Invitation).where(
            *_open(organization_id, clock.now()), col(Invitation.digest) == proofs.digest(secret)
        )
    ).scalar_one_or_none()
    organization = session.get(Organization, organization_id)
    if invitation is None or organization is None:
        raise _gone()
    return invitation, organization, users.find_by_email(session, invitation.email)


def accept(session: Session, secret: str, user: User) -> Member:
    """Seat a person who is signed in; the address must be the invited one."""
    invitation = _use_up(session, secret)
    if user.email != invitation.email:
        raise Forbidden(
            detail=N_("This invitation is for another e-mail address. Sign in with that one."),
            code="other_address",
        )
    return members.add(session, invitation.organization_id, user.id, invitation.role)


def accept_as_new(
    session: Session, secret: str, *, name: str, password_digest: str, language: str = "zh"
) -> tuple[Member, User]:
    """Create the invited person and seat them; raises Conflict when the account exists by now."""
    invitation = _use_up(session, secret)
    user = users.create(
        session,
        email=invitation.email,
        name=name,
        password_digest=password_digest,
        language=language,
    )
    return members.add(session, invitation.organization_id, user.id, invitation.role), user


def _use_up(session: Session, secret: str) -> Invitation:
    """Mark the invitation as accepted in one statement: of many at once exactly one succeeds."""
    organization_id = organization_of(secret)
    now = clock.now()
    used = session.execute(
        update(Invitation)
        .where(*_open(organization_id, now), col(Invitation.digest) == proofs.digest(secret))
        .values(accepted_at=now)
        .returning(col(Invitation.id))
    ).scalar_one_or_none()
    if used is None:
        raise _gone()
    return find_owned(session, Invitation, organization_id, used)


def _open(organization_id: str, now: datetime) -> list[Any]:
    return [
        col(Invitation.organization_id) == organization_id,
        col(Invitation.accepted_at).is_(None),
        col(Invitation.revoked_at).is_(None),
        col(Invitation.expires_at) > now,
    ]


def _gone() -> NotFound:
    return NotFound(
        N_("This invitation no longer works"),
        N_("It was used, withdrawn or is older than seven days. Ask for a new one."),
        code="invitation_gone",
    )
