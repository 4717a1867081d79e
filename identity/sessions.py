"""Login sessions: one row for each signed-in browser, found by the digest of its secret."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import and_, or_, update
from sqlmodel import Session, col, select

from identity import proofs
from identity.tables import LoginSession, Member, Organization, User
from kernel import clock
from kernel.errors import NotFound

IDLE: Final = timedelta(days=14)
ABSOLUTE: Final = timedelta(days=90)
TOUCH_EVERY: Final = timedelta(minutes=1)
GRACE: Final = timedelta(seconds=30)


@dataclass(frozen=True)
class Found:
    """A live session, its person and, when they still sit there, their seat."""

    login: LoginSession
    user: User
    member: Member | None
    organization: Organization | None
    is_previous_secret: bool


def start(
    session: Session,
    user_id: str,
    *,
    organization_id: str | None,
    user_agent: str = "",
    ip: str = "",
    replaces: str | None = None,
) -> tuple[LoginSession, str]:
    """Begin a session and return it with its secret; the browser's earlier session ends."""
    if replaces is not None:
        end_by_secret(session, replaces)
    now = clock.now()
    secret = proofs.new_secret()
    login = LoginSession(
        digest=proofs.digest(secret),
        user_id=user_id,
        organization_id=organization_id,
        authenticated_at=now,
        last_seen_at=now,
        expires_at=now + ABSOLUTE,
        user_agent=user_agent[:300],
        ip=ip[:64],
    )
    session.add(login)
    return login, secret


def find(session: Session, secret: str) -> Found | None:
    """Return the live session this secret opens, or None: unknown, ended, idle or too old."""
    now = clock.now()
    digest = proofs.digest(secret)
    row = session.execute(
        select(LoginSession, User, Member, Organization)
        .join(User, col(User.id) == col(LoginSession.user_id))
        .outerjoin(
            Member,
            and_(
                col(Member.organization_id) == col(LoginSession.organization_id),
                col(Member.user_id) == col(LoginSession.user_id),
                col(Member.status) == "active",
            ),
        )
        .outerjoin(Organization, col(Organization.id) == col(Member.organization_id))
        .where(
            or_(
                col(LoginSession.digest) == digest,
                and_(
                    col(LoginSession.previous_digest) == digest,
                    col(LoginSession.rotated_at) > now - GRACE,
                ),
            ),
            *_live(now),
            col(User.disabled_at).is_(None),
        )
    ).first()
    if row is None:
        return None
    login, user, member, organization = row
    return Found(login, user, member, organization, login.digest != digest)


def is_touch_due(login: LoginSession) -> bool:
    """Say whether the last sight of this session is more than a minute old."""
    return clock.now() - login.last_seen_at > TOUCH_EVERY


def touch(session: Session, session_id: str, ip: str) -> None:
    """Note that the session was seen just now, and from where."""
    session.execute(
        update(LoginSession)
        .where(col(LoginSession.id) == session_id)
        .values(last_seen_at=clock.now(), ip=ip[:64])
    )


def rotate(session: Session, session_id: str, secret: str) -> str | None:
    """Change a session's secret; None when another request has just done so.

    The old secret answers for half a minute more, for requests already under way.
    """
    old, new = proofs.digest(secret), proofs.new_secret()
    changed = session.execute(
        update(LoginSession)
        .where(col(LoginSession.id) == session_id, col(LoginSession.digest) == old)
        .values(
            digest=proofs.digest(new),
            previous_digest=old,
            rotated_at=clock.now(),
            must_rotate=False,
        )
        .returning(col(LoginSession.id))
    ).scalar_one_or_none()
    return new if changed else None


def confirm(session: Session, session_id: str) -> None:
    """Note that the person has just proved again who they are."""
    session.execute(
        update(LoginSession)
        .where(col(LoginSession.id) == session_id)
        .values(authenticated_at=clock.now())
    )


def switch(session: Session, session_id: str, organization_id: str | None) -> None:
    """Make another organization the one this session acts in; the caller checks the seat."""
    session.execute(
        update(LoginSession)
        .where(col(LoginSession.id) == session_id)
        .values(organization_id=organization_id)
    )


def list_live(session: Session, user_id: str) -> list[LoginSession]:
    """Return where a person is signed in, the most recently seen first."""
    statement = select(LoginSession).where(
        col(LoginSession.user_id) == user_id, *_live(clock.now())
    )
    return list(
        session.execute(statement.order_by(col(LoginSession.last_seen_at).desc())).scalars()
    )


def preferred_organization(session: Session, user_id: str) -> str | None:
    """Name the organization a person acted in last, else their first one, or None."""
    seats = select(Member.organization_id).where(
        col(Member.user_id) == user_id, col(Member.status) == "active"
    )
    last: str | None = session.execute(
        select(LoginSession.organization_id)
        .where(col(LoginSession.user_id) == user_id, col(LoginSession.organization_id).in_(seats))
        .order_by(col(LoginSession.id).desc())
        .limit(1)
    ).scalar_one_or_none()
    if last is not None:
        return last
    first: str | None = session.execute(
        seats.order_by(col(Member.id)).limit(1)
    ).scalar_one_or_none()
    return first


def end(session: Session, user_id: str, session_id: str) -> None:
    """End one of a person's own sessions; a stranger's is NotFound."""
    login = session.get(LoginSession, session_id)
    if login is None or login.user_id != user_id:
        raise NotFound
    login.ended_at = login.ended_at or clock.now()
    session.add(login)


def end_by_secret(session: Session, secret: str) -> None:
    """End the session a browser holds, whatever state it is in."""
    session.execute(
        update(LoginSession)
        .where(
            col(LoginSession.digest) == proofs.digest(secret), col(LoginSession.ended_at).is_(None)
        )
        .values(ended_at=clock.now())
    )


def end_all(session: Session, user_id: str, *, except_id: str | None = None) -> int:
    """End all of a person's sessions, or all but one; returns how many."""
    statement = update(LoginSession).where(
        col(LoginSession.user_id) == user_id, col(LoginSession.ended_at).is_(None)
    )
    if except_id is not None:
        statement = statement.where(col(LoginSession.id) != except_id)
    ended = session.execute(
        statement.values(ended_at=clock.now()).returning(col(LoginSession.id))
    ).scalars()
    return len(list(ended))


def _live(now: datetime) -> list[Any]:
    return [
        col(LoginSession.ended_at).is_(None),
        col(LoginSession.expires_at) > now,
        col(LoginSession.last_seen_at) > now - IDLE,
    ]
