"""Exports and erasures over JSON."""

from flask import Blueprint, Response, request

from identity import audit
from identity.guard import principal, require
from kernel.database import reading, transaction
from kernel.web import Page, operation, page_of
from webhooks.keeping import erasures, exports
from webhooks.keeping.restoring import Span
from webhooks.keeping.schemas import ErasureIn, ErasureOut, ExportIn, ExportOut
from webhooks.keeping.tables import DATA_EXPORT, ERASURE, DataExport, Erasure
from webhooks.pages.wishes import download

blueprint = Blueprint("wishes", __name__)


@blueprint.get("/exports")
@require("data:export")
@operation(summary="List exports", returns=ExportOut, many=True)
def list_exports() -> Page:
    organization_id = principal().organization_id
    cursor, limit = request.args.get("cursor"), request.args.get("limit", 50, type=int)
    with reading(organization_id) as session:
        wanted = DataExport.of(organization_id)
        return page_of(session, wanted, DATA_EXPORT.c.id, cursor=cursor, limit=limit)


@blueprint.post("/exports")
@require("data:export")
@operation(
    summary="Ask for a file with events, deliveries and runs",
    body=ExportIn,
    returns=ExportOut,
    status=202,
)
def ask_for_export(body: ExportIn) -> DataExport:
    who = principal()
    with transaction(who.organization_id) as session:
        made = exports.ask(session, who, Span(body.since, body.until, body.event_types))
        audit.record(session, who, "export.asked", made.id, detail=exports.told(made))
    return made


@blueprint.get("/exports/<export_id>")
@require("data:export")
@operation(summary="Show an export and how far it is", returns=ExportOut)
def show_export(export_id: str) -> DataExport:
    organization_id = principal().organization_id
    with reading(organization_id) as session:
        return exports.get(session, organization_id, export_id)


@blueprint.post("/exports/<export_id>/cancel")
@require("data:export")
@operation(summary="Stop an export", returns=ExportOut)
def cancel_export(export_id: str) -> DataExport:
    who = principal()
    with transaction(who.organization_id) as session:
        found = exports.cancel(session, who.organization_id, export_id)
        audit.record(session, who, "export.cancelled", export_id)
    return found


@blueprint.get("/exports/<export_id>/file")
@require("data:export")
@operation(summary="Download an export's .zip")
def download_export(export_id: str) -> Response:
    return download(export_id)


@blueprint.get("/erasures")
@require("data:erase")
@operation(summary="List erasures", returns=ErasureOut, many=True)
def list_erasures() -> Page:
    organization_id = principal().organization_id
    cursor, limit = request.args.get("cursor"), request.args.get("limit", 50, type=int)
    with reading(organization_id) as session:
        wanted = Erasure.of(organization_id)
        return page_of(session, wanted, ERASURE.c.id, cursor=cursor, limit=limit)


@blueprint.post("/erasures")
@require("data:erase")
@operation(
    summary="Ask for data to be erased, live and archived",
    body=ErasureIn,
    returns=ErasureOut,
    status=202,
)
def ask_for_erasure(body: ErasureIn) -> Erasure:
    who = principal()
    with transaction(who.organization_id) as session:
        return erasures.ask(session, who, body.kind, body.value)


@blueprint.get("/erasures/<erasure_id>")
@require("data:erase")
@operation(summary="Show the receipt of an erasure", returns=ErasureOut)
def show_erasure(erasure_id: str) -> Erasure:
    organization_id = principal().organization_id
    with reading(organization_id) as session:
        return erasures.get(session, organization_id, erasure_id)
