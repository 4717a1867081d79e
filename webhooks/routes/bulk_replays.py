"""Bulk replays over JSON."""

from flask import Blueprint, request
from sqlmodel import Session

from identity import audit
from identity.guard import principal, require
from kernel.database import reading, transaction
from kernel.errors import N_
from kernel.web import Page, operation, page_of
from webhooks import bulk_replays
from webhooks.endpoint_schemas import BulkReplayDetailOut, BulkReplayIn, BulkReplayOut
from webhooks.tables import BULK_REPLAY, BulkReplay

blueprint = Blueprint("bulk_replays", __name__)

audit.name_actions(
    {
        "bulk_replay.started": N_("sent many events to an endpoint once more"),
        "bulk_replay.cancelled": N_("cancelled a bulk replay"),
    }
)


def detail(session: Session, row: BulkReplay) -> BulkReplayDetailOut:
    """Shape a bulk replay with its figures."""
    shown = BulkReplayOut.model_validate(row, from_attributes=True).model_dump()
    return BulkReplayDetailOut.model_validate(shown | bulk_replays.progress(session, row))


@blueprint.get("/bulk-replays")
@require("deliveries:read")
@operation(summary="List bulk replays", returns=BulkReplayOut, many=True)
def list_bulk_replays() -> Page:
    organization_id = principal().organization_id
    wanted = bulk_replays.listing(organization_id, request.args.get("endpoint_id"))
    with reading(organization_id) as session:
        cursor, limit = request.args.get("cursor"), request.args.get("limit", 50, type=int)
        return page_of(session, wanted, BULK_REPLAY.c.id, cursor=cursor, limit=limit)


@blueprint.post("/bulk-replays")
@require("deliveries:replay")
@operation(
    summary="Send many events once more, a few first",
    body=BulkReplayIn,
    returns=BulkReplayOut,
    status=201,
)
def start_bulk_replay(body: BulkReplayIn) -> BulkReplay:
    actor = principal()
    with transaction(actor.organization_id) as session:
        row = bulk_replays.begin(session, actor.organization_id, **body.model_dump())
        audit.record(session, actor, "bulk_replay.started", row.id)
        return row


@blueprint.get("/bulk-replays/<bulk_replay_id>")
@require("deliveries:read")
@operation(summary="Show how far a bulk replay is", returns=BulkReplayDetailOut)
def show_bulk_replay(bulk_replay_id: str) -> BulkReplayDetailOut:
    organization_id = principal().organization_id
    with reading(organization_id) as session:
        return detail(session, bulk_replays.get(session, organization_id, bulk_replay_id))


@blueprint.post("/bulk-replays/<bulk_replay_id>/cancel")
@require("deliveries:replay")
@operation(summary="Send nothing more of a bulk replay", returns=BulkReplayDetailOut)
def cancel_bulk_replay(bulk_replay_id: str) -> BulkReplayDetailOut:
    actor = principal()
    with transaction(actor.organization_id) as session:
        row = bulk_replays.cancel(session, actor.organization_id, bulk_replay_id)
        audit.record(session, actor, "bulk_replay.cancelled", row.id)
        return detail(session, row)
