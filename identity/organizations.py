"""Organizations: the firms that use the hub, publish on it or run it."""

import re
from dataclasses import dataclass

from sqlmodel import Session, col, select

from identity import users
from identity.tables import Member, Organization, User
from kernel.errors import N_, Conflict, Invalid, NotFound

SIZES = ("1-9", "10-49", "50-199", "200-999", "1000+")


@dataclass(frozen=True)
class SignedUp:
    """What a sign-up made."""

    organization: Organization
    user: User
    member: Member


def sign_up(
    session: Session,
    *,
    organization_name: str,
    email: str,
    name: str,
    password_digest: str,
    language: str = "zh",
    industry: str | None = None,
    size: str | None = None,
) -> SignedUp:
    """Create an organization, a new person and their seat as its owner; all or nothing.

    Raises Conflict when the address already has an account, Invalid when a name is not usable.
    """
    user = users.create(
        session, email=email, name=name, password_digest=password_digest, language=language
    )
    organization, member = create(
        session, name=organization_name, owner_id=user.id, industry=industry, size=size
    )
    return SignedUp(organization, user, member)


def create(
    session: Session,
    *,
    name: str,
    owner_id: str,
    industry: str | None = None,
    size: str | None = None,
) -> tuple[Organization, Member]:
    """Create an organization owned by a person who is already here."""
    organization = Organization(
        name=clean_name(name), industry=_industry(industry), size=_size(size)
    )
    session.add(organization)
    # Written now: the seat's foreign key needs its organization to be there.
    session.flush()
    member = Member(organization_id=organization.id, user_id=owner_id, role="owner")
    session.add(member)
    session.flush()
    return organization, member


def find(session: Session, organization_id: str) -> Organization:
    """Return an organization; raises NotFound."""
    organization = session.get(Organization, organization_id)
    if organization is None:
        raise NotFound
    return organization


def change(
    session: Session,
    organization_id: str,
    *,
    name: str | None = None,
    slug: str | None = None,
    industry: str | None = None,
    size: str | None = None,
) -> Organization:
    """Change what is given; an empty text clears what may be empty."""
    organization = find(session, organization_id)
    if name is not None:
        organization.name = clean_name(name)
    if slug is not None:
        organization.slug = _free_slug(session, organization_id, slug)
    if industry is not None:
        organization.industry = _industry(industry)
    if size is not None:
        organization.size = _size(size)
    session.add(organization)
    return organization


def set_kind(
    session: Session,
    organization_id: str,
    *,
    is_vendor: bool | None = None,
    is_operator: bool | None = None,
) -> Organization:
    """Make an organization a vendor or an operator of the hub, or no longer one."""
    organization = find(session, organization_id)
    if is_vendor is not None:
        organization.is_vendor = is_vendor
    if is_operator is not None:
        organization.is_operator = is_operator
    session.add(organization)
    return organization


def list_all(session: Session) -> list[Organization]:
    """Return every organization, oldest first (for the operator's command line)."""
    return list(session.execute(select(Organization).order_by(col(Organization.id))).scalars())


def list_of_user(session: Session, user_id: str) -> list[tuple[Organization, Member]]:
    """Return the organizations a person has a seat in, by name."""
    rows = session.execute(
        select(Organization, Member)
        .join(Member, col(Member.organization_id) == col(Organization.id))
        .where(col(Member.user_id) == user_id, col(Member.status) == "active")
        .order_by(col(Organization.name), col(Organization.id))
    )
    return [(organization, member) for organization, member in rows]


def find_of_user(session: Session, user_id: str, organization_id: str) -> Organization:
    """Return an organization a person has a seat in; any other is NotFound."""
    for organization, _ in list_of_user(session, user_id):
        if organization.id == organization_id:
            return organization
    raise NotFound


def clean_name(name: str) -> str:
    """Return a name without needless blanks; raises Invalid when it is empty or too long."""
    name = " ".join(name.split())
    if not name or len(name) > 120:
        message = N_("Please give your organization a name of at most 120 characters.")
        raise Invalid(
            detail=message, errors=[{"pointer": "/organization_name", "message": message}]
        )
    return name


def _industry(industry: str | None) -> str | None:
    industry = " ".join((industry or "").split())[:60]
    return industry or None


def _size(size: str | None) -> str | None:
    if not size:
        return None
    if size not in SIZES:
        message = N_("Please choose one of the sizes offered.")
        raise Invalid(detail=message, errors=[{"pointer": "/size", "message": message}])
    return size


def _free_slug(session: Session, organization_id: str, slug: str) -> str | None:
    slug = slug.strip().lower()
    if not slug:
        return None
    if not re.fullmatch(r"[a-z0-9](?:[a-z0-9-]{1,58})[a-z0-9]", slug):
        message = N_("Use 3 to 60 small letters, digits and hyphens.")
        raise Invalid(detail=message, errors=[{"pointer": "/slug", "message": message}])
    taken = session.execute(
        select(Organization.id).where(
            col(Organization.slug) == slug, col(Organization.id) != organization_id
        )
    ).first()
    if taken:
        raise Conflict(detail=N_("This short name is taken."))
    return slug
