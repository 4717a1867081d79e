"""The portal's door: how a subscriber gets in, and what every page of a portal is held to.

A portal may stand in a frame of a partner's website. Then its cookie is a third party's, kept apart
for each website; only the origins that its link names may frame it. The sessions of people with an
account count for nothing here, and a portal's session counts for nothing elsewhere.
"""

import functools
from collections.abc import Callable
from datetime import datetime
from typing import Any

from flask import Blueprint, Flask, Response, g, request

from identity import audit, proofs, throttle
from identity.guard import cookies, csrf, public
from kernel import clock, web
from kernel.database import EVERY, reading, transaction
from kernel.errors import N_, NotFound, Problem
from webhooks import logos, portals, subscribers
from webhooks.pages.drawing import draw, go
from webhooks.portals import PortalClosed, Visit

blueprint = Blueprint("portal", "webhooks", url_prefix="/portal", template_folder="templates")
audit.name_actions({"portal.entered": N_("came in through a portal link")})
_POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors "
)
_PURPOSE = "portal_csrf"


def in_portal(view: Callable[..., Any]) -> Callable[..., Any]:
    """Let a visiting subscriber in, and only forms that its own pages have sent."""

    @functools.wraps(view)
    def run(**arguments: Any) -> Any:
        found = visit()
        if request.method not in csrf.SAFE_METHODS:
            csrf.check_place()
            if not proofs.is_signed(_PURPOSE, found.id, csrf.sent_token()):
                raise csrf.stale()
        return view(**arguments)

    return public(csrf=False)(run)


def visit() -> Visit:
    """Name the visiting subscriber; raises PortalClosed when there is none."""
    if "portal_visit" not in g:
        secret = request.cookies.get(_cookie(), "")
        owner = proofs.owner_of(portals.SESSION, secret)
        if owner is None:
            raise PortalClosed(detail=N_("Open the link that you were given."))
        with reading(owner) as session:
            g.portal_visit = portals.visit_of(session, owner, secret)
    found: Visit = g.portal_visit
    return found


def logo_of(found: Visit) -> str | None:
    """Return the firm's own picture, None when it has none."""
    with reading(found.organization_id) as session:
        return logos.address_of(logos.find(session, found.organization_id))


def draw_portal(template: str, *, problem: Problem | None = None, **values: Any) -> Response:
    """Draw a page of the portal for the visiting subscriber."""
    found = visit()
    return draw(
        template,
        problem=problem,
        visit=found,
        link=found.link,
        logo=logo_of(found),
        is_inside=True,
        csrf_token=lambda: proofs.sign(_PURPOSE, found.id),
        **values,
    )


@blueprint.get("/enter/<secret>")
@public(csrf=False)
def ask_to_enter(secret: str) -> Any:
    """Show whose portal this is; looking at a link, as mail programs do, does not use it up."""
    try:
        with reading(portals.organization_of(secret)) as session:
            found = portals.look_up(session, secret)
    except NotFound:
        return _back_in()
    g.portal_visit = found
    return draw(
        "portal_enter.html",
        visit=found,
        link=found.link,
        logo=logo_of(found),
        here=request.path,
        csrf_token=str,
    )


def _back_in() -> Any:
    """Send a browser on that has used its address up and is still in; else say that it is gone."""
    try:
        visit()
    except PortalClosed:
        raise NotFound(
            N_("This link has been used or has run out"),
            N_("Your endpoints go on getting events. Ask whoever gave you the link for a new one."),
        ) from None
    return go("/portal", "")


@blueprint.post("/enter/<secret>")
@public(csrf=False)
def enter(secret: str) -> Any:
    """Use a link up and begin a session of twelve hours."""
    csrf.check_place()
    owner, address = portals.organization_of(secret), request.remote_addr or ""
    with transaction(EVERY) as session:
        throttle.reserve(session, throttle.link_limits(address))
    try:
        with transaction(owner) as session:
            found, own, until = portals.enter(session, secret)
            audit.record(
                session, subscribers.actor(found.link, address), "portal.entered", found.link.id
            )
    except NotFound:
        return _back_in()
    response = go("/portal", "")
    _set_cookie(response, own, until)
    return response


@blueprint.route("/enter", methods=["OPTIONS"], provide_automatic_options=False)
@public(csrf=False)
def announce_token() -> Response:
    """Tell a browser that a page of another website may hand a token over here.

    Which one may is judged when the token is there: it names its link, and that its websites.
    """
    g.portal_origin = request.headers.get("Origin", "")[:300]
    response = Response(status=204)
    response.headers["Access-Control-Allow-Methods"] = "POST"
    response.headers["Access-Control-Allow-Headers"] = "authorization"
    response.headers["Access-Control-Max-Age"] = "600"
    return response


@blueprint.post("/enter")
@public(csrf=False)
def hand_over_token() -> Response:
    """Use up a token that a partner's page sends in a header, and begin a session for its frame.

    So the secret stands in no address, history or log. Whoever sends it holds it, which no form of
    a strange website does; the answer is for the link's own websites alone.
    """
    g.portal_origin = request.headers.get("Origin", "")[:300]
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise PortalClosed(detail=N_("Send the token in the header Authorization: Bearer …"))
    owner, address = portals.organization_of(secret.strip()), request.remote_addr or ""
    with transaction(EVERY) as session:
        throttle.reserve(session, throttle.link_limits(address))
    with transaction(owner) as session:
        portals.check_origin(portals.look_up(session, secret.strip()).link, g.portal_origin)
        found, own, until = portals.enter(session, secret.strip())
        audit.record(
            session, subscribers.actor(found.link, address), "portal.entered", found.link.id
        )
    g.portal_visit = found
    response = Response(status=204)
    _set_cookie(response, own, until)
    return response


@blueprint.post("/leave")
@in_portal
def leave() -> Any:
    """End the session."""
    with transaction(visit().organization_id) as session:
        portals.leave(session, visit())
    g.portal_visit = None
    response = draw("portal_problem.html", left=True, csrf_token=str)
    _set_cookie(response, "", clock.now())
    return response


@blueprint.get("/colours.css")
@in_portal
def colours() -> Response:
    """Give the link's own colour to buttons and links, on light paper."""
    colour = visit().link.colour
    rule = f'html:not([data-bs-theme="dark"]){{--yf-sea:{colour};--yf-sea-deep:{colour}}}'
    return Response(rule if colour else "", content_type="text/css; charset=utf-8")


def _cookie() -> str:
    return "__Host-yf_portal" if cookies.is_secure() else "yf_portal"


def _set_cookie(response: Response, secret: str, until: datetime) -> None:
    is_secure = cookies.is_secure()
    response.set_cookie(
        _cookie(),
        secret,
        max_age=max(0, int((until - clock.now()).total_seconds())),
        path="/",
        secure=is_secure,
        httponly=True,
        samesite="None" if is_secure else "Lax",
        partitioned=is_secure,
    )


@blueprint.errorhandler(Problem)
def _say(problem: Problem) -> Response:
    """Say what is wrong on a page without the hub's own doors, which lead nowhere from here."""
    visitor = g.get("portal_visit")
    logo = logo_of(visitor) if visitor else None
    response = draw(
        "portal_problem.html", problem=problem, visit=visitor, logo=logo, csrf_token=str
    )
    if problem.retry_after_seconds is not None:
        response.headers["Retry-After"] = str(problem.retry_after_seconds)
    return response


@blueprint.after_request
def _frame(response: Response) -> Response:
    """Say who may frame the page: the link's origins; whoever likes, where nobody is in."""
    found = g.get("portal_visit")
    if g.get("portal_origin"):
        # a page learns nothing from it but whether its own token was taken
        response.headers["Access-Control-Allow-Origin"] = g.portal_origin
        response.headers["Access-Control-Allow-Credentials"] = "true"
        response.headers["Vary"] = "Origin"
    origins = "*" if found is None else " ".join(found.link.origins) or "'none'"
    response.headers["Content-Security-Policy"] = _POLICY + origins
    response.headers["Cache-Control"] = "private, no-store"
    wish = request.args.get("lang")
    if wish in web.LANGUAGES and cookies.is_secure():
        response.set_cookie(
            "yf_lang", wish, secure=True, httponly=True, samesite="None", partitioned=True
        )
    return response


def install(app: Flask) -> None:
    """Add the portal, which has a frame and a guard of its own."""
    app.register_blueprint(blueprint)
