"""The card on a source's page that says whose events it brings."""

from typing import Any

from flask import render_template, request
from markupsafe import Markup

from connectors import source_ties
from connectors.pages.drawing import blueprint, go, typed
from connectors.tables import Connection
from identity import audit
from identity.guard import principal, require
from kernel.database import reading, transaction
from kernel.errors import N_, Problem
from webhooks import intake, sources
from webhooks.pages.sources import draw_source
from webhooks.tables import Source

audit.name_actions({"source.tied": N_("said which connection a source belongs to")})


def card(source: Source, problem: Problem | None) -> str:
    """Draw the card; nothing for a source that is closed or asked for."""
    if source.state == "closed" or source.scheme == sources.POLL:
        return ""
    owner = source.organization_id
    with reading(owner) as session:
        found = source_ties.choices(session, source)
        tied = session.get(Connection, (owner, source.connection_id or ""))
        heard = source_ties.listening(session, owner, source.connection_id or "")
    is_ours = request.path.endswith("/connection")
    drawn = render_template(
        "connectors/source_tie.html",
        source=source,
        choices=found,
        tied=tied,
        flows=heard,
        errors=problem.errors if problem is not None and is_ours else [],
    )
    return Markup(drawn)  # noqa: S704 - a template of ours, which escapes what it is given


@blueprint.post("/sources/<source_id>/connection")
@require("sources:write")
def tie_source(source_id: str) -> Any:
    """Tie a source to a connection, or to none."""
    who = principal()
    try:
        with transaction(who.organization_id) as session:
            wanted = typed("connection_id") or None
            source_ties.tie(session, who.organization_id, source_id, wanted)
            audit.record(session, who, "source.tied", source_id, detail={"connection": wanted})
    except Problem as problem:
        return draw_source(source_id, problem)
    intake.forget()
    return go(f"/sources/{source_id}#tie")
