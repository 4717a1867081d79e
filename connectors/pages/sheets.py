"""Spreadsheets as pages: send one in, see what it would bring, let it in."""

import contextlib
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from flask import Response, request
from flask_babel import get_locale

from catalog.event_types import EventType
from connectors.pages.drawing import blueprint, draw, go, typed, typed_under
from connectors.sheets import grids, uploads
from connectors.sheets.fields import SheetField
from connectors.sheets.tables import SheetUpload
from identity import audit
from identity.guard import principal, require
from kernel.database import reading, transaction
from kernel.errors import N_, Invalid, Problem
from kernel.web import localized

XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


@blueprint.get("/sheets")
@require("sources:read")
def list_sheets() -> Any:
    """Show what was sent in, and take a file."""
    return _draw_list()


def _draw_list(problem: Problem | None = None) -> Any:
    organization_id = principal().organization_id
    with reading(organization_id) as session:
        found = uploads.recent(session, organization_id)
        types = uploads.choices(session, organization_id)
    return draw("sheets.html", problem=problem, uploads=found, types=_named(types))


def _named(types: Iterable[EventType]) -> list[tuple[str, str]]:
    """Return event types to choose from: what people call them, and their name."""
    return sorted((one.name, f"{localized(one.title)} · {one.name}") for one in types)


@blueprint.post("/sheets")
@require("sources:write")
def upload_sheet() -> Any:
    """Take a file and show what it would bring."""
    who = principal()
    try:
        name, content = _file()
        with transaction(who.organization_id) as session:
            upload = uploads.send_in(
                session,
                who.organization_id,
                name=name,
                content=content,
                uploaded_by=who.name,
                event_type=typed("event_type") or None,
            )
            audit.record(session, who, "sheet.uploaded", upload.id)
    except Problem as problem:
        return _draw_list(problem)
    return go(f"/sheets/{upload.id}")


def _file() -> tuple[str, bytes]:
    sent = request.files.get("file")
    if sent is None or not sent.filename:
        message = N_("Choose a file first")
        raise Invalid(detail=message, errors=[{"pointer": "/file", "message": message}])
    return sent.filename, sent.stream.read(grids.MAX_BYTES + 1)


@blueprint.get("/sheets/<upload_id>")
@require("sources:read")
def sheet_page(upload_id: str) -> Any:
    """Show an upload: its preview, or what came of it."""
    return _draw_one(upload_id)


def _draw_one(upload_id: str, problem: Problem | None = None) -> Any:
    organization_id = principal().organization_id
    with reading(organization_id) as session:
        upload = uploads.find(session, organization_id, upload_id)
        preview = None
        if upload.state == "draft":
            with contextlib.suppress(Invalid):
                preview = uploads.preview(session, upload)
        types = _named(uploads.choices(session, organization_id))
    fields = preview.fields if preview else ()
    return draw(
        "sheet.html",
        problem=problem,
        upload=upload,
        preview=preview,
        types=types,
        titles={one.name: one.title for one in fields},
        near=[one for one in fields if _is_near(upload, one)],
        far=[one for one in fields if not _is_near(upload, one)],
    )


def _is_near(upload: SheetUpload, one: SheetField) -> bool:
    """Tell whether a field stands at the top: it is needed, or something fills it."""
    is_filled = one.name in upload.columns or one.name in upload.fixed
    return is_filled or (one.is_required and not one.goes_without)


@blueprint.post("/sheets/<upload_id>/type")
@require("sources:write")
def choose_sheet_type(upload_id: str) -> Any:
    """Say what the rows are; the columns are matched anew."""
    who = principal()
    try:
        with transaction(who.organization_id) as session:
            upload = uploads.find(session, who.organization_id, upload_id)
            uploads.retype(session, upload, typed("event_type"))
    except Problem as problem:
        return _draw_one(upload_id, problem)
    return go(f"/sheets/{upload_id}", done="sheet_arranged")


@blueprint.post("/sheets/<upload_id>/columns")
@require("sources:write")
def arrange_sheet(upload_id: str) -> Any:
    """Say which column fills which field."""
    who = principal()
    columns = {
        name: int(text)
        for name, text in typed_under("column").items()
        if text.isascii() and text.isdigit() and len(text) < 4
    }
    try:
        with transaction(who.organization_id) as session:
            upload = uploads.find(session, who.organization_id, upload_id)
            uploads.arrange(session, upload, columns, typed_under("fixed", 500))
    except Problem as problem:
        return _draw_one(upload_id, problem)
    return go(f"/sheets/{upload_id}", done="sheet_arranged")


@blueprint.post("/sheets/<upload_id>/let-in")
@require("sources:write")
def let_sheet_in(upload_id: str) -> Any:
    """Let the rows in as events."""
    who = principal()
    try:
        with transaction(who.organization_id) as session:
            upload = uploads.find(session, who.organization_id, upload_id)
            uploads.let_in(session, upload)
            audit.record(session, who, "sheet.let_in", upload_id)
    except Problem as problem:
        return _draw_one(upload_id, problem)
    return go(f"/sheets/{upload_id}", done="sheet_let_in")


@blueprint.post("/sheets/<upload_id>/give-up")
@require("sources:write")
def give_sheet_up(upload_id: str) -> Any:
    """Throw the file away."""
    who = principal()
    try:
        with transaction(who.organization_id) as session:
            uploads.give_up(uploads.find(session, who.organization_id, upload_id))
            audit.record(session, who, "sheet.given_up", upload_id)
    except Problem as problem:
        return _draw_one(upload_id, problem)
    return go("/sheets", done="sheet_given_up")


@blueprint.get("/sheet-template")
@require("sources:read")
def sheet_template() -> Any:
    """Send an .xlsx file to fill in for an event type."""
    organization_id = principal().organization_id
    name = request.args.get("event_type", "")[:200]
    if not name:
        return go("/sheets")
    language = "zh" if str(get_locale() or "zh").startswith("zh") else "en"
    with reading(organization_id) as session:
        file = uploads.template(session, organization_id, name, language)
    return Response(
        file,
        mimetype=XLSX,
        headers={"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name)}.xlsx"},
    )
