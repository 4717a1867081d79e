"""Fields: what a row may fill of an event type, taken from the type's schema.

A field of a list of objects, such as an order's lines, has its list in the path: rows that stand
under each other and are about the same thing fill one entry each.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

MAX_FIELDS = 150
MAX_DEPTH = 6
LIST = "[]"
# What is meant when a sheet does not say it; people see it next to the field.
USUAL = {"currency": "CNY", "unit_code": "C62"}


@dataclass(frozen=True, slots=True)
class SheetField:
    """One value of an event: its path, how it is called, and what it must be."""

    path: tuple[str, ...]  # "lines", "[]", "item", "sku"
    titles: tuple[Mapping[str, str], ...]  # of each named part of the path
    schema: Mapping[str, Any]
    kind: str  # string | integer | number | boolean | list
    is_required: bool  # of the event, or of an entry of its list

    @property
    def name(self) -> str:
        """Return the field's name in forms: lines[].item.sku."""
        return ".".join(self.path).replace(f".{LIST}", LIST)

    @property
    def title(self) -> dict[str, str]:
        """Return how people call it, with what it is part of."""
        joined = {"zh": " · ", "en": " · "}
        return {
            language: sign.join(_said(one, language) for one in self.titles)
            for language, sign in joined.items()
        }

    @property
    def is_listed(self) -> bool:
        """Tell whether it belongs to an entry of a list."""
        return LIST in self.path

    @property
    def usual(self) -> str | None:
        """Return what stands for it when no column does."""
        return USUAL.get(self.path[-1])

    @property
    def goes_without(self) -> bool:
        """Tell whether something stands for it by itself: the usual, or a line's number."""
        return self.usual is not None or self.path[-1] == "line_id"

    @property
    def is_moment(self) -> bool:
        """Tell whether it is a point in time."""
        return self.schema.get("format") == "date-time"


def _said(title: Any, language: str) -> str:
    return str(title.get(language) or next(iter(title.values()), "")) if title else ""


def of_schema(schema: Mapping[str, Any] | None) -> list[SheetField]:
    """Return the fields of an event type's schema, the required ones first."""
    if not schema:
        return []
    found: list[SheetField] = []
    for field in _walk(schema, schema, (), (), needed=True):
        found.append(field)
        if len(found) >= MAX_FIELDS:
            break
    return sorted(found, key=lambda one: not one.is_required)


def _walk(
    root: Mapping[str, Any],
    schema: Mapping[str, Any],
    path: tuple[str, ...],
    titles: tuple[Any, ...],
    *,
    needed: bool,
) -> Iterator[SheetField]:
    schema = _followed(root, schema)
    kind = _kind(schema)
    if kind == "object" and len(path) < MAX_DEPTH:
        required = set(schema.get("required", ()))
        for name, inner in schema.get("properties", {}).items():
            if isinstance(inner, Mapping) and "." not in name:
                title = inner.get("x-title") or {"zh": name, "en": name}
                yield from _walk(
                    root, inner, (*path, name), (*titles, title), needed=needed and name in required
                )
    elif kind == "array":
        yield from _of_list(root, schema, path, titles, needed=needed)
    elif kind in ("string", "integer", "number", "boolean") and path:
        yield SheetField(path, titles, schema, kind, needed)


def _of_list(
    root: Mapping[str, Any],
    schema: Mapping[str, Any],
    path: tuple[str, ...],
    titles: tuple[Any, ...],
    *,
    needed: bool,
) -> Iterator[SheetField]:
    items = schema.get("items")
    inner = _followed(root, items) if isinstance(items, Mapping) else {}
    if _kind(inner) == "object" and LIST not in path:
        yield from _walk(root, inner, (*path, LIST), titles, needed=needed)
    elif _kind(inner) == "string" and path:
        yield SheetField(path, titles, inner, "list", needed)


def _followed(root: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a schema with its reference followed, its own words kept."""
    for _ in range(8):
        reference = schema.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#/$defs/"):
            return schema
        shared = root.get("$defs", {}).get(reference.removeprefix("#/$defs/"), {})
        own = {key: value for key, value in schema.items() if key != "$ref"}
        schema = {**shared, **own}
    return schema


def _kind(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), None)
    if kind is None and "enum" in schema:
        return "string"
    if kind is None and "properties" in schema:
        return "object"
    return str(kind or "")
