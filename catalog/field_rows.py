"""Schemas as people read them: one row for each field, in reading order."""

from dataclasses import dataclass, field
from typing import Any

MAX_ROWS = 400
# shapes everybody knows after the first look; their insides are not repeated in every table
_CLOSED = frozenset({"money", "quantity", "signed_quantity"})


@dataclass(frozen=True)
class FieldRow:
    """One field of a schema as a table shows it."""

    path: str
    depth: int
    name: str
    title: dict[str, str] | None
    kind: str
    about: dict[str, str] | str | None
    rules: list[str]
    is_required: bool
    labels: dict[str, dict[str, str]] = field(default_factory=dict)  # of known codes


def fields_of(schema: dict[str, Any]) -> list[FieldRow]:
    """List a schema's fields with the fields inside them, in reading order."""
    rows: list[FieldRow] = []
    _collect(schema, schema, "", 0, rows)
    return rows[:MAX_ROWS]


def _collect(
    root: dict[str, Any], schema: dict[str, Any], path: str, depth: int, rows: list[FieldRow]
) -> None:
    required = set(schema.get("required", ())) | set(_resolved(root, schema).get("required", ()))
    for name, part in _resolved(root, schema).get("properties", {}).items():
        if not isinstance(part, dict) or len(rows) >= MAX_ROWS:
            continue
        full = _resolved(root, part)
        rows.append(
            FieldRow(
                path=f"{path}/{name}",
                depth=depth,
                name=name,
                title=part.get("x-title") or full.get("x-title"),
                kind=_kind(root, part),
                about=full.get("x-about") or full.get("description"),
                rules=_rules(full),
                is_required=name in required,
                labels=full.get("x-labels") or {},
            )
        )
        if depth < 3 and rows[-1].kind.removesuffix("[]") not in _CLOSED:
            inner = full.get("items") if full.get("type") == "array" else part
            if isinstance(inner, dict):
                below = f"{path}/{name}/*" if full.get("type") == "array" else f"{path}/{name}"
                _collect(root, inner, below, depth + 1, rows)


def _resolved(root: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    reference = part.get("$ref")
    if not isinstance(reference, str) or not reference.startswith("#/$defs/"):
        return part
    target = root.get("$defs", {}).get(reference.removeprefix("#/$defs/"), {})
    return {**target, **{key: value for key, value in part.items() if key != "$ref"}}


def _kind(root: dict[str, Any], part: dict[str, Any]) -> str:
    reference = part.get("$ref")
    if isinstance(reference, str):
        return reference.rpartition("/")[2]
    kind = part.get("type")
    if kind == "array" and isinstance(part.get("items"), dict):
        return f"{_kind(root, part['items'])}[]"
    if isinstance(kind, list):
        return " | ".join(kind)
    if "enum" in part:
        return "enum"
    return str(kind or ("const" if "const" in part else "any"))


def _rules(part: dict[str, Any]) -> list[str]:
    if "enum" in part:
        return [" | ".join(str(value) for value in part["enum"])]
    if "const" in part:
        return [str(part["const"]).lower()]
    rules = [str(part["format"])] if "format" in part else []
    if "pattern" in part:
        rules.append(str(part["pattern"]))
    for low, high, what in (("minimum", "maximum", ""), ("minLength", "maxLength", "…")):
        if low in part or high in part:
            rules.append(f"{part.get(low, '')}{what or '–'}{part.get(high, '')}")
    return rules
