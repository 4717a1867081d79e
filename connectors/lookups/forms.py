"""What a form knows of a field's choices before anybody asks the app."""

from collections.abc import Iterable
from typing import Any

from connectors.engine import choices
from connectors.field_paths import leaves
from connectors.flow_documents import action_of
from connectors.mapping_rows import Row
from kernel.errors import NotFound


def lookup_of(
    connector_key: str | None, action_key: str | None, target: str, rows: Iterable[Row]
) -> dict[str, Any] | None:
    """Return {key, title, query, needs} of the choices for a field of an action, None without.

    What they depend on is taken from the other rows where those hold a plain value; `needs` names
    what nobody filled in yet.
    """
    try:
        connector, action = action_of(connector_key or "", action_key or "")
    except NotFound:
        return None
    if not connector.lookups:
        return None
    titles = {".".join(leaf.path): leaf for leaf in leaves(action.input)}
    named = choices.of_field(titles[target].schema) if target in titles else None
    lookup = connector.lookups.get(named[0]) if named else None
    if named is None or lookup is None:
        return None
    given = {row.target: row.source.strip() for row in rows if row.how != "yaml"}
    known = {name: given.get(str(field), "") for name, field in named[1].items()}
    query = {name: text for name, text in known.items() if text and "${" not in text}
    needs = [
        titles[named[1][name]].title if named[1].get(name) in titles else name
        for name in lookup.input.get("required", [])
        if name not in query
    ]
    return {
        "key": lookup.key,
        "title": lookup.title,
        "query": {f"input.{name}": text for name, text in query.items()},
        "needs": needs,
    }
