"""Portal links over JSON: letting subscribers in, and ending that."""

from datetime import datetime, timedelta

from flask import Blueprint, request

from identity import audit
from identity.guard import principal, require
from kernel import clock
from kernel.database import reading, transaction
from kernel.errors import N_
from kernel.web import Page, operation, page_of
from webhooks import portals
from webhooks.endpoint_schemas import PortalAddressIn, PortalAddressOut, PortalLinkIn, PortalLinkOut
from webhooks.tables import PORTAL_LINK, PortalLink

blueprint = Blueprint("portals", __name__)
A_YEAR = timedelta(days=365)

audit.name_actions(
    {
        "portal_link.created": N_("made a portal link for a subscriber"),
        "portal_link.address_made": N_("made an address that opens a portal once"),
        "portal_link.revoked": N_("ended a portal link"),
        "portal_logo.changed": N_("changed the logo of the subscriber portals"),
    }
)


def link_out(link: PortalLink) -> PortalLinkOut:
    """Shape a link together with its state."""
    return PortalLinkOut(**link.model_dump(), state=portals.state_of(link))


def _with_address(link: PortalLink, url: str, until: datetime) -> PortalAddressOut:
    token = url.rpartition("/")[2]
    shown = link_out(link).model_dump()
    return PortalAddressOut(**shown, url=url, token=token, url_expires_at=until)


@blueprint.get("/portal-links")
@require("endpoints:read")
@operation(summary="List portal links", returns=PortalLinkOut, many=True)
def list_portal_links() -> Page:
    organization_id = principal().organization_id
    with reading(organization_id) as session:
        cursor, limit = request.args.get("cursor"), request.args.get("limit", 50, type=int)
        wanted = portals.listing(organization_id)
        page = page_of(session, wanted, PORTAL_LINK.c.id, cursor=cursor, limit=limit)
    return Page([link_out(link) for link in page.items], page.next_cursor)


@blueprint.post("/portal-links")
@require("endpoints:write")
@operation(
    summary="Let a subscriber in: a link, and an address that opens its portal once",
    body=PortalLinkIn,
    returns=PortalAddressOut,
    status=201,
)
def create_portal_link(body: PortalLinkIn) -> PortalAddressOut:
    actor, values = principal(), body.model_dump()
    minutes = values.pop("minutes")
    values["expires_at"] = body.expires_at or clock.now() + A_YEAR
    with transaction(actor.organization_id) as session:
        link = portals.create(session, actor.organization_id, **values)
        url, until = portals.offer(session, actor.organization_id, link.id, minutes)
        detail = {"subscriber": link.subscriber_name}
        audit.record(session, actor, "portal_link.created", link.id, detail=detail)
        return _with_address(link, url, until)


@blueprint.get("/portal-links/<link_id>")
@require("endpoints:read")
@operation(summary="Show a portal link", returns=PortalLinkOut)
def show_portal_link(link_id: str) -> PortalLinkOut:
    organization_id = principal().organization_id
    with reading(organization_id) as session:
        return link_out(portals.get(session, organization_id, link_id))


@blueprint.post("/portal-links/<link_id>/addresses")
@require("endpoints:write")
@operation(
    summary="Make one more address that opens the portal once",
    body=PortalAddressIn,
    returns=PortalAddressOut,
    status=201,
)
def make_portal_address(link_id: str, body: PortalAddressIn) -> PortalAddressOut:
    actor = principal()
    with transaction(actor.organization_id) as session:
        url, until = portals.offer(session, actor.organization_id, link_id, body.minutes)
        link = portals.get(session, actor.organization_id, link_id)
        audit.record(session, actor, "portal_link.address_made", link.id)
        return _with_address(link, url, until)


@blueprint.post("/portal-links/<link_id>/revoke")
@require("endpoints:write")
@operation(
    summary="End a portal link, its addresses and sessions; the endpoints stay",
    returns=PortalLinkOut,
)
def revoke_portal_link(link_id: str) -> PortalLinkOut:
    actor = principal()
    with transaction(actor.organization_id) as session:
        link = portals.revoke(session, actor.organization_id, link_id)
        audit.record(session, actor, "portal_link.revoked", link.id)
        return link_out(link)
