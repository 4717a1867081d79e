"""The vocabulary's pages: every event type with its schema as a table and a sample."""

from typing import Any

from flask import request

from catalog import deeds, event_types, schemas, slots
from catalog.pages import fields
from catalog.pages.drawing import blueprint, draw, go, typed
from catalog.tables import CustomEventType
from identity.guard import principal, principal_or_none, public, require
from kernel.database import EVERY, reading
from kernel.errors import Problem
from kernel.web import page_of


def _organization_id() -> str | None:
    who = principal_or_none()
    return who.organization_id if who else None


@blueprint.get("/events-catalogue")
@public
def event_type_list() -> Any:
    """Show the event types, grouped by task."""
    with reading(EVERY) as session:
        found = event_types.all_types(session, _organization_id())
    query = request.args.get("q", "")[:100].strip()
    slot_id = request.args.get("slot", "")
    shown = [t for t in found if _matches(t, query, slot_id)]
    return draw(
        "event_types.html",
        slots=slots.all_slots(),
        shown=shown,
        total=len(found),
        query=query,
        slot_id=slot_id,
    )


def _matches(found: event_types.EventType, query: str, slot_id: str) -> bool:
    text = f"{found.name} {' '.join(found.title.values())}".casefold()
    belongs = not slot_id or (found.sub_scenario or "").startswith(f"{slot_id}.")
    return belongs and query.casefold() in text


@blueprint.get("/events-catalogue/<name>")
@public
def event_type_page(name: str) -> Any:
    """Show one event type: its fields, its key, a sample and who uses it."""
    version = request.args.get("version", type=int)
    with reading(EVERY) as session:
        found = event_types.find(session, _organization_id(), name, version)
    return draw("event_type.html", found=found, rows=fields.fields_of(found.schema))


@blueprint.get("/settings/event-types")
@require("event_types:read")
def own_event_types() -> Any:
    """Show the organization's own event types."""
    return _draw_own()


@blueprint.post("/settings/event-types")
@require("event_types:write")
def define_event_type() -> Any:
    """Define an event type from a form."""
    try:
        body = fields.validated(
            schemas.CustomEventTypeIn,
            {
                "name": typed("name"),
                "title": {"zh": typed("title_zh"), "en": typed("title_en")},
                "schema": fields.json_of("schema", request.form.get("schema", "")),
                "sample": fields.json_of("sample", request.form.get("sample", "")),
            },
        )
        deeds.define_event_type(principal(), body)
    except Problem as problem:
        return _draw_own(problem)
    return go("/settings/event-types?done=defined")


@blueprint.post("/settings/event-types/<type_id>/retire")
@require("event_types:write")
def retire_event_type(type_id: str) -> Any:
    """Take an own event type out of use."""
    deeds.retire_event_type(principal(), type_id)
    return go("/settings/event-types?done=retired")


def _draw_own(problem: Problem | None = None) -> Any:
    organization_id = principal().organization_id
    with reading(organization_id) as session:
        page = page_of(
            session,
            CustomEventType.of(organization_id),
            CustomEventType.id,
            cursor=request.args.get("cursor"),
        )
    return draw("own_event_types.html", page=page, problem=problem)
