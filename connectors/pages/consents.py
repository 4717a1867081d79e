"""The pages of consent: away to the app's own sign-in, and back with what it brought."""

from typing import Any

from flask import request

from connectors import connection_checks, consents
from connectors.consents import Visitor
from connectors.errors import NotNow
from connectors.pages import reconnect
from connectors.pages.connections import draw_one
from connectors.pages.drawing import blueprint, draw, go
from identity import audit
from identity.guard import Access, let_in, principal, public, require
from kernel.database import transaction
from kernel.errors import N_, Problem


@blueprint.post("/connections/<connection_id>/authorize")
@require("connections:write")
def authorize_connection(connection_id: str) -> Any:
    """Send the browser to the app, where a person agrees.

    A page that goes on by itself, as a form here may not lead to another site.
    """
    who = principal()
    try:
        with transaction(who.organization_id) as session:
            address = consents.begin(session, _visitor(), connection_id)
            audit.record(session, who, "connection.consent_begun", connection_id)
    except Problem as problem:
        return draw_one(connection_id, problem)
    page = draw("connection_away.html", address=address, connection_id=connection_id)
    page.headers["Cache-Control"] = "no-store"
    page.headers["Referrer-Policy"] = "no-referrer"
    return page


@blueprint.get(consents.PATH)
@public
def finish_consent() -> Any:
    """Take the browser back from the app: a member's, or one that came through a link."""
    if reconnect.is_on_the_way():
        return reconnect.finish_consent()
    refused = let_in(Access("principal", ("connections:write",)))
    return refused if refused is not None else _finish()


def _finish() -> Any:
    """Let a member's browser in; only the session that left may come back, once."""
    who, state = principal(), request.args.get("state", "")[:300]
    try:
        with transaction(who.organization_id) as session:
            begun = consents.take(session, _visitor(), state)
        consents.check_issuer(begun, request.args.get("iss"))
    except Problem as problem:
        return draw("connection_back.html", problem=problem)
    connection_id, code = begun.opened.connection.id, request.args.get("code", "")[:4_000]
    if not code:
        return draw_one(connection_id, NotNow(N_("Nobody agreed in the app, so nothing changed")))
    words = consents.finish(_visitor(), begun, code)
    with transaction(who.organization_id) as session:
        audit.record(session, who, "connection.consent_given", connection_id)
    if words is None:
        tried = connection_checks.test(who.organization_id, connection_id)
        words = tried.problem
    return go(f"/connections/{connection_id}", **({} if words else {"done": "authorized"}))


def _visitor() -> Visitor:
    who = principal()
    return Visitor(who.organization_id, who.user_id, who.session_id)
