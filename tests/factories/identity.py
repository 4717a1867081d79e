"""The smallest valid rows of identity, and a browser that is signed in."""

from functools import cache

from argon2 import PasswordHasher

from identity import api_keys, sessions
from identity.guard import cookies
from identity.tables import Member, Organization, User
from kernel.database import EVERY, transaction
from kernel.ids import new_id

PASSWORD = "violet ladder 42"


@cache
def cheap_digest(password: str = PASSWORD) -> str:
    """A real argon2id digest with the smallest cost, so that tests stay fast."""
    return PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(password)


def make_organization(session, **over) -> Organization:
    """An organization; `over` replaces columns."""
    row = Organization(**{"name": "明华五金", **over})
    session.add(row)
    session.flush()
    return row


def make_user(session, *, password: str = PASSWORD, **over) -> User:
    """A person whose password is PASSWORD."""
    values = {
        "email": f"{new_id('mail').lower()}@example.com",
        "name": "李明",
        "password_digest": cheap_digest(password),
        **over,
    }
    row = User(**values)
    session.add(row)
    session.flush()
    return row


def make_member(session, organization=None, user=None, role: str = "owner", **over) -> Member:
    """A seat; makes the organization and the person when they are not given."""
    organization = organization or make_organization(session)
    user = user or make_user(session)
    row = Member(**{"organization_id": organization.id, "user_id": user.id, "role": role, **over})
    session.add(row)
    session.flush()
    return row


def make_api_key(session, organization, role: str = "owner", permissions=None, **over) -> str:
    """A working API key of the organization; returns its secret."""
    key, secret = api_keys.mint(
        session, organization, name=over.pop("name", "test"), role=role, permissions=permissions
    )
    for name, value in over.items():
        setattr(key, name, value)
    session.add(key)
    session.flush()
    return secret


def bearer(secret: str) -> dict[str, str]:
    """The headers of a program that holds this key."""
    return {"Authorization": f"Bearer {secret}"}


def start_session(session, member) -> str:
    """A session of the member; returns its secret."""
    _login, secret = sessions.start(session, member.user_id, organization_id=member.organization_id)
    session.flush()
    return secret


def sign_in(client, session_or_none, member) -> str:
    """Put a session of the member into the test client's cookies; returns the session's secret.

    Pass the open session, or None to use a transaction of its own.
    """
    if session_or_none is None:
        with transaction(EVERY) as session:
            secret = start_session(session, member)
    else:
        secret = start_session(session_or_none, member)
    client.set_cookie(cookies.session_name(), secret)
    return secret


def csrf_of(client, path: str = "/sign-in") -> str:
    """The CSRF token that a page gave this browser."""
    page = client.get(path, headers={"Accept": "text/html"}).get_data(as_text=True)
    marker = 'name="csrf-token" content="'
    start = page.index(marker) + len(marker)
    return page[start : page.index('"', start)]
