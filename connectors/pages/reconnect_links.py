"""The card on a connection's page with the links that let somebody renew it."""

from typing import Any

from connectors.pages.connections import draw_one
from connectors.pages.drawing import blueprint, go, typed
from connectors.reconnecting import links
from identity import audit
from identity.guard import principal, require
from kernel.database import transaction
from kernel.errors import N_, Problem

audit.name_actions(
    {
        "reconnect_link.created": N_("made a link to renew a connection"),
        "reconnect_link.revoked": N_("withdrew a link to renew a connection"),
        "reconnect_link.accepted": N_("took another account for a connection"),
        "reconnect_link.dropped": N_("refused another account for a connection"),
    }
)


@blueprint.post("/connections/<connection_id>/reconnect-links")
@require("connections:write")
def make_reconnect_link(connection_id: str) -> Any:
    """Make a link and show its address, once."""
    who = principal()
    try:
        with transaction(who.organization_id) as session:
            link, address = links.make(
                session,
                who.organization_id,
                connection_id,
                note=typed("note", 200),
                made_by=who.actor_id,
                made_by_name=who.name,
            )
            detail = {"link": link.id}
            audit.record(session, who, "reconnect_link.created", connection_id, detail=detail)
    except Problem as problem:
        return draw_one(connection_id, problem)
    page = draw_one(connection_id, link_address=address)
    page.headers["Cache-Control"] = "no-store"
    page.headers["Referrer-Policy"] = "same-origin"
    return page


@blueprint.post("/reconnect-links/<reconnect_link_id>/revoke")
@require("connections:write")
def revoke_reconnect_link(reconnect_link_id: str) -> Any:
    """Withdraw a link."""
    who = principal()
    with transaction(who.organization_id) as session:
        link = links.revoke(session, who.organization_id, reconnect_link_id)
        back, detail = link.connection_id, {"link": link.id}
        audit.record(session, who, "reconnect_link.revoked", back, detail=detail)
    return go(f"/connections/{back}", done="link_revoked")


@blueprint.post("/reconnect-links/<reconnect_link_id>/decide")
@require("connections:write")
def decide_reconnect_link(reconnect_link_id: str) -> Any:
    """Take the other account that somebody signed in to, or drop it."""
    who, accepts = principal(), typed("decision") == "accept"
    with transaction(who.organization_id) as session:
        found = links.decide(session, who.organization_id, reconnect_link_id, accepts=accepts)
        action = "reconnect_link.accepted" if accepts else "reconnect_link.dropped"
        detail = {"link": reconnect_link_id}
        audit.record(session, who, action, found.id, detail=detail)
        back = found.id
    return go(f"/connections/{back}", done="reconnected" if accepts else "link_dropped")
