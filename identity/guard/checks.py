"""The checks before every request: may they, did they mean it, and where to send them if not."""

from typing import Any, Final
from urllib.parse import quote, urlsplit

from flask import Response, current_app, redirect, request
from flask_babel import gettext

from identity import roles
from identity.guard import csrf
from identity.guard.access import Access, access_of
from identity.guard.who import identity_for_words, is_fresh, who_is_it
from identity.principals import Principal
from identity.suspensions import Suspended
from kernel import log, web
from kernel.errors import N_, Forbidden, Malformed, NotFound, Unauthenticated

SIGN_IN: Final = "/sign-in"
CONFIRM: Final = "/confirm"
CHOOSE_ORGANIZATION: Final = "/organizations"
SUSPENDED: Final = "/suspended"
_logger = log.get_logger(__name__)


def check() -> Any:
    if "\0" in request.path:
        raise NotFound
    if b"%00" in request.query_string:
        raise Malformed(detail=N_("The address holds a character that no text has."))
    if request.endpoint is None:
        return None
    access = access_of(current_app.view_functions[request.endpoint])
    if access is None:
        _logger.error("route_without_guard", endpoint=request.endpoint)
        raise Forbidden(detail=N_("This door has no guard yet, so it stays shut."))
    if access.kind == "public":
        if request.path == "/" and identity_for_words().suspended is not None:
            return _to(SUSPENDED, Suspended())
        if access.csrf and request.method not in csrf.SAFE_METHODS:
            _check_intent()
        return None
    return let_in(access)


def let_in(access: Access) -> Any:
    """Check a person, or a member or API key; returns where to send them when they are not in.

    For a public view of which a part is for members alone.
    """
    found = who_is_it()
    who = found.principal if access.kind == "principal" else found.person
    if who is None:
        if found.suspended is not None:
            return _to(SUSPENDED, Suspended())
        if found.person is not None:
            return _without_seat()
        return _to(SIGN_IN, Unauthenticated())
    _check_intent()
    if isinstance(who, Principal):
        _check_permissions(who, access)
        if access.fresh and who.kind == "member" and not is_fresh():
            return _to(CONFIRM, Unauthenticated(N_("Type your password again"), code="confirm"))
    return None


def _check_intent() -> None:
    """Check CSRF; an API key is never sent by a browser on its own, so it needs none."""
    found = who_is_it()
    if found.principal is not None and found.principal.kind == "api_key":
        return
    csrf.check(found.login.id if found.login else None)


def _check_permissions(who: Principal, access: Access) -> None:
    for permission in access.permissions:
        if not who.may(permission):
            raise _missing(who, permission)


def _missing(who: Principal, permission: str) -> Forbidden:
    """Say what is missing: a role, or that the firm is no vendor or does not run the hub."""
    as_member = roles.permissions_of(who.role)
    if permission in roles.permissions_of(who.role, is_vendor=True) - as_member:
        return Forbidden(
            detail=N_("This page is for vendors. Your organization can apply to become one."),
            code="not_vendor",
        )
    if permission in roles.permissions_of(who.role, is_operator=True) - as_member:
        return Forbidden(
            detail=N_("This page is for the people who run this hub."), code="not_operator"
        )
    return Forbidden(
        detail=N_(
            "This needs the permission “%(permission)s”. An owner of your organization "
            "can give you a role that has it."
        ),
        code="missing_permission",
        permission=gettext(roles.PERMISSIONS[permission]),
    )


def _without_seat() -> Any:
    problem = Forbidden(detail=N_("You do not belong to an organization yet."), code="no_seat")
    return _to(CHOOSE_ORGANIZATION, problem)


def _to(path: str, problem: Exception) -> Response:
    """Send a person to a page of ours and back afterwards; a program gets the problem."""
    is_htmx = "HX-Request" in request.headers
    if not (is_htmx or web.wants_page()):
        raise problem
    if request.method in ("GET", "HEAD") and not is_htmx:
        wanted = request.full_path.removesuffix("?")
    else:
        shown = urlsplit(request.headers.get("HX-Current-URL") or request.referrer or "/")
        wanted = shown.path + (f"?{shown.query}" if shown.query else "")
    address = f"{path}?next={quote(safe_path(wanted), safe='/')}"
    if is_htmx:
        return Response(status=200, headers={"HX-Redirect": address})
    return redirect(address, 303)  # type: ignore[return-value]


def safe_path(wanted: str | None, default: str = "/") -> str:
    """Return the wanted path when it surely stays on this hub, else the default."""
    if not wanted or len(wanted) > 2000 or not wanted.startswith("/"):
        return default
    if wanted.startswith("//") or "\\" in wanted or not wanted.isprintable() or " " in wanted:
        return default
    parts = urlsplit(wanted)
    if parts.scheme or parts.netloc or parts.path.startswith("//"):
        return default
    if parts.path in (SIGN_IN, CONFIRM, "/sign-up", "/sign-out"):
        return default
    return wanted
