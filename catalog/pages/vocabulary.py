"""The vocabulary's pages: every event type with its schema as a table and a sample."""

from typing import Any

from flask import Response, request

from catalog import (
    deeds,
    event_types,
    evolution,
    field_rows,
    schema_changes,
    schemas,
    slots,
    speakers,
    terms,
)
from catalog.pages import fields
from catalog.pages.drawing import blueprint, draw, go, typed
from catalog.tables import CustomEventType
from identity.guard import principal, principal_or_none, public, require
from kernel import documents
from kernel.database import EVERY, reading
from kernel.errors import N_, NotFound, Problem
from kernel.settings import settings
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
    belongs = not slot_id or (found.sub_scenario or "").startswith(f"{slot_id}.")
    return belongs and all(word in _text_of(found) for word in query.casefold().split())


_MOST_KEPT = 4096
_field_words: dict[str, str] = {}  # by the digest of the schema


def _text_of(found: event_types.EventType) -> str:
    """Return what a type is found by: its name, and titles and fields in both languages."""
    words = _field_words.get(found.digest)
    if words is None:
        if len(_field_words) >= _MOST_KEPT:
            _field_words.clear()
        rows = field_rows.fields_of(found.schema)
        texts = [text for row in rows for text in (row.name, *_words_of(row))]
        words = _field_words[found.digest] = "\n".join(texts).casefold()
    return f"{found.name} {' '.join(found.title.values())}".casefold() + "\n" + words


def _words_of(row: field_rows.FieldRow) -> list[str]:
    labels = [label for one in row.labels.values() for label in one.values()]
    return [*(row.title or {}).values(), *labels]


@blueprint.get("/events-catalogue/<name>")
@public
def event_type_page(name: str) -> Any:
    """Show one event type: its fields, its key, a sample, its versions and who gets it."""
    version, who = request.args.get("version", type=int), principal_or_none()
    organization_id = who.organization_id if who else None
    with reading(EVERY) as session:
        found = event_types.find(session, organization_id, name, version)
        versions = event_types.versions(session, organization_id, name)
        asked = event_types.receivers(session, who.organization_id, name) if who else []
        spoken_by, joins = speakers.speakers(session, name), speakers.joining(session, name)
    before = [one for one in versions if one.version < found.version]
    return draw(
        "event_type.html",
        found=found,
        rows=field_rows.fields_of(found.schema),
        versions=versions,
        before=before[-1] if before else None,
        changes=schema_changes.changes(before[-1].schema, found.schema) if before else [],
        has_new_key=bool(before) and evolution.changed_key(before[-1], found),
        speakers=spoken_by,
        joins=joins,
        standards=terms.standards(),
        receivers=[one for one in asked if who and who.may(one.permission)],
        schema_url=_schema_url(found),
    )


def _schema_url(found: event_types.EventType) -> str:
    return f"{settings().base_url.rstrip('/')}/schemas/{found.name}/{found.version}.json"


@blueprint.get("/schemas/<event_type>/<int:version>.json")
@public
def event_type_schema(event_type: str, version: int) -> Response:
    """Give one version's JSON Schema at an address that never changes, nor what it leads to."""
    who = principal_or_none()
    organization_id = who.organization_id if who else None
    with reading(EVERY) as session:
        versions = event_types.versions(session, organization_id, event_type)
    found = next((one for one in versions if one.version == version), None)
    if found is None:
        raise NotFound(N_("There is no event type “%(name)s”"), name=event_type)
    body = documents.dump({**found.schema, "$id": _schema_url(found)})
    response = Response(body, content_type="application/schema+json")
    response.set_etag(found.digest[:32])
    # a firm's own types are for its eyes; the others may be kept by anybody, and read by any page
    if found.origin == "custom":
        response.headers["Cache-Control"] = "private, no-cache"
    else:
        response.headers["Cache-Control"] = "public, max-age=3600"
        response.headers["Access-Control-Allow-Origin"] = "*"
    response.make_conditional(request)
    return response


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
