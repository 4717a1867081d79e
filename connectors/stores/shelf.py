"""The shelf: the store's operations over a dictionary, for trying a flow out."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from connectors.engine.findings import EngineError
from connectors.engine.functions import to_decimal
from connectors.stores import errors
from connectors.stores.errors import Refused

Shelf = dict[str, dict[str, Any]]  # collection → key → value


def do(shelf: Shelf, given: Mapping[str, Any]) -> dict[str, Any]:
    """Carry out one operation, as connectors.stores.values does; raises Refused.

    A step that is tried out may be unfinished: what it does not say yet is empty here.
    """
    kept = shelf.setdefault(str(given.get("collection") or ""), {})
    operation, entry = given.get("operation"), given.get("entry") or ""
    if operation == "get":
        return {"found": entry in kept, "value": kept.get(entry)}
    if operation == "list":
        limit = int(given.get("limit") or 100)
        names = sorted(name for name in kept if name.startswith(given.get("prefix") or ""))
        items = [{"entry": name, "value": kept[name]} for name in names[:limit]]
        return {"items": items, "count": len(items), "more": len(names) > limit}
    if operation == "delete":
        return {"found": kept.pop(entry, None) is not None}
    if operation == "add":
        kept[entry] = total(kept.get(entry), given.get("amount"))
        return {"value": kept[entry]}
    is_new = entry not in kept
    kept[entry] = given.get("value")
    return {"is_new": is_new}


def total(before: Any, amount: Any) -> Any:
    """Return a kept number, or none yet, with an amount added, exactly; raises Refused."""
    try:
        more = to_decimal(amount)
    except EngineError as no:
        raise Refused("data", errors.NO_AMOUNT) from no
    try:
        found = (Decimal(0) if before is None else to_decimal(before)) + more
    except EngineError as no:
        raise Refused("data", errors.NO_NUMBER) from no
    return int(found) if found == found.to_integral_value() else found
