"""The JSON routes of spreadsheets."""

import base64
import binascii

from flask import Blueprint
from sqlmodel import Session

from connectors.sheets import uploads
from connectors.sheets.schemas import SheetColumnsIn, SheetIn, SheetOut
from connectors.sheets.tables import SheetUpload
from identity import audit
from identity.guard import principal, require
from kernel.database import reading, transaction
from kernel.errors import N_, Invalid
from kernel.web import operation

blueprint = Blueprint("sheets", __name__)


def _shaped(session: Session, upload: SheetUpload, *, looks: bool = True) -> SheetOut:
    known = {name: getattr(upload, name) for name in SheetOut.model_fields if hasattr(upload, name)}
    found = SheetOut(**known)
    if looks and upload.state == "draft" and upload.event_type:
        preview = uploads.preview(session, upload)
        if preview is not None:
            found.missing = [one.name for one in preview.missing]
            found.events = preview.events
            found.problems = [
                {"row": one.row, "field": one.field, "text": one.text, "say": dict(one.say)}
                for one in preview.wrong
            ]
    return found


@blueprint.get("/sheets")
@require("sources:read")
@operation(summary="List the spreadsheets that were sent in", returns=SheetOut, many=True)
def list_sheets() -> list[SheetOut]:
    """Return the latest spreadsheets, the newest first."""
    organization_id = principal().organization_id
    with reading(organization_id) as session:
        found = uploads.recent(session, organization_id)
        return [_shaped(session, one, looks=False) for one in found]


@blueprint.post("/sheets")
@require("sources:write")
@operation(summary="Send a spreadsheet in", body=SheetIn, returns=SheetOut, status=201)
def send_sheet(body: SheetIn) -> SheetOut:
    """Keep an .xlsx or .csv file and match its columns; nothing comes in yet."""
    who = principal()
    try:
        content = base64.b64decode(body.content_base64, validate=True)
    except (binascii.Error, ValueError) as bad:
        message = N_("This is not written in base64")
        raise Invalid(errors=[{"pointer": "/content_base64", "message": message}]) from bad
    with transaction(who.organization_id) as session:
        upload = uploads.send_in(
            session,
            who.organization_id,
            name=body.name,
            content=content,
            uploaded_by=who.name,
            event_type=body.event_type,
        )
        audit.record(session, who, "sheet.uploaded", upload.id)
        return _shaped(session, upload)


@blueprint.get("/sheets/<upload_id>")
@require("sources:read")
@operation(summary="Show a spreadsheet", returns=SheetOut)
def show_sheet(upload_id: str) -> SheetOut:
    """Return how the columns are matched and what is wrong, or what came of it."""
    organization_id = principal().organization_id
    with reading(organization_id) as session:
        return _shaped(session, uploads.find(session, organization_id, upload_id))


@blueprint.post("/sheets/<upload_id>/columns")
@require("sources:write")
@operation(summary="Match the columns", body=SheetColumnsIn, returns=SheetOut)
def arrange_sheet(upload_id: str, body: SheetColumnsIn) -> SheetOut:
    """Say which column fills which field, and what is the same in all rows."""
    who = principal()
    with transaction(who.organization_id) as session:
        upload = uploads.find(session, who.organization_id, upload_id)
        uploads.arrange(session, upload, body.columns, body.fixed)
        return _shaped(session, upload)


@blueprint.post("/sheets/<upload_id>/let-in")
@require("sources:write")
@operation(summary="Let a spreadsheet's rows in as events", returns=SheetOut)
def let_sheet_in(upload_id: str) -> SheetOut:
    """Let the rows in as events, from now on; what came in before does not come twice."""
    who = principal()
    with transaction(who.organization_id) as session:
        upload = uploads.find(session, who.organization_id, upload_id)
        uploads.let_in(session, upload)
        audit.record(session, who, "sheet.let_in", upload_id)
        return _shaped(session, upload)


@blueprint.delete("/sheets/<upload_id>")
@require("sources:write")
@operation(summary="Throw a spreadsheet away", status=204)
def give_sheet_up(upload_id: str) -> None:
    """Throw a file away that was not let in."""
    who = principal()
    with transaction(who.organization_id) as session:
        uploads.give_up(uploads.find(session, who.organization_id, upload_id))
        audit.record(session, who, "sheet.given_up", upload_id)
