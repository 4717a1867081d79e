"""The guard at the door of every route: who is it, may they, and did they mean it."""

from collections.abc import Iterator
from typing import Any

from flask import Flask, Response, g

from identity import organizations
from identity.guard import cookies
from identity.guard.access import Access, access_of, public, require, signed_in
from identity.guard.checks import (
    CHOOSE_ORGANIZATION,
    CONFIRM,
    SIGN_IN,
    SUSPENDED,
    check,
    let_in,
    safe_path,
)
from identity.guard.who import (
    csrf_token,
    identity_for_words,
    is_fresh,
    person,
    person_or_none,
    present_secret,
    principal,
    principal_or_none,
    suspended_or_none,
)
from identity.principals import Person, Principal
from kernel.database import EVERY, reading

__all__ = [
    "CHOOSE_ORGANIZATION",
    "CONFIRM",
    "SIGN_IN",
    "SUSPENDED",
    "Access",
    "Person",
    "Principal",
    "access_of",
    "csrf_token",
    "install",
    "is_fresh",
    "let_in",
    "person",
    "person_or_none",
    "present_secret",
    "principal",
    "principal_or_none",
    "public",
    "require",
    "safe_path",
    "signed_in",
    "suspended_or_none",
]


class _Seats:
    """The organizations of whoever is signed in, asked for only when a page shows them."""

    def __iter__(self) -> Iterator[Any]:
        who = person_or_none()
        if who is None:
            return
        if "seats" not in g:
            with reading(EVERY) as session:
                g.seats = organizations.list_of_user(session, who.user_id)
        yield from (organization for organization, _ in g.seats)


def _words() -> dict[str, Any]:
    found = identity_for_words()
    who = found.principal
    return {
        "principal": who,
        "person": found.person,
        "organizations": _Seats(),
        "may": who.may if who else (lambda _permission: False),
    }


def _finish(response: Response) -> Response:
    """Send the cookies this request earned; what a person sees is kept by no cache."""
    if g.get("new_secret") and "session_is_set" not in g:
        cookies.set_session(response, g.new_secret)
    if "new_visit" in g:
        cookies.set_visit(response, g.new_visit)
    identity = g.get("identity")
    if "new_visit" in g or (identity is not None and (identity.principal or identity.person)):
        response.headers.setdefault("Cache-Control", "private, no-store")
    return response


def install(app: Flask) -> None:
    """Put the guard before every request of the app; routes without a mark are refused."""
    app.before_request(check)
    app.after_request(_finish)
    app.context_processor(_words)
    app.jinja_env.globals["csrf_token"] = csrf_token
