"""Members: the seats of an organization; it never stays without an owner."""

from dataclasses import dataclass

from sqlalchemy import update
from sqlmodel import Session, col, select

from identity import roles
from identity.tables import ApiKey, Invitation, LoginSession, Member, Organization, User
from kernel import clock
from kernel.errors import N_, Conflict, Forbidden, Invalid, NotFound
from kernel.tenancy import find as find_owned


@dataclass(frozen=True)
class Seat:
    """A member together with the person who sits there."""

    id: str
    user_id: str
    name: str
    email: str
    role: str
    status: str
    created_at: object


def list_seats(session: Session, organization_id: str) -> list[Seat]:
    """Return the organization's active seats, longest-standing first."""
    rows = session.execute(
        select(Member, User)
        .join(User, col(User.id) == col(Member.user_id))
        .where(col(Member.organization_id) == organization_id, col(Member.status) == "active")
        .order_by(col(Member.id))
    )
    return [_seat(member, user) for member, user in rows]


def find(session: Session, organization_id: str, member_id: str) -> Member:
    """Return an active seat of the organization; raises NotFound."""
    member = find_owned(session, Member, organization_id, member_id)
    if member.status != "active":
        raise NotFound
    return member


def find_seat(session: Session, organization_id: str, member_id: str) -> Seat:
    """Return an active seat with its person; raises NotFound."""
    member = find(session, organization_id, member_id)
    user = session.get(User, member.user_id)
    assert user is not None
    return _seat(member, user)


def add(session: Session, organization_id: str, user_id: str, role: str) -> Member:
    """Give a person a seat, or give back the one they had; raises Conflict when they sit there."""
    member = session.execute(
        Member.of(organization_id).where(col(Member.user_id) == user_id)
    ).scalar_one_or_none()
    if member is None:
        member = Member(organization_id=organization_id, user_id=user_id, role=role)
    elif member.status == "active":
        raise Conflict(detail=N_("This person already belongs to the organization."))
    else:
        member.status, member.role = "active", role
    session.add(member)
    # Written now, so that a clash with another acceptance shows here.
    session.flush()
    return member


def change_role(
    session: Session,
    organization_id: str,
    member_id: str,
    role: str,
    *,
    actor_role: str,
    actor_permissions: frozenset[str] | None = None,
) -> Member:
    """Give a seat another role; the person's sessions change their secret at the next request.

    `actor_permissions` is what the actor may do (None: everything their role may). Raises
    Forbidden when the actor may not hand out either role, Conflict for the last owner.
    """
    if role not in roles.ROLES:
        message = N_("Please choose one of the roles offered.")
        raise Invalid(detail=message, errors=[{"pointer": "/role", "message": message}])
    owners = _lock_owners(session, organization_id)
    member = find(session, organization_id, member_id)
    if member.role == role:
        return member
    _may_touch(actor_role, member.role, role)
    check_reach(session, organization_id, role, actor_permissions)
    if member.role == "owner":
        _keep_one_owner(owners, member)
    member.role = role
    session.add(member)
    _withdraw_invitations(session, member)
    session.execute(
        update(LoginSession)
        .where(col(LoginSession.user_id) == member.user_id, col(LoginSession.ended_at).is_(None))
        .values(must_rotate=True)
    )
    return member


def check_reach(
    session: Session, organization_id: str, role: str, held: frozenset[str] | None
) -> None:
    """Refuse to hand out a role that may do more than who hands it out, as a narrow key would."""
    organization = session.get(Organization, organization_id)
    if held is None or organization is None:
        return
    given = roles.permissions_of(
        role, is_vendor=organization.is_vendor, is_operator=organization.is_operator
    )
    if not given <= held:
        raise Forbidden(detail=N_("Nobody can hand out more than they may do themselves."))


def remove(session: Session, organization_id: str, member_id: str, *, actor_role: str) -> Member:
    """Take a seat away: sessions leave the organization and keys the person made stop at once.

    Raises Forbidden when the actor may not, Conflict for the last owner.
    """
    owners = _lock_owners(session, organization_id)
    member = find(session, organization_id, member_id)
    _may_touch(actor_role, member.role, member.role)
    return _vacate(session, owners, member)


def leave(session: Session, organization_id: str, member_id: str) -> Member:
    """Give one's own seat up; raises Conflict for the last owner."""
    owners = _lock_owners(session, organization_id)
    return _vacate(session, owners, find(session, organization_id, member_id))


def _vacate(session: Session, owners: list[Member], member: Member) -> Member:
    if member.role == "owner":
        _keep_one_owner(owners, member)
    member.status = "removed"
    session.add(member)
    session.execute(
        update(LoginSession)
        .where(
            col(LoginSession.user_id) == member.user_id,
            col(LoginSession.organization_id) == member.organization_id,
        )
        .values(organization_id=None, must_rotate=True)
    )
    session.execute(
        update(ApiKey)
        .where(
            col(ApiKey.organization_id) == member.organization_id,
            col(ApiKey.created_by) == member.user_id,
            col(ApiKey.revoked_at).is_(None),
        )
        .values(revoked_at=clock.now())
    )
    _withdraw_invitations(session, member)
    return member


def _withdraw_invitations(session: Session, member: Member) -> None:
    # What somebody offered in a role they no longer have must not come true later.
    session.execute(
        update(Invitation)
        .where(
            col(Invitation.organization_id) == member.organization_id,
            col(Invitation.invited_by) == member.user_id,
            col(Invitation.accepted_at).is_(None),
            col(Invitation.revoked_at).is_(None),
        )
        .values(revoked_at=clock.now())
    )


def _lock_owners(session: Session, organization_id: str) -> list[Member]:
    # Locked in one order before anything is read: two owners who unseat each other at the same
    # moment must not both succeed.
    statement = (
        Member.of(organization_id)
        .where(col(Member.role) == "owner", col(Member.status) == "active")
        .order_by(col(Member.id))
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    return list(session.execute(statement).scalars())


def _keep_one_owner(owners: list[Member], leaving: Member) -> None:
    if not any(owner.id != leaving.id for owner in owners):
        raise Conflict(
            N_("An organization needs an owner"),
            N_("This is the last one. Name another owner first; nothing was changed."),
            code="last_owner",
        )


def _may_touch(actor_role: str, old_role: str, new_role: str) -> None:
    if not (roles.may_assign(actor_role, old_role) and roles.may_assign(actor_role, new_role)):
        raise Forbidden(detail=N_("Only an owner can name or remove owners."))


def _seat(member: Member, user: User) -> Seat:
    return Seat(
        id=member.id,
        user_id=user.id,
        name=user.name,
        email=user.email,
        role=member.role,
        status=member.status,
        created_at=member.created_at,
    )
