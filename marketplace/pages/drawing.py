"""How the shop's pages are drawn, and what the frame around every page of the house needs."""

from typing import Any
from urllib.parse import quote

from flask import Blueprint, Flask, Response, current_app, make_response, redirect, request
from flask import render_template as render
from flask_babel import gettext
from sqlalchemy import func, select
from sqlmodel import col
from werkzeug.exceptions import HTTPException

from catalog import bundles, event_types
from connectors import approvals
from connectors.incidents import incidents
from connectors.judges import judge_of
from connectors.tables import Run
from identity import organizations
from identity.guard import principal_or_none
from identity.principals import Principal
from kernel.database import EVERY, StoreUnavailable, reading
from kernel.errors import FieldError, Problem
from kernel.web import localized
from marketplace import navigation, offers

blueprint = Blueprint("marketplace_pages", "marketplace")


def draw(
    template: str, *, problem: Problem | None = None, status: int | None = None, **values: Any
) -> Response:
    """Draw a page; a problem is told in words, beside its fields, and gives the page its status.

    Call it outside a reading: the frame reads for itself, and nobody should hold two connections.
    """
    errors, told = [], None
    if problem is not None:
        errors = [{"pointer": e["pointer"], "message": _translated(e)} for e in problem.errors]
        told = {
            "what": gettext(problem.title) % problem.params,
            "why": gettext(problem.detail) % problem.params if problem.detail else "",
        }
    page = render(f"marketplace/{template}", errors=errors, told=told, form=request.form, **values)
    return make_response(page, status or (problem.status if problem else 200))


def _translated(error: FieldError) -> str:
    said = error["message"]
    words: str = gettext(said)
    return words


def go(path: str) -> Response:
    """Send the browser on after a form was taken; 303 never repeats what was posted."""
    return make_response(redirect(path, 303))


def typed(name: str, limit: int = 2000) -> str:
    """Return what was typed into a field, cut at a length nobody types by hand."""
    return request.form.get(name, "")[:limit]


def install(app: Flask) -> None:
    """Give every page its side bar, and tell the catalogue what the hub can install."""
    app.context_processor(surroundings)
    app.jinja_env.globals.update(event_word=event_word, readable_path=readable_path)
    if offers.app_is_installable not in bundles.INSTALLABLE:
        bundles.INSTALLABLE.append(offers.app_is_installable)


def readable_path(wanted: str | None = None) -> str:
    """Return where a page that answers a form can be looked at: here, or nearest above."""
    adapter = current_app.create_url_adapter(request)
    rule = str(request.url_rule or "")
    path = wanted or request.path
    while adapter is not None and path.strip("/"):
        try:
            found, _ = adapter.match(path, method="GET", return_rule=True)
        except HTTPException:
            found = None
        # /runs/replay is no run: what stands still in one address must not vary in the other
        if found is not None and (path != request.path or _last(found.rule) == _last(rule)):
            going_on = request.form.get("next")
            return f"{path}?next={quote(going_on[:2000])}" if going_on else path
        path = path.rpartition("/")[0]
    return "/"


def _last(path: str) -> str:
    return path.rpartition("/")[2]


def event_word(name: str) -> str:
    """Return what people call an event type; one of a firm's own keeps its name."""
    found = event_types.lookup(None, None, name)
    return localized(found.title) if found else name


def surroundings() -> dict[str, Any]:
    """Return the frame's variables; a page never fails because its side bar cannot be counted."""
    if request.headers.get("HX-Request"):
        return {"nav": [], "organizations": []}
    who = principal_or_none()
    counts, others = {}, []
    if who is not None:
        try:
            counts = _stopped(who.organization_id) if who.may("runs:read") else {}
            counts["approvals"] = _asked(who)
            others = _organizations(who.user_id)
        except StoreUnavailable:
            counts, others = {}, []
    existing = {rule.rule for rule in current_app.url_map.iter_rules()}
    groups = navigation.groups(who, request.path, gettext, existing=existing, counts=counts)
    return {"nav": groups, "organizations": others}


def _stopped(organization_id: str) -> dict[str, int]:
    """Count the runs that wait for a person, and the troubles they wait for."""
    with reading(organization_id) as session:
        statement = select(func.count()).where(
            col(Run.organization_id) == organization_id, col(Run.state) == "parked"
        )
        return {
            "parked_runs": int(session.execute(statement).scalar_one()),
            "incidents": incidents.count_open(session, organization_id),
        }


def _asked(who: Principal) -> int:
    """Count the open approvals that ask whoever acts."""
    if not who.may("approvals:decide"):
        return 0
    with reading(who.organization_id) as session:
        return len(approvals.open_for(session, who.organization_id, judge_of(who)))


def _organizations(user_id: str | None) -> list[dict[str, str]]:
    if user_id is None:
        return []
    with reading(EVERY) as session:
        found = organizations.list_of_user(session, user_id)
        return [{"id": organization.id, "name": organization.name} for organization, _ in found]
