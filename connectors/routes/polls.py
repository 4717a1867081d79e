"""The JSON routes of polls: what a connection's app is asked for."""

from flask import Blueprint

from connectors import connections, polls, reconcile_schemas
from connectors.polls import Offer
from identity import audit
from identity.guard import principal, require
from kernel.database import reading, transaction
from kernel.web import operation

blueprint = Blueprint("polls", __name__)


def _shaped(offer: Offer) -> reconcile_schemas.PollOut:
    look, trigger = offer.look, offer.trigger
    return reconcile_schemas.PollOut(
        id=look.id if look else None,
        trigger=trigger.key,
        event=trigger.event,
        title=dict(trigger.title),
        input=look.input if look else {},
        every_seconds=offer.every_seconds,
        complete_until=look.cursor if look else None,
        last_at=look.last_at if look else None,
        next_at=look.next_at if look else None,
        events=look.fetched_count if look else 0,
        problem=look.problem if look else None,
    )


@blueprint.get("/connections/<connection_id>/polls")
@require("connections:read")
@operation(
    summary="List what the app can be asked for", returns=reconcile_schemas.PollOut, many=True
)
def list_polls(connection_id: str) -> list[reconcile_schemas.PollOut]:
    """Return the triggers of an app that sends nothing by itself, and how asking it goes."""
    who = principal()
    with reading(who.organization_id) as session:
        connection = connections.find(session, who.organization_id, connection_id)
        return [_shaped(one) for one in polls.offers(session, connection)]


@blueprint.post("/connections/<connection_id>/polls")
@require("connections:write")
@operation(
    summary="Ask the app from now on",
    body=reconcile_schemas.PollIn,
    returns=reconcile_schemas.PollOut,
    status=201,
)
def start_poll(connection_id: str, body: reconcile_schemas.PollIn) -> reconcile_schemas.PollOut:
    """Ask the app from now on, or otherwise than so far; the first look begins at once."""
    who = principal()
    with transaction(who.organization_id) as session:
        look = polls.start(
            session,
            who.organization_id,
            connection_id,
            body.trigger,
            values=body.input,
            every_seconds=body.every_seconds,
            since=body.since,
        )
        audit.record(session, who, "poll.started", look.id)
        connection = connections.find(session, who.organization_id, connection_id)
        offered = polls.offers(session, connection)
        return next(_shaped(one) for one in offered if one.trigger.key == body.trigger)


@blueprint.delete("/polls/<poll_id>")
@require("connections:write")
@operation(summary="Ask the app no more", status=204)
def stop_poll(poll_id: str) -> None:
    """Ask the app no more; what came in stays."""
    who = principal()
    with transaction(who.organization_id) as session:
        polls.stop(session, who.organization_id, poll_id)
        audit.record(session, who, "poll.stopped", poll_id)
