"""Portal links as pages: which subscribers are let in, and to what."""

from datetime import timedelta
from typing import Any

from flask import request

from catalog import event_types
from identity import audit
from identity.guard import principal, require
from kernel import clock
from kernel.database import reading, transaction
from kernel.errors import N_, Problem
from kernel.web import page_of
from webhooks import logos, portals, subscribers
from webhooks.pages.drawing import blueprint, draw, go, typed
from webhooks.tables import PORTAL_LINK

DAYS = {"30": N_("30 days"), "90": N_("90 days"), "365": N_("One year")}
WEEK_MINUTES = 7 * 24 * 60


@blueprint.get("/portal-links")
@require("endpoints:read")
def list_portal_links() -> Any:
    """Show which subscribers are let in."""
    return _draw_links()


def _draw_links(problem: Problem | None = None) -> Any:
    organization_id = principal().organization_id
    wanted, cursor = portals.listing(organization_id), request.args.get("cursor")
    with reading(organization_id) as session:
        page = page_of(session, wanted, PORTAL_LINK.c.id, cursor=cursor, limit=30)
        counts = portals.endpoint_counts(session, organization_id)
        logo = logos.address_of(logos.find(session, organization_id))
    return draw(
        "portal_links.html",
        problem=problem,
        page=page,
        counts=counts,
        logo=logo,
        state_of=portals.state_of,
        readable_at="/portal-links",
    )


@blueprint.post("/portal-links/logo")
@require("endpoints:write")
def choose_portal_logo() -> Any:
    """Show a picture at the head of the portals."""
    who, upload = principal(), request.files.get("logo")
    content = upload.read(logos.MAX_BYTES + 1) if upload else b""
    try:
        with transaction(who.organization_id) as session:
            logos.choose(session, who.organization_id, content)
            audit.record(session, who, "portal_logo.changed", who.organization_id)
    except Problem as problem:
        return _draw_links(problem)
    return go("/portal-links", "logo_saved")


@blueprint.post("/portal-links/logo/remove")
@require("endpoints:write")
def remove_portal_logo() -> Any:
    """Show no picture any more."""
    who = principal()
    with transaction(who.organization_id) as session:
        logos.remove(session, who.organization_id)
        audit.record(session, who, "portal_logo.changed", who.organization_id)
    return go("/portal-links", "logo_removed")


@blueprint.get("/portal-links/new")
@require("endpoints:write")
def new_portal_link() -> Any:
    """Ask who is let in to what."""
    return _draw_form()


def _draw_form(problem: Problem | None = None) -> Any:
    organization_id = principal().organization_id
    with reading(organization_id) as session:
        known = event_types.all_types(session, organization_id)
        names = portals.names(session, organization_id)
    return draw("portal_link_new.html", problem=problem, known=known, names=names, days=DAYS)


@blueprint.post("/portal-links")
@require("endpoints:write")
def create_portal_link() -> Any:
    """Make the link and show an address that opens the portal once."""
    who = principal()
    try:
        with transaction(who.organization_id) as session:
            link = portals.create(
                session,
                who.organization_id,
                subscriber_name=typed("subscriber_name", 120),
                subscriber_id=typed("subscriber_id", 40) or None,
                event_types=_lines("event_types"),
                origins=_lines("origins"),
                max_endpoints=_number("max_endpoints"),
                colour=typed("colour", 7).lower() or None,
                expires_at=clock.now() + timedelta(days=int(_choice("days", DAYS, "365"))),
            )
            url, _ = portals.offer(session, who.organization_id, link.id, WEEK_MINUTES)
            detail = {"subscriber": link.subscriber_name}
            audit.record(session, who, "portal_link.created", link.id, detail=detail)
    except Problem as problem:
        return _draw_form(problem)
    return _draw_link(link.id, url=url)


def _lines(name: str) -> list[str]:
    return [text for text in typed(name, 5000).replace(",", "\n").split() if text]


def _number(name: str) -> int:
    text = typed(name, 4)
    return int(text) if text.isascii() and text.isdigit() else 0


def _choice(name: str, offered: dict[str, str], usual: str) -> str:
    return typed(name) if typed(name) in offered else usual


@blueprint.get("/portal-links/<link_id>")
@require("endpoints:read")
def show_portal_link(link_id: str) -> Any:
    """Show what a link allows and the subscriber's endpoints."""
    return _draw_link(link_id)


def _draw_link(link_id: str, problem: Problem | None = None, *, url: str = "") -> Any:
    organization_id = principal().organization_id
    with reading(organization_id) as session:
        link = portals.get(session, organization_id, link_id)
        found = list(session.execute(subscribers.listing(link)).scalars())
    return draw(
        "portal_link.html",
        problem=problem,
        link=link,
        state=portals.state_of(link),
        endpoints=found,
        url=url,
        readable_at=f"/portal-links/{link_id}",
    )


@blueprint.post("/portal-links/<link_id>/addresses")
@require("endpoints:write")
def make_portal_address(link_id: str) -> Any:
    """Show one more address that opens the portal once."""
    who = principal()
    try:
        with transaction(who.organization_id) as session:
            url, _ = portals.offer(session, who.organization_id, link_id, WEEK_MINUTES)
            audit.record(session, who, "portal_link.address_made", link_id)
    except Problem as problem:
        return _draw_link(link_id, problem)
    return _draw_link(link_id, url=url)


@blueprint.post("/portal-links/<link_id>/revoke")
@require("endpoints:write")
def revoke_portal_link(link_id: str) -> Any:
    """End the link, its addresses and sessions."""
    who = principal()
    with transaction(who.organization_id) as session:
        portals.revoke(session, who.organization_id, link_id)
        audit.record(session, who, "portal_link.revoked", link_id)
    return go(f"/portal-links/{link_id}", "link_revoked")
