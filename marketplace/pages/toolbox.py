"""The toolbox with its tiles, and the list of installations with their details."""

from typing import Any

from flask import request

from identity.guard import principal, require
from kernel.database import reading
from kernel.web import page_of
from marketplace import installations, launchpad, rollouts
from marketplace.pages.drawing import blueprint, draw
from marketplace.tables import Installation


@blueprint.get("/toolbox")
@require("installations:read")
def toolbox() -> Any:
    """Show the apps one can open, by slot, with how their flows are doing."""
    organization_id = principal().organization_id
    with reading(organization_id) as session:
        shelves = launchpad.shelves(session, organization_id)
    return draw("toolbox.html", shelves=shelves, days=launchpad.HEALTH_DAYS)


@blueprint.get("/installations")
@require("installations:read")
def list_installations() -> Any:
    """Show every installation, and what is being rolled out at the moment."""
    organization_id = principal().organization_id
    statement = installations.of_organization(
        organization_id, with_absent=request.args.get("all") == "1"
    )
    with reading(organization_id) as session:
        page = page_of(
            session, statement, Installation.id, cursor=request.args.get("cursor"), limit=30
        )
        recent = rollouts.recent(session, organization_id)
    return draw(
        "installations.html",
        page=page,
        rollouts=recent,
        with_absent=request.args.get("all") == "1",
    )


@blueprint.get("/installations/<installation_id>")
@require("installations:read")
def show_installation(installation_id: str) -> Any:
    """Show one installation: account, connection, flows and the last events."""
    who = principal()
    with reading(who.organization_id) as session:
        there = installations.find(session, who.organization_id, installation_id)
        values: dict[str, Any] = {
            "health": launchpad.health_of(session, who.organization_id, [there]).get(there.id),
            "surroundings": installations.surroundings(session, there),
            "rollout": rollouts.find_or_none(session, who.organization_id, there.rollout_id),
        }
    return draw("installation.html", installation=there, days=launchpad.HEALTH_DAYS, **values)
