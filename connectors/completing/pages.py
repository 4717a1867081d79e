"""The card about completed events on a source's page, and its button."""

from typing import Any

from flask import render_template
from markupsafe import Markup

from connectors.completing import completions, planning
from connectors.completing.tables import COMPLETION
from connectors.engine import loader, thin
from connectors.pages.drawing import blueprint, go
from identity import audit
from identity.guard import principal, require
from kernel.database import reading, transaction
from kernel.errors import Problem
from webhooks import sources
from webhooks.tables import Source

SHOWN = 20


def card(source: Source, problem: Problem | None) -> str:  # noqa: ARG001 - as other cards are
    """Draw the card; nothing for a source none of whose events are completed."""
    triggers = planning.watched().get(source.connector_key or "")
    connector = loader.known(source.connector_key or "")
    if not triggers or connector is None or source.state == "closed":
        return ""
    organization_id = source.organization_id
    with reading(organization_id) as session:
        standing = completions.standing(session, organization_id, source.id)
        stopped = completions.listing(organization_id, state="dead", source_id=source.id)
        newest = stopped.order_by(COMPLETION.c.id.desc()).limit(SHOWN)
        dead = list(session.execute(newest).scalars())
    makes = [
        (event, [trigger.fetch.event] if trigger.fetch else [], thin.emitting(connector, trigger))
        for event, trigger in triggers.items()
    ]
    drawn = render_template(
        "connectors/completing.html",
        source=source,
        standing=standing,
        dead=dead,
        makes=[(event, [*own, *[one.event for one in maps]]) for event, own, maps in makes],
        needs_connection=any(one.fetch for one in triggers.values()) and not source.connection_id,
    )
    return Markup(drawn)  # noqa: S704 - a template of ours, which escapes what it is given


@blueprint.post("/sources/<source_id>/completions/retry")
@require("events:replay")
def fetch_again(source_id: str) -> Any:
    """Ask the app again for everything of a source that could not be completed."""
    who = principal()
    with transaction(who.organization_id) as session:
        sources.get(session, who.organization_id, source_id)
        count = completions.fetch_all_again(session, who.organization_id, source_id)
        audit.record(session, who, "completion.retried", source_id, detail={"count": count})
    return go(f"/sources/{source_id}")
