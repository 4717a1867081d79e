"""Pages for apps that the organization runs itself: add, change, take out."""

from typing import Any

from flask import request
from sqlmodel import Session

from catalog import apps
from identity.guard import principal, require
from kernel.database import EVERY, reading, transaction
from kernel.errors import Problem
from marketplace import installations
from marketplace.pages.drawing import blueprint, draw, go, typed


@blueprint.get("/toolbox/links/new")
@require("apps:install")
def new_link() -> Any:
    """Show the form for a link; ?app=<key> fills it from the catalogue."""
    return _draw_form(None)


@blueprint.post("/toolbox/links")
@require("apps:install")
def add_link() -> Any:
    """Put an app of one's own into the toolbox."""
    who = principal()
    try:
        with transaction(who.organization_id) as session:
            installations.add_link(
                session,
                who,
                open_url=typed("open_url"),
                name=typed("name"),
                slot=typed("slot") or None,
                app_key=typed("app_key") or None,
            )
    except Problem as problem:
        return _draw_form(None, problem)
    return go("/toolbox?done=added")


@blueprint.get("/toolbox/links/<installation_id>")
@require("apps:install")
def edit_link(installation_id: str) -> Any:
    """Show the form with a link's present values."""
    return _draw_form(installation_id)


@blueprint.post("/toolbox/links/<installation_id>")
@require("apps:install")
def change_link(installation_id: str) -> Any:
    """Change a link."""
    who = principal()
    try:
        with transaction(who.organization_id) as session:
            installations.change_link(
                session,
                who,
                installation_id,
                name=typed("name"),
                open_url=typed("open_url"),
                slot=typed("slot") or None,
            )
    except Problem as problem:
        if problem.status == 404:
            raise
        return _draw_form(installation_id, problem)
    return go("/toolbox?done=saved")


@blueprint.post("/toolbox/links/<installation_id>/remove")
@require("apps:install")
def remove_link(installation_id: str) -> Any:
    """Take a link out of the toolbox."""
    who = principal()
    with transaction(who.organization_id) as session:
        installations.remove_link(session, who, installation_id)
    return go("/toolbox?done=removed")


def _draw_form(installation_id: str | None, problem: Problem | None = None) -> Any:
    values: dict[str, Any] = {"name": "", "open_url": "", "slot": "", "app_key": ""}
    if installation_id is not None:
        organization_id = principal().organization_id
        with reading(organization_id) as session:
            there = installations.find(session, organization_id, installation_id)
            values.update(title=there.title, open_url=there.open_url, slot=there.slot or "")
    elif request.method == "GET" and request.args.get("app"):
        with reading(EVERY) as session:
            values.update(_from_catalogue(session, request.args["app"]))
    if problem is not None:
        values.update({name: typed(name) for name in ("name", "open_url", "slot", "app_key")})
        values.pop("title", None)
    return draw("link.html", installation_id=installation_id, values=values, problem=problem)


def _from_catalogue(session: Session, app_key: str) -> dict[str, Any]:
    app = apps.by_keys(session, [app_key]).get(app_key)
    if app is None:
        return {}
    return {"app_key": app.key, "title": app.name, "slot": app.slots[0] if app.slots else ""}
