"""What members may ask for: exports to take along, and erasures with their receipts."""

from typing import Any

from flask import Response, request

from identity import audit
from identity.guard import principal, require
from kernel import clock
from kernel.database import reading, transaction
from kernel.errors import Problem
from kernel.web import page_of
from webhooks.keeping import chunks, erasures, exports
from webhooks.keeping.tables import DATA_EXPORT, ERASURE, DataExport, Erasure
from webhooks.pages.archive import span_typed
from webhooks.pages.drawing import blueprint, draw, go, typed


@blueprint.get("/exports")
@require("data:export")
def list_exports() -> Any:
    """Show the exports that were asked for."""
    return _draw_exports()


def _draw_exports(problem: Problem | None = None) -> Any:
    organization_id = principal().organization_id
    cursor = request.args.get("cursor")
    with reading(organization_id) as session:
        wanted = DataExport.of(organization_id)
        page = page_of(session, wanted, DATA_EXPORT.c.id, cursor=cursor, limit=20)
    is_moving = any(one.state in exports.OPEN for one in page.items)
    today = chunks.day_of(clock.now())
    return draw("exports.html", problem=problem, page=page, is_moving=is_moving, today=today)


@blueprint.post("/exports")
@require("data:export")
def ask_for_export() -> Any:
    """Ask for a file with the events of some days."""
    who = principal()
    try:
        span = span_typed()
        with transaction(who.organization_id) as session:
            made = exports.ask(session, who, span)
            audit.record(session, who, "export.asked", made.id, detail=exports.told(made))
    except Problem as problem:
        return _draw_exports(problem)
    return go("/exports", "export_asked")


@blueprint.post("/exports/<export_id>/cancel")
@require("data:export")
def cancel_export(export_id: str) -> Any:
    """Stop an export."""
    who = principal()
    try:
        with transaction(who.organization_id) as session:
            exports.cancel(session, who.organization_id, export_id)
            audit.record(session, who, "export.cancelled", export_id)
    except Problem as problem:
        if problem.status == 404:
            raise
        return _draw_exports(problem)
    return go("/exports", "export_cancelled")


@blueprint.get("/exports/<export_id>/file")
@require("data:export")
def download_export(export_id: str) -> Response:
    """Give the file, and note who took it."""
    return download(export_id)


def download(export_id: str) -> Response:
    """Stream an export's .zip to whoever may have it."""
    who = principal()
    with reading(who.organization_id) as session:
        export = exports.get(session, who.organization_id, export_id)
    pieces = exports.open_file(export)
    with transaction(who.organization_id) as session:
        audit.record(session, who, "export.downloaded", export_id)
    answer = Response(pieces, mimetype="application/zip")
    answer.headers["Content-Length"] = str(export.byte_count)
    answer.headers["Content-Disposition"] = f'attachment; filename="{export.id}.zip"'
    answer.headers["Cache-Control"] = "private, no-store"
    answer.headers["Repr-Digest"] = exports.digest_field(export)
    return answer


@blueprint.get("/erasures")
@require("data:erase")
def list_erasures() -> Any:
    """Show what was asked to be erased."""
    return _draw_erasures()


def _draw_erasures(problem: Problem | None = None) -> Any:
    organization_id = principal().organization_id
    cursor = request.args.get("cursor")
    with reading(organization_id) as session:
        wanted = Erasure.of(organization_id)
        page = page_of(session, wanted, ERASURE.c.id, cursor=cursor, limit=20)
    return draw("erasures.html", problem=problem, page=page)


@blueprint.post("/erasures")
@require("data:erase")
def ask_for_erasure() -> Any:
    """Ask for everything about a subject, or one event, to be erased."""
    who = principal()
    try:
        with transaction(who.organization_id) as session:
            made = erasures.ask(session, who, typed("kind", 20), typed("value", 501))
    except Problem as problem:
        return _draw_erasures(problem)
    return go(f"/erasures/{made.id}", "erasure_asked")


@blueprint.get("/erasures/<erasure_id>")
@require("data:erase")
def show_erasure(erasure_id: str) -> Any:
    """Show the receipt of an erasure."""
    organization_id = principal().organization_id
    with reading(organization_id) as session:
        found = erasures.get(session, organization_id, erasure_id)
    return draw("erasure.html", erasure=found, is_moving=found.state in erasures.OPEN)
