"""Departures: where a value no longer fits its schema, or has what the schema does not know."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from connectors.engine import schemas
from connectors.engine.findings import escape

MOST = 20  # of one value
MAX_PLACES = 2_000
_EXAMPLE = 40
_LETTER, _DIGIT = re.compile(r"[^\W\d_]"), re.compile(r"\d")


@dataclass(frozen=True, slots=True)
class Departure:
    """One place where a value departs from its schema; list positions are `*` in the path."""

    kind: str  # new | missing | other | code
    path: str
    wanted: str = ""
    example: str = ""


def of(schema: Any, value: Any) -> list[Departure]:
    """Return where a value departs from a schema, each place once."""
    walk = _Walk(schema)
    walk.visit(schema, value, "")
    return list(walk.found.values())


class _Walk:
    """Goes through a value beside its schema."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self.found: dict[tuple[str, str], Departure] = {}
        self.places = MAX_PLACES

    def visit(self, schema: Any, value: Any, at: str) -> None:
        """Compare one place and those below it."""
        self.places -= 1
        node = schemas.deref(self.root, schema)
        if self.places < 0 or not isinstance(node, Mapping):
            return
        wanted = schemas.kinds(node)
        if wanted and not _fits(value, wanted):
            self._note("other", at, "/".join(sorted(wanted)), value)
            return
        codes = node.get("enum")
        if isinstance(codes, list) and codes and value not in codes:
            self._note("code", at, "", value)
        if isinstance(value, Mapping):
            self._object(node, value, at)
        elif isinstance(value, list) and "items" in node:
            for one in value:
                self.visit(node["items"], one, f"{at}/*")

    def _object(self, node: Mapping[str, Any], value: Mapping[str, Any], at: str) -> None:
        properties = node.get("properties") or {}
        for name in node.get("required", []):
            if name not in value:
                self._note("missing", f"{at}/{escape(name)}", "", None)
        is_open = isinstance(node.get("additionalProperties"), Mapping) or not properties
        for name, one in value.items():
            below = f"{at}/{escape(str(name))}"
            if name in properties:
                self.visit(properties[name], one, below)
            elif not is_open and not any(word in node for word in _MORE):
                self._note("new", below, "", one)

    def _note(self, kind: str, path: str, wanted: str, value: Any) -> None:
        if len(self.found) < MOST:
            key = (kind, path[:300])
            example = "" if kind == "missing" else masked(value)
            self.found.setdefault(key, Departure(kind, path[:300], wanted[:100], example))


_MORE = ("allOf", "anyOf", "oneOf", "patternProperties", "if")


def _fits(value: Any, wanted: set[str]) -> bool:
    kind = schemas.kind(value)
    return kind in wanted or (kind == "integer" and "number" in wanted)


def masked(value: Any) -> str:
    """Return what a value looks like without telling it: letters as x, digits as 9."""
    kind = schemas.kind(value)
    if isinstance(value, Mapping):
        return f"{kind} ({len(value)})"
    if isinstance(value, list):
        return f"{kind} ({len(value)})"
    if value is None or isinstance(value, bool):
        return kind
    text = str(value)
    shape = _DIGIT.sub("9", _LETTER.sub("x", text[:_EXAMPLE]))
    return f"{kind}: {shape}{'…' if len(text) > _EXAMPLE else ''}"
