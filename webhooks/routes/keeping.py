"""Kept data over JSON: rules, the archive and what comes back from it."""

import base64
from typing import Any

from flask import Blueprint, request

from identity import audit
from identity.guard import principal, require
from kernel import documents
from kernel.database import reading, transaction
from kernel.errors import N_, NotFound
from kernel.web import Page, operation, page_of
from webhooks.keeping import chunks, records, restoring, rules, sizes
from webhooks.keeping.restoring import Span
from webhooks.keeping.rules import Rule
from webhooks.keeping.schemas import (
    ArchivedEventOut,
    ChunkOut,
    KeepingOut,
    PreviewOut,
    RestoredOut,
    RuleIn,
    RuleOut,
    SpanIn,
)
from webhooks.keeping.tables import ARCHIVE_CHUNK, ArchiveChunk
from webhooks.schemas import EventOut

blueprint = Blueprint("keeping", __name__)


@blueprint.get("/retention")
@require("events:read")
@operation(summary="Show how long data is kept, and how much there is", returns=KeepingOut)
def show_keeping() -> KeepingOut:
    organization_id = principal().organization_id
    with reading(organization_id) as session:
        found = rules.find(session, organization_id)
        sized = sizes.find(session, organization_id)
        state = sizes.state(session, organization_id)
    return KeepingOut(
        rules=[RuleOut.model_validate(rule, from_attributes=True) for rule in found.all],
        live_events=sized.live_events,
        oldest_at=sized.oldest_at,
        archived_events=sized.archived_events,
        archived_bytes=sized.archived_bytes,
        next_at=state.next_at if state else None,
        finished_at=state.finished_at if state else None,
        trouble=state.trouble if state else None,
    )


@blueprint.put("/retention/rules")
@require("data:keep")
@operation(summary="Set how long events of some types are kept", body=RuleIn, returns=RuleOut)
def decide_rule(body: RuleIn) -> Rule:
    who = principal()
    rule = Rule(
        body.event_types, body.live_days, body.rejected_days, body.archive_days, body.detail_days
    )
    with transaction(who.organization_id) as session:
        made = rules.decide(session, who.organization_id, rule)
        audit.record(session, who, "retention.changed", made.id, detail=rules.told(made))
    return made


@blueprint.delete("/retention/rules/<rule_id>")
@require("data:keep")
@operation(summary="Remove a rule; the next closest one holds", status=204)
def remove_rule(rule_id: str) -> None:
    who = principal()
    with transaction(who.organization_id) as session:
        gone = rules.remove(session, who.organization_id, rule_id)
        audit.record(session, who, "retention.removed", rule_id, detail=rules.told(gone))


@blueprint.get("/archive")
@require("events:read")
@operation(summary="List the archive's chunks, of a ?day= or ?type=", returns=ChunkOut, many=True)
def list_chunks() -> Page:
    organization_id = principal().organization_id
    wanted = chunks.listing(
        organization_id, day=request.args.get("day"), event_type=request.args.get("type")
    )
    with reading(organization_id) as session:
        cursor, limit = request.args.get("cursor"), request.args.get("limit", 50, type=int)
        return page_of(session, wanted, ARCHIVE_CHUNK.c.id, cursor=cursor, limit=limit)


@blueprint.get("/archive/<chunk_id>")
@require("events:read")
@operation(summary="Show a chunk of the archive", returns=ChunkOut)
def show_chunk(chunk_id: str) -> ArchiveChunk:
    organization_id = principal().organization_id
    with reading(organization_id) as session:
        return chunks.find(session, organization_id, chunk_id)


@blueprint.get("/archive/<chunk_id>/events")
@require("events:read")
@operation(summary="List a chunk's events", returns=EventOut, many=True)
def list_chunk_events(chunk_id: str) -> Page:
    organization_id = principal().organization_id
    with reading(organization_id) as session:
        chunk = chunks.find(session, organization_id, chunk_id)
    return Page([EventOut.model_validate(one["event"]) for one in chunks.read(chunk)], None)


@blueprint.get("/archive/events/<event_id>")
@require("events:read", "deliveries:read")
@operation(summary="Show an archived event and what became of it", returns=ArchivedEventOut)
def show_archived_event(event_id: str) -> ArchivedEventOut:
    organization_id = principal().organization_id
    with reading(organization_id) as session:
        covering = chunks.covering(session, organization_id, event_id)
    copies = chunks.records_of(covering, event_id)
    if not copies:
        raise NotFound(N_("The archive does not hold this event"))
    event = records.event_of(copies[0])
    is_json = event["content_type"] == "application/json"
    body: bytes = event["body"]
    data: Any = documents.parse(body) if is_json else base64.b64encode(body).decode()
    return ArchivedEventOut(
        **EventOut.model_validate(event).model_dump(),
        content_type=event["content_type"],
        headers=event["headers"],
        data=data,
        deliveries=[row for copy in copies for row in copy["deliveries"]],
        runs=[row for copy in copies for row in copy.get("runs", ())],
    )


@blueprint.post("/archive/events/<event_id>/replay")
@require("events:replay")
@operation(summary="Bring an archived event back and route it once more", returns=RestoredOut)
def replay_archived_event(event_id: str) -> RestoredOut:
    who = principal()
    restoring.replay_one(who.organization_id, event_id)
    with transaction(who.organization_id) as session:
        audit.record(session, who, "archive.replayed", event_id, detail={"events": 1})
    return RestoredOut(event_id=event_id)


@blueprint.post("/archive/replay")
@require("events:replay")
@operation(
    summary="Count the archived events of a time, or with `confirmed` repeat them, 2,000 at once",
    body=SpanIn,
    returns=PreviewOut,
)
def replay_archived_span(body: SpanIn) -> PreviewOut:
    who = principal()
    span = Span(body.since, body.until, body.event_types)
    restoring.check(span)
    if not body.confirmed:
        found = restoring.preview(who.organization_id, span)
        return PreviewOut(count=found.count, is_more=found.is_more, is_done=False)
    found = restoring.replay(who.organization_id, span)
    detail = {"events": found.count, "event_types": span.event_types}
    with transaction(who.organization_id) as session:
        audit.record(session, who, "archive.replayed", detail=detail)
    return PreviewOut(count=found.count, is_more=found.is_more, is_done=True)
