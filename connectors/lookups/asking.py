"""What a request for choices says: on which other values they depend, and which page of them."""

from collections.abc import Mapping
from typing import Any

from connectors.engine import loader, schemas
from connectors.lookups import lookups
from connectors.lookups.lookups import Choices

MAX_LIMIT = 200


def choices_for(
    organization_id: str, connection: Any, key: str, query: Mapping[str, str]
) -> Choices:
    """Return the choices that the parameters of an address ask for."""
    connector = loader.known(connection.connector_key)
    lookup = connector.lookups.get(key) if connector else None
    given = _given(lookup.input if lookup else {}, query)
    limit = query.get("limit", "")
    return lookups.find(
        organization_id,
        connection.id,
        key,
        given,
        search=query.get("search", "")[:100],
        cursor=query.get("cursor"),
        limit=min(max(int(limit), 1), MAX_LIMIT) if limit.isascii() and limit.isdigit() else 50,
        refresh=query.get("refresh") in ("1", "true"),
    )


def _given(schema: Any, query: Mapping[str, str]) -> dict[str, Any]:
    """Read `input.name=value`; what the schema wants as a number becomes one."""
    found: dict[str, Any] = {}
    for name, text in query.items():
        if not name.startswith("input.") or text == "":
            continue
        field = name.removeprefix("input.")
        declared = schemas.declared_below(schema, schema, field)[1]
        wanted = schemas.kinds(schemas.deref(schema, declared))
        is_number = "integer" in wanted and "string" not in wanted
        found[field] = int(text) if is_number and text.isascii() and text.isdigit() else text
    return found
