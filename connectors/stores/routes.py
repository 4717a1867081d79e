"""The JSON routes of the data store."""

from typing import Any

from flask import Blueprint, request
from sqlmodel import col

from connectors.errors import NotNow
from connectors.stores import schemas, values
from connectors.stores.errors import Refused
from connectors.stores.tables import StoredValue
from identity import audit
from identity.guard import principal, require
from kernel.database import reading, store_now, transaction
from kernel.errors import N_
from kernel.web import localized, operation, page_of

blueprint = Blueprint("stores", __name__)


@blueprint.get("/stores")
@require("stores:read")
@operation(summary="List the collections", returns=schemas.CollectionOut, many=True)
def list_collections() -> Any:
    """Return the collections of the data store by name, with how much they hold."""
    who = principal()
    with reading(who.organization_id) as session:
        return values.collections(session, who.organization_id)


@blueprint.post("/stores")
@require("stores:write")
@operation(summary="Keep a value", body=schemas.ValueIn, returns=schemas.ValueOut)
def keep_value(body: schemas.ValueIn) -> Any:
    """Keep a value under its key; what was there is replaced."""
    who = principal()
    given: dict[str, Any] = {"operation": "put", "collection": body.collection, "entry": body.key}
    given |= {"value": body.value, "expires": body.expires_seconds}
    try:
        with transaction(who.organization_id) as session:
            values.do(session, who.organization_id, given, who.actor_id)
            detail = {"collection": body.collection}
            audit.record(session, who, "store.value_kept", body.key[:40], detail=detail)
            return values.find(session, who.organization_id, body.collection, body.key)
    except Refused as no:
        raise NotNow(N_("The value was not kept"), localized(no.say)) from no


@blueprint.get("/stores/<collection>")
@require("stores:read")
@operation(summary="List a collection", returns=schemas.ValueOut, many=True)
def list_values(collection: str) -> Any:
    """Return a collection's values, the newest first; `prefix` says how their keys begin, `key`
    asks for one.
    """
    who, given = principal(), request.args
    with reading(who.organization_id) as session:
        values.check_there(session, who.organization_id, collection)
        chosen = values.select_values(who.organization_id, collection, given.get("prefix", ""))
        chosen = chosen.where(values.is_alive(store_now(session)))
        if given.get("key"):
            chosen = chosen.where(col(StoredValue.key) == given["key"])
        limit = given.get("limit", 50, type=int)
        return page_of(session, chosen, StoredValue.id, cursor=given.get("cursor"), limit=limit)


@blueprint.get("/stores/<collection>/values/<value_id>")
@require("stores:read")
@operation(summary="Read a value", returns=schemas.ValueOut)
def read_value(collection: str, value_id: str) -> Any:
    """Return one value."""
    who = principal()
    with reading(who.organization_id) as session:
        return values.one_of(session, who.organization_id, collection, value_id)


@blueprint.delete("/stores/<collection>/values/<value_id>")
@require("stores:write")
@operation(summary="Delete a value", status=204)
def delete_value(collection: str, value_id: str) -> Any:
    """Delete one value."""
    who = principal()
    with transaction(who.organization_id) as session:
        row = values.one_of(session, who.organization_id, collection, value_id)
        values.remove(session, who.organization_id, collection, row.key)
        detail = {"collection": collection}
        audit.record(session, who, "store.value_deleted", value_id, detail=detail)


@blueprint.delete("/stores/<collection>")
@require("stores:write")
@operation(summary="Delete a collection", status=204)
def delete_collection(collection: str) -> Any:
    """Delete a collection with all its values."""
    who = principal()
    with transaction(who.organization_id) as session:
        values.remove(session, who.organization_id, collection, None)
        audit.record(session, who, "store.collection_deleted", collection)
