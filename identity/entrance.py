"""The way in: signing up, signing in, typing the password again, changing it.

Unlike the nouns, these functions open their own transactions, because hashing a password must
happen between two of them and never inside one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from sqlmodel import Session

from identity import audit, invitations, organizations, passwords, sessions, throttle, users
from identity.principals import Principal
from identity.tables import LoginSession, Member, Organization, User
from kernel.database import EVERY, reading, transaction
from kernel.errors import N_, Forbidden, Invalid, Unauthenticated

T = TypeVar("T")


@dataclass(frozen=True)
class Visitor:
    """What is known of the browser at the door."""

    address: str
    user_agent: str = ""
    device: str | None = None
    secret: str | None = None


@dataclass(frozen=True)
class SignedIn:
    """A person who has come in, with the secret of their new session."""

    user: User
    login: LoginSession
    secret: str


def sign_in(email: str, password: str, visitor: Visitor) -> SignedIn:
    """Let a person in by e-mail and password.

    An unknown address, a closed account and a wrong password are answered alike, after the same
    work. Raises Unauthenticated or TooMany.
    """
    limits = throttle.sign_in_limits(
        users.one_spelling(email), visitor.address, device=visitor.device
    )
    _reserve(limits)
    with reading(EVERY) as session:
        user = users.find_by_email(session, email)
    stored = user.password_digest if user else None
    if not passwords.verify(stored, password) or user is None or user.disabled_at is not None:
        raise Unauthenticated(
            N_("E-mail and password do not fit together"),
            N_("Check both and try again. Nothing happened to your account."),
            code="wrong_credentials",
        )
    assert stored is not None
    renewed = passwords.hash_password(password) if passwords.needs_rehash(stored) else None
    with transaction(EVERY) as session:
        throttle.clear(session, limits)
        if renewed is not None:
            users.rehash(session, user.id, stored, renewed)
        organization_id = sessions.preferred_organization(session, user.id)
        login, secret = sessions.start(
            session,
            user.id,
            organization_id=organization_id,
            user_agent=visitor.user_agent,
            ip=visitor.address,
            replaces=visitor.secret,
        )
        _record(session, "session.started", user, login, visitor)
    return SignedIn(user, login, secret)


def sign_up(
    visitor: Visitor,
    *,
    organization_name: str,
    email: str,
    name: str,
    password: str,
    language: str = "zh",
    industry: str | None = None,
    size: str | None = None,
    also: Callable[[Session, organizations.SignedUp], T] | None = None,
) -> tuple[organizations.SignedUp, T | None]:
    """Create an organization and its owner; `also` runs in the same transaction.

    Raises Invalid, Conflict or TooMany.
    """
    _check_all(
        lambda: organizations.clean_name(organization_name),
        lambda: users.clean_name(name),
        lambda: users.normalise_email(email),
        lambda: passwords.check_strength(password, about=(email, name, organization_name)),
    )
    _reserve(throttle.sign_up_limits(visitor.address))
    digest = passwords.hash_password(password)
    with transaction(EVERY) as session:
        made = organizations.sign_up(
            session,
            organization_name=organization_name,
            email=email,
            name=name,
            password_digest=digest,
            language=language,
            industry=industry,
            size=size,
        )
        audit.record(
            session,
            acting(made.user, made.member, visitor.address),
            "organization.created",
            made.organization.id,
        )
        extra = also(session, made) if also is not None else None
    return made, extra


def _check_all(*checks: Callable[[], object]) -> None:
    """Make every check and refuse once, so that a form tells all its mistakes at once."""
    wrong: list[Invalid] = []
    for check in checks:
        try:
            check()
        except Invalid as problem:
            wrong.append(problem)
    if wrong:
        errors = [error for problem in wrong for error in problem.errors]
        params = {name: value for problem in wrong for name, value in problem.params.items()}
        raise Invalid(detail=wrong[0].detail, errors=errors, **params)


def start_session(user: User, organization_id: str | None, visitor: Visitor) -> SignedIn:
    """Begin a session for a person who has just proved who they are in another way."""
    with transaction(EVERY) as session:
        login, secret = sessions.start(
            session,
            user.id,
            organization_id=organization_id,
            user_agent=visitor.user_agent,
            ip=visitor.address,
            replaces=visitor.secret,
        )
        _record(session, "session.started", user, login, visitor)
    return SignedIn(user, login, secret)


def confirm(user_id: str, password: str, session_id: str) -> None:
    """Check the password of somebody who is signed in; raises Forbidden or TooMany."""
    _prove(user_id, password)
    with transaction(EVERY) as session:
        sessions.confirm(session, session_id)


def change_password(user_id: str, old: str, new: str, visitor: Visitor) -> SignedIn:
    """Change a password: every session ends and the present browser gets a new one.

    Raises Forbidden when the old one is wrong, Invalid when the new one is weak, TooMany.
    """
    with reading(EVERY) as session:
        user = users.find(session, user_id)
        seats = organizations.list_of_user(session, user_id)
        current = sessions.find(session, visitor.secret) if visitor.secret else None
    names = [organization.name for organization, _ in seats]
    passwords.check_strength(new, about=(user.email, user.name, *names))
    _prove(user_id, old)
    digest = passwords.hash_password(new)
    with transaction(EVERY) as session:
        changed = users.set_password(session, user_id, digest)
        sessions.end_all(session, user_id)
        login, secret = sessions.start(
            session,
            user_id,
            organization_id=current.login.organization_id if current else None,
            user_agent=visitor.user_agent,
            ip=visitor.address,
        )
        for _, member in seats:
            by = acting(changed, member, visitor.address)
            audit.record(session, by, "password.changed", user_id)
    return SignedIn(changed, login, secret)


def accept_as_new(
    secret: str, visitor: Visitor, *, name: str, password: str, language: str = "zh"
) -> SignedIn:
    """Make the invited person's account, seat them and let them in.

    Raises NotFound for a link that no longer works, Invalid, Conflict or TooMany.
    """
    with reading(invitations.organization_of(secret)) as session:
        invitation, organization, _ = invitations.look_up(session, secret)
    passwords.check_strength(password, about=(invitation.email, name, organization.name))
    _reserve(throttle.sign_up_limits(visitor.address))
    digest = passwords.hash_password(password)
    with transaction(organization.id) as session:
        member, user = invitations.accept_as_new(
            session, secret, name=name, password_digest=digest, language=language
        )
        by = acting(user, member, visitor.address)
        audit.record(session, by, "member.joined", member.id, detail={"role": member.role})
    return start_session(user, organization.id, visitor)


def accept(secret: str, user_id: str, session_id: str, visitor: Visitor) -> Organization:
    """Seat a person who is signed in, and make the organization the one they act in."""
    organization_id = invitations.organization_of(secret)
    with transaction(organization_id) as session:
        user = users.find(session, user_id)
        member = invitations.accept(session, secret, user)
        by = acting(user, member, visitor.address)
        audit.record(session, by, "member.joined", member.id, detail={"role": member.role})
        sessions.switch(session, session_id, organization_id)
        return organizations.find(session, organization_id)


def found(user_id: str, session_id: str, name: str, visitor: Visitor) -> Organization:
    """Found another organization for a person who is signed in, and act in it."""
    _reserve(throttle.sign_up_limits(visitor.address))
    with transaction(EVERY) as session:
        user = users.find(session, user_id)
        organization, member = organizations.create(session, name=name, owner_id=user_id)
        by = acting(user, member, visitor.address)
        audit.record(session, by, "organization.created", organization.id)
        sessions.switch(session, session_id, organization.id)
        return organization


def acting(user: User, member: Member, address: str | None) -> Principal:
    """Describe a person as the actor of what they are doing at the door."""
    return Principal(
        organization_id=member.organization_id,
        user_id=user.id,
        member_id=member.id,
        role=member.role,
        kind="member",
        permissions=frozenset(),
        name=user.name,
        email=user.email,
        address=address,
    )


def _prove(user_id: str, password: str) -> None:
    limits = throttle.confirm_limits(user_id)
    _reserve(limits)
    with reading(EVERY) as session:
        stored = users.find(session, user_id).password_digest
    if not passwords.verify(stored, password):
        raise Forbidden(
            N_("That is not your present password"),
            N_("Nothing was changed. Check it and try again."),
            code="wrong_password",
        )
    with transaction(EVERY) as session:
        throttle.clear(session, limits)


def _reserve(limits: list[throttle.Limit]) -> None:
    with transaction(EVERY) as session:
        throttle.reserve(session, limits)


def _record(
    session: Session, action: str, user: User, login: LoginSession, visitor: Visitor
) -> None:
    """Write to the trail of the organization the session acts in; without one there is none."""
    for organization, member in organizations.list_of_user(session, user.id):
        if organization.id == login.organization_id:
            audit.record(session, acting(user, member, visitor.address), action, login.id)
