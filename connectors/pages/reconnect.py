"""The pages of a link to reconnect: for whoever holds it, with or without an account here.

They show whose connection it is and nothing of what is stored. No other site learns the address:
other sites are sent no referrer, no cache keeps it, and it works once.
"""

import functools
from collections.abc import Callable
from typing import Any

from flask import Response, g, request

from connectors import consents, tokens
from connectors.consents import Visitor
from connectors.errors import NotNow
from connectors.pages.drawing import blueprint, connector_or_none, draw, typed_under
from connectors.reconnecting import links, trying
from connectors.reconnecting.links import Guest
from identity import audit, proofs, throttle
from identity.guard import cookies, public
from kernel.database import EVERY, reading, transaction
from kernel.errors import N_, Problem

_COOKIE_SECONDS = int(consents.LASTS.total_seconds())
audit.name_actions(
    {
        "reconnect_link.used": N_("renewed a connection through a link"),
        "reconnect_link.held": N_("signed in through a link to another account than before"),
    }
)


def _quiet(view: Callable[..., Any]) -> Callable[..., Any]:
    """Draw what goes wrong as a page of its own, and let the address leak nowhere."""

    @functools.wraps(view)
    def run(**arguments: Any) -> Response:
        try:
            page: Response = view(**arguments)
        except Problem as problem:
            page = draw("reconnect_gone.html", problem=problem)
            if problem.retry_after_seconds is not None:
                page.headers["Retry-After"] = str(problem.retry_after_seconds)
        # not no-referrer: with that, browsers hide from us that our own forms come from here
        page.headers["Referrer-Policy"] = "same-origin"
        page.headers["Cache-Control"] = "private, no-store"
        page.headers["X-Robots-Tag"] = "noindex"
        return page

    return run


@blueprint.get(f"{links.PATH}/<secret>")
@public
@_quiet
def show_reconnect(secret: str) -> Any:
    """Show whose connection a link renews, and how; looking does not use it up."""
    guest = _guest(secret)
    with transaction(guest.organization_id) as session:
        links.note_opening(session, guest)
    return _draw(guest)


@blueprint.post(f"{links.PATH}/<secret>")
@public
@_quiet
def enter_credentials(secret: str) -> Any:
    """Try what was entered, and store it when the app takes it."""
    guest = _guest(secret)
    try:
        entered = trying.read(guest, typed_under("fields"))
        _reserve(guest)
        tried = trying.attempt(guest, entered)
    except Problem as problem:
        return _draw(guest, problem)
    if tried.problem:
        return _draw(guest, said=tried.problem)
    with transaction(guest.organization_id) as session:
        counts = links.apply_fields(session, guest, entered.fields, tried.account)
        _note(session, guest, counts=counts)
    return _done(guest, tried.account, counts=counts)


@blueprint.post(f"{links.PATH}/<secret>/authorize")
@public
@_quiet
def authorize_by_link(secret: str) -> Any:
    """Send the browser to the app; it comes back with the mark of this one link."""
    guest = _guest(secret)
    mark = f"{secret}.{proofs.new_secret()}"
    try:
        _reserve(guest)
        with transaction(guest.organization_id) as session:
            address = consents.begin(session, _visitor(guest, mark), guest.connection.id)
    except Problem as problem:
        return _draw(guest, problem)
    page = draw("reconnect_away.html", address=address, back=f"{links.PATH}/{secret}")
    _set_mark(page, mark, _COOKIE_SECONDS)
    return page


def is_on_the_way() -> bool:
    """Tell whether this browser went to an app through a link, and what came back is for it."""
    secret, _, mark = _mark().partition(".")
    state = request.args.get("state", "")
    if not mark or proofs.owner_of(links.PREFIX, secret) is None:
        return False
    try:
        return state.startswith(f"{_guest(secret).connection.id}.")
    except Problem:
        return False


@_quiet
def finish_consent() -> Any:
    """Take the browser of a link's holder back from the app."""
    mark = _mark()
    guest = _guest(mark.partition(".")[0])
    code, who = request.args.get("code", "")[:4_000], _visitor(guest, mark)
    with transaction(guest.organization_id) as session:
        begun = consents.take(session, who, request.args.get("state", "")[:300])
    consents.check_issuer(begun, request.args.get("iss"))
    if not code:
        problem = NotNow(N_("Nobody agreed in the app, so nothing changed"))
        return _draw(guest, problem)
    brought = consents.redeem(begun, code)
    if isinstance(brought, tokens.NoToken):
        return _draw(guest, said={"cause": brought.answer.cause, "say": brought.answer.say or {}})
    with transaction(guest.organization_id) as session:
        counts = links.apply_grant(session, guest, begun, brought)
        _note(session, guest, counts=counts)
    page = _done(guest, brought.account, counts=counts)
    _set_mark(page, "", 0)
    return page


def _guest(secret: str) -> Guest:
    if "reconnect_guest" not in g:
        with reading(links.organization_of(secret)) as session:
            g.reconnect_guest = links.look_up(session, secret)
    found: Guest = g.reconnect_guest
    return found


def _reserve(guest: Guest) -> None:
    """Count a try; raises TooMany."""
    limits = [*throttle.link_limits(request.remote_addr or ""), *links.limits(guest)]
    with transaction(EVERY) as session:
        throttle.reserve(session, limits)


def _note(session: Any, guest: Guest, *, counts: bool) -> None:
    action = "reconnect_link.used" if counts else "reconnect_link.held"
    who = links.actor(guest, request.remote_addr)
    audit.record(session, who, action, guest.connection.id, detail={"link": guest.link.id})


def _visitor(guest: Guest, mark: str) -> Visitor:
    return Visitor(guest.organization_id, f"link:{guest.link.id}", proofs.digest(mark))


def _draw(guest: Guest, problem: Problem | None = None, said: Any = None) -> Response:
    connector = connector_or_none(guest.connection.connector_key)
    way = connector.auth_by_id(guest.connection.auth) if connector else None
    page = draw(
        "reconnect.html",
        problem=problem,
        guest=guest,
        connector=connector,
        way=way,
        said=said,
        secret_path=_path(),
    )
    if problem is not None and problem.retry_after_seconds is not None:
        page.headers["Retry-After"] = str(problem.retry_after_seconds)
    return page


def _path() -> str:
    """Return the link's own address, for the forms of its page."""
    if request.path == consents.PATH:
        return f"{links.PATH}/{_mark().partition('.')[0]}"
    return request.path.removesuffix("/authorize")


def _done(guest: Guest, account: Any, *, counts: bool) -> Response:
    return draw("reconnect_done.html", guest=guest, counts=counts, account=account)


def _cookie() -> str:
    return "__Host-yf_reconnect" if cookies.is_secure() else "yf_reconnect"


def _mark() -> str:
    return request.cookies.get(_cookie(), "")


def _set_mark(page: Response, mark: str, seconds: int) -> None:
    page.set_cookie(
        _cookie(),
        mark,
        max_age=seconds,
        path="/",
        secure=cookies.is_secure(),
        httponly=True,
        samesite="Lax",
    )
