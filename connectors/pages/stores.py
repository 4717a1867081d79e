"""The pages of the data store: the collections, one of them, and its values as a file."""

from typing import Any

from flask import Response, request

from connectors.pages.drawing import blueprint, draw, go
from connectors.stores import exporting, values
from connectors.stores.tables import StoredValue
from identity import audit
from identity.guard import principal, require
from kernel.database import reading, store_now, transaction
from kernel.settings import settings
from kernel.web import page_of


@blueprint.get("/stores")
@require("stores:read")
def list_stores() -> Any:
    """Show the collections, and how much of the store is used."""
    who = principal()
    with reading(who.organization_id) as session:
        found = values.collections(session, who.organization_id)
        used = values.use(session, who.organization_id)
    limits = settings().store_limit_values, settings().store_limit_bytes
    return draw("stores.html", collections=found, used=used, limits=limits)


@blueprint.get("/stores/<collection>")
@require("stores:read")
def show_store(collection: str) -> Any:
    """Show a collection's values, those whose keys begin with what was searched for."""
    who, prefix = principal(), request.args.get("q", "")[:200].replace("\0", "")
    with reading(who.organization_id) as session:
        values.check_there(session, who.organization_id, collection)
        chosen = values.select_values(who.organization_id, collection, prefix)
        chosen = chosen.where(values.is_alive(store_now(session)))
        page = page_of(session, chosen, StoredValue.id, cursor=request.args.get("cursor"), limit=30)
    return draw("store.html", collection=collection, page=page, prefix=prefix)


@blueprint.get("/stores/<collection>/csv")
@require("stores:read")
def export_store(collection: str) -> Any:
    """Send a collection as a file for a spreadsheet."""
    who, prefix = principal(), request.args.get("q", "")[:200].replace("\0", "")
    with reading(who.organization_id) as session:
        values.check_there(session, who.organization_id, collection)
    lines = exporting.as_csv(who.organization_id, collection, prefix)
    headers = {"content-disposition": f'attachment; filename="{collection}.csv"'}
    return Response(lines, mimetype="text/csv; charset=utf-8", headers=headers)


@blueprint.post("/stores/<collection>/values/<value_id>/delete")
@require("stores:write")
def delete_stored_value(collection: str, value_id: str) -> Any:
    """Delete one value."""
    who = principal()
    with transaction(who.organization_id) as session:
        row = values.one_of(session, who.organization_id, collection, value_id)
        values.remove(session, who.organization_id, collection, row.key)
        detail = {"collection": collection}
        audit.record(session, who, "store.value_deleted", value_id, detail=detail)
        is_left = any(
            one.collection == collection for one in values.collections(session, who.organization_id)
        )
    return go(f"/stores/{collection}" if is_left else "/stores", done="value_deleted")


@blueprint.post("/stores/<collection>/delete")
@require("stores:write")
def delete_store(collection: str) -> Any:
    """Delete a collection with all its values."""
    who = principal()
    with transaction(who.organization_id) as session:
        values.remove(session, who.organization_id, collection, None)
        audit.record(session, who, "store.collection_deleted", collection)
    return go("/stores", done="collection_deleted")
