"""The JSON routes of completions: events that were, or could not be, filled up from their app."""

from typing import Any

from flask import Blueprint, request

from connectors.completing import completions, schemas
from connectors.completing.tables import COMPLETION
from identity import audit
from identity.guard import principal, require
from kernel.database import reading, transaction
from kernel.web import operation, page_of
from webhooks import sources

blueprint = Blueprint("completions", __name__)


@blueprint.get("/completions")
@require("events:read")
@operation(summary="List completed events", returns=schemas.CompletionOut, many=True)
def list_completions() -> Any:
    """Return completions, newest first; ?state=dead and ?source_id= choose among them."""
    who = principal()
    wanted = completions.listing(
        who.organization_id,
        state=request.args.get("state"),
        source_id=request.args.get("source_id"),
    )
    with reading(who.organization_id) as session:
        given = request.args
        return page_of(session, wanted, COMPLETION.c.id, cursor=given.get("cursor"))


@blueprint.post("/completions/<completion_id>/retry")
@require("events:replay")
@operation(summary="Fetch an event's content again", returns=schemas.CompletionOut)
def retry_completion(completion_id: str) -> Any:
    """Ask the app again for what an event is about."""
    who = principal()
    with transaction(who.organization_id) as session:
        row = completions.fetch_again(session, who.organization_id, completion_id)
        audit.record(session, who, "completion.retried", row.id)
        return row


@blueprint.post("/sources/<source_id>/completions/retry")
@require("events:replay")
@operation(summary="Fetch everything again that stopped", returns=schemas.AgainOut)
def retry_completions(source_id: str) -> Any:
    """Ask the app again for everything of a source that could not be completed."""
    who = principal()
    with transaction(who.organization_id) as session:
        sources.get(session, who.organization_id, source_id)
        count = completions.fetch_all_again(session, who.organization_id, source_id)
        audit.record(session, who, "completion.retried", source_id, detail={"count": count})
        return schemas.AgainOut(count=count)
