"""Who a request comes from: an API key, a session, or nobody."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from flask import current_app, g, request

from identity import keyholders, roles, sessions
from identity.guard import cookies, csrf
from identity.guard.access import access_of
from identity.principals import Person, Principal
from identity.tables import LoginSession, Organization
from kernel import clock, web
from kernel.database import EVERY, StoreUnavailable, reading, write
from kernel.errors import Unauthenticated

FRESH_FOR: Final = timedelta(minutes=30)


@dataclass(frozen=True)
class Identity:
    """Who a request turned out to be."""

    principal: Principal | None = None
    person: Person | None = None
    login: LoginSession | None = None
    suspended: Organization | None = None  # whose member or key this would be, were it not so


def principal() -> Principal:
    """Name who acts in this request; raises Unauthenticated when nobody does."""
    found = who_is_it().principal
    if found is None:
        raise Unauthenticated
    return found


def principal_or_none() -> Principal | None:
    """Name who acts in this request, or None, for public pages that greet whoever is signed in."""
    return who_is_it().principal


def person() -> Person:
    """Name the signed-in user behind this request; raises Unauthenticated when there is none."""
    found = who_is_it().person
    if found is None:
        raise Unauthenticated
    return found


def person_or_none() -> Person | None:
    """Name the signed-in user behind this request, or None."""
    return who_is_it().person


def suspended_or_none() -> Organization | None:
    """Return the suspended organization this session acts in, or None."""
    return who_is_it().suspended


def is_fresh() -> bool:
    """Say whether this person typed their password within the last half hour."""
    login = who_is_it().login
    return login is not None and clock.now() - login.authenticated_at < FRESH_FOR


def present_secret() -> str | None:
    """Return the session's secret as it is by now: this very request may have changed it."""
    return g.get("new_secret") or cookies.session_secret()


def csrf_token() -> str:
    """Give the token that this browser's forms must carry; also a template global."""
    login = identity_for_words().login
    return csrf.token(login.id if login else None)


def identity_for_words() -> Identity:
    """Name nobody while the store is away: the page that says so must still be drawn."""
    try:
        return who_is_it()
    except StoreUnavailable:
        g.identity = Identity()
        return Identity()


def who_is_it() -> Identity:
    """Resolve the request once and keep the answer for its length."""
    if "identity" not in g:
        g.identity = _identify()
    found: Identity = g.identity
    return found


def _identify() -> Identity:
    secret = keyholders.of_header(request.headers.get("Authorization", ""))
    if secret is not None:
        return _by_key(secret)
    cookie = cookies.session_secret()
    if cookie is None or not _heeds_cookies():
        return Identity()
    return _by_session(cookie)


def _heeds_cookies() -> bool:
    """Say whether a cookie counts here: not at machines' doors. An address we do not have is
    answered by a page, which greets whoever is signed in.
    """
    if request.endpoint is None:
        return True
    access = access_of(current_app.view_functions[request.endpoint])
    return access is not None and access.csrf


def _by_key(secret: str) -> Identity:
    held = keyholders.of_secret(
        secret, language=web.current_language(), address=request.remote_addr
    )
    return Identity(principal=held.principal, suspended=held.suspended)


def _by_session(secret: str) -> Identity:
    with reading(EVERY) as session:
        found = sessions.find(session, secret)
    if found is None:
        return Identity()
    login, user = found.login, found.user
    if login.must_rotate and not found.is_previous_secret:
        g.new_secret = _note(lambda s: sessions.rotate(s, login.id, secret), EVERY)
    if sessions.is_touch_due(login):
        address = request.remote_addr or ""
        _note(lambda s: sessions.touch(s, login.id, address), EVERY)
    who = Person(user.id, login.id, user.name, user.email, user.language)
    if found.member and found.organization and found.organization.state == "suspended":
        return Identity(None, who, login, found.organization)
    return Identity(_seated(found), who, login)


def _seated(found: sessions.Found) -> Principal | None:
    member, organization = found.member, found.organization
    if member is None or organization is None:
        return None
    return Principal(
        organization_id=organization.id,
        user_id=found.user.id,
        member_id=member.id,
        role=member.role,
        kind="member",
        permissions=roles.permissions_of(
            member.role, is_vendor=organization.is_vendor, is_operator=organization.is_operator
        ),
        name=found.user.name,
        email=found.user.email,
        organization_name=organization.name,
        language=found.user.language,
        is_vendor=organization.is_vendor,
        is_operator=organization.is_operator,
        session_id=found.login.id,
        address=request.remote_addr,
    )


def _note(work: Callable[[Any], Any], tenant: Any) -> Any:
    """Write something that is nice to know; a store that takes no writes does not stop readers.

    `work` may run in the store's writer thread, where there is no request to look at.
    """
    try:
        return write(work, tenant)
    except StoreUnavailable:
        return None
