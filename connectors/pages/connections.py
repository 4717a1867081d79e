"""The pages of connections: list, connect, test, reconnect, disconnect."""

from typing import Any

from flask import request

from connectors import connection_checks, connection_uses, connections, consents, runs
from connectors.assistants import access, door
from connectors.engine import loader
from connectors.pages import life_card, poll_card
from connectors.pages.drawing import (
    blueprint,
    connector_or_none,
    draw,
    go,
    settings_from,
    typed,
    typed_under,
)
from connectors.publishing import shelf, upgrades
from connectors.streams import holds
from connectors.subscriptions import turns
from identity import audit
from identity.guard import principal, require
from kernel.database import reading, transaction
from kernel.errors import Problem
from kernel.settings import settings


@blueprint.get("/connections")
@require("connections:read")
def list_connections() -> Any:
    """Show the organization's connections and how they are."""
    who = principal()
    with reading(who.organization_id) as session:
        found = connections.all_of(session, who.organization_id)
        users = connection_uses.use_counts(session, who.organization_id)
    known = {one.connector_key: connector_or_none(one.connector_key) for one in found}
    return draw("connections.html", connections=found, connectors=known, users=users)


@blueprint.get("/connections/new")
@require("connections:write")
def new_connection() -> Any:
    """Show the library to choose from, or the form of the chosen connector."""
    return _draw_new()


@blueprint.post("/connections")
@require("connections:write")
def create_connection() -> Any:
    """Connect an app, then try the connection at once."""
    who, key = principal(), typed("connector")
    try:
        settings = settings_from(loader.find(key), typed_under("settings"))
        connections.check_addresses(key, settings)
        with transaction(who.organization_id) as session:
            made = connections.create(
                session,
                who.organization_id,
                key,
                name=typed("name"),
                auth=typed("auth") or None,
                fields=typed_under("fields"),
                settings=settings,
            )
            audit.record(session, who, "connection.created", made.id)
    except Problem as problem:
        return _draw_new(problem)
    tried = connection_checks.test(who.organization_id, made.id)
    back = typed("back")
    if back.startswith("/flows/new?") and not tried.problem:
        return go(back)
    return go(f"/connections/{made.id}", done="created")


@blueprint.get("/connections/<connection_id>")
@require("connections:read")
def show_connection(connection_id: str) -> Any:
    """Show a connection: its health, who uses it, and the form to reconnect."""
    return draw_one(connection_id)


@blueprint.post("/connections/<connection_id>/test")
@require("connections:write")
def test_connection(connection_id: str) -> Any:
    """Call the app once and show what it said."""
    who = principal()
    tried = connection_checks.test(who.organization_id, connection_id)
    with transaction(who.organization_id) as session:
        audit.record(session, who, "connection.tested", connection_id)
    return go(f"/connections/{connection_id}", **({} if tried.problem else {"done": "works"}))


@blueprint.post("/connections/<connection_id>/reconnect")
@require("connections:write")
def reconnect(connection_id: str) -> Any:
    """Store new credentials; what waited for them goes on."""
    who = principal()
    try:
        with reading(who.organization_id) as session:
            known = connections.find(session, who.organization_id, connection_id)
        settings = settings_from(loader.find(known.connector_key), typed_under("settings"))
        connections.check_addresses(known.connector_key, settings)
        with transaction(who.organization_id) as session:
            connections.change_credentials(
                session,
                who.organization_id,
                connection_id,
                fields=typed_under("fields"),
                auth=typed("auth") or None,
                settings=settings,
            )
            audit.record(session, who, "connection.changed", connection_id)
    except Problem as problem:
        return draw_one(connection_id, problem)
    return go(f"/connections/{connection_id}", done="reconnected")


@blueprint.post("/connections/<connection_id>/rename")
@require("connections:write")
def rename_connection(connection_id: str) -> Any:
    """Give a connection another name."""
    who = principal()
    try:
        with transaction(who.organization_id) as session:
            connections.rename(session, who.organization_id, connection_id, typed("name"))
    except Problem as problem:
        return draw_one(connection_id, problem)
    return go(f"/connections/{connection_id}", done="renamed")


@blueprint.post("/connections/<connection_id>/assistants")
@require("connections:write")
def give_to_assistants(connection_id: str) -> Any:
    """Say what AI assistants may do over a connection."""
    who, level = principal(), typed("level")
    try:
        with transaction(who.organization_id) as session:
            access.give(session, who.organization_id, connection_id, level)
            audit.record(session, who, "connection.given", connection_id, detail={"level": level})
    except Problem as problem:
        return draw_one(connection_id, problem)
    return go(f"/connections/{connection_id}", done="given")


@blueprint.post("/connections/<connection_id>/revoke")
@require("connections:write")
def revoke_connection(connection_id: str) -> Any:
    """Forget a connection's secrets; refused while flows that are on use it."""
    who = principal()
    try:
        with reading(who.organization_id) as session:
            connections.check_unused(session, who.organization_id, connection_id)
        turns.end_all(who.organization_id, connection_id)
        with transaction(who.organization_id) as session:
            connections.revoke(session, who.organization_id, connection_id)
            audit.record(session, who, "connection.revoked", connection_id)
    except Problem as problem:
        return draw_one(connection_id, problem)
    return go("/connections", done="revoked")


def _draw_new(problem: Problem | None = None) -> Any:
    key = request.form.get("connector") or request.args.get("connector")
    connector = connector_or_none(key)
    if connector is None:
        return draw(
            "connection_choose.html",
            problem=problem,
            connectors=[*loader.library().values(), *shelf.offered_ones()],
        )
    way = connector.auth_by_id(request.form.get("auth") or request.args.get("auth"))
    return draw(
        "connection_new.html",
        problem=problem,
        connector=connector,
        way=way or connector.auth_by_id(None),
        callback=consents.callback_address(),
        back=request.form.get("back") or request.args.get("back") or "",
    )


def draw_one(
    connection_id: str, problem: Problem | None = None, *, link_address: str | None = None
) -> Any:
    """Draw everything about one connection."""
    who = principal()
    with reading(who.organization_id) as session:
        connection = connections.find(session, who.organization_id, connection_id)
        users = connection_uses.flows_using(session, who.organization_id, connection_id)
        waiting = runs.count_waiting_for(session, who.organization_id, connection_id)
        polled = poll_card.shown(session, connection)
        life = life_card.shown(session, connection)
        offer = upgrades.offer_for(session, connection)
        held = holds.find(session, who.organization_id, connection_id)
    connector = connector_or_none(connection.connector_key)
    return draw(
        "connection.html",
        problem=problem,
        connection=connection,
        connector=connector,
        way=connector.auth_by_id(connection.auth) if connector else None,
        users=users,
        waiting=waiting,
        polls=polled,
        offer=offer,
        stream=held,
        callback=consents.callback_address(),
        mcp_url=settings().base_url + door.PATH,
        link_address=link_address,
        **life,
    )
