"""The JSON routes of lookups: what a connection's app has to choose from."""

from typing import Any

from flask import Blueprint, request

from connectors import connections
from connectors.engine import loader
from connectors.lookups import asking, schemas
from identity.guard import principal, require
from kernel.database import reading
from kernel.web import operation

blueprint = Blueprint("lookups", __name__)


@blueprint.get("/connections/<connection_id>/lookups")
@require("connections:read")
@operation(summary="List what there is to choose from", returns=schemas.LookupOut, many=True)
def list_lookups(connection_id: str) -> Any:
    """Return the lists of choices that a connection's app has."""
    who = principal()
    with reading(who.organization_id) as session:
        connection = connections.find(session, who.organization_id, connection_id)
    connector = loader.find(connection.connector_key)
    return [
        schemas.LookupOut(
            key=one.key,
            title=dict(one.title),
            input=dict(one.input),
            cache_seconds=one.cache_seconds,
            searches=one.searches,
            confidence=one.confidence,
        )
        for one in connector.lookups.values()
    ]


@blueprint.get("/connections/<connection_id>/lookups/<lookup_key>")
@require("flows:write")
@operation(summary="Read what there is to choose from", returns=schemas.ChoicesOut)
def read_lookup(connection_id: str, lookup_key: str) -> Any:
    """Return choices of a connection's app: kept ones, or fresh ones with ?refresh=true.

    ?search=, ?cursor=, ?limit= choose among them; ?input.name= says what they depend on.
    """
    who = principal()
    with reading(who.organization_id) as session:
        connection = connections.find(session, who.organization_id, connection_id)
    found = asking.choices_for(who.organization_id, connection, lookup_key, request.args)
    return schemas.ChoicesOut(
        items=[schemas.ChoiceOut(**one) for one in found.items],
        next_cursor=found.next_cursor,
        fetched_at=found.fetched_at,
        is_cut=found.is_cut,
        problem=dict(found.problem) if found.problem else None,
    )
