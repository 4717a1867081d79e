"""The piece of a form that offers an app's choices for one field."""

import re
from typing import Any
from urllib.parse import urlencode

from flask import request

from connectors import connections
from connectors.engine import loader
from connectors.lookups import asking, lookups
from connectors.pages.drawing import blueprint, draw
from identity.guard import principal, require
from kernel.database import reading
from kernel.errors import Problem

_FIELD = re.compile(r"[a-z0-9._-]{1,80}")


@blueprint.get("/connections/<connection_id>/lookups/<lookup_key>")
@require("flows:write")
def show_lookup(connection_id: str, lookup_key: str) -> Any:
    """Show the choices as a select, with a search and a way to ask the app again."""
    who = principal()
    with reading(who.organization_id) as session:
        connection = connections.find(session, who.organization_id, connection_id)
    connector = loader.known(connection.connector_key)
    lookup = connector.lookups.get(lookup_key) if connector else None
    if lookup is None:
        raise lookups.unknown(lookup_key)
    field = request.args.get("field", "")
    query = {name: value for name, value in request.args.items() if name.startswith("input.")}
    values: dict[str, Any] = {
        "connection": connection,
        "lookup": lookup,
        "field": field if _FIELD.fullmatch(field) else "choice",
        "current": request.args.get("current", "")[:300],
        "search": request.args.get("search", "")[:100],
    }
    values["asked"] = urlencode({"field": values["field"], "current": values["current"], **query})
    try:
        asked = {**request.args, "limit": "200"}
        found = asking.choices_for(who.organization_id, connection, lookup_key, asked)
    except Problem as problem:
        return draw("lookup.html", problem=problem, found=None, **values)
    return draw("lookup.html", found=found, **values)
