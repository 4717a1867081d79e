"""Older JSON Schema dialects, rewritten as 2020-12 without changing what they accept."""

from typing import Any

MODERN = "https://json-schema.org/draft/2020-12/schema"
DRAFT_7 = "http://json-schema.org/draft-07/schema"
# places whose keys are names somebody chose, not keywords
_NAMES = frozenset({"properties", "patternProperties", "definitions", "$defs", "dependentSchemas"})
_VALUES = frozenset({"const", "enum", "default", "examples"})


def modern(schema: Any) -> Any:
    """Return a draft-07 schema as 2020-12; anything else comes back as it is."""
    if not isinstance(schema, dict) or str(schema.get("$schema", "")).rstrip("#") != DRAFT_7:
        return schema
    rewritten: dict[str, Any] = _schema({k: v for k, v in schema.items() if k != "$schema"})
    return {"$schema": MODERN, **rewritten}


def _schema(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_schema(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        # draft-07 ignores everything beside a $ref, except what others may refer to
        kept = {"$ref", "definitions", "$defs", "title", "description"}
        schema = {key: value for key, value in schema.items() if key in kept}
    found: dict[str, Any] = {}
    for key, value in schema.items():
        found.update(_keyword(key, value, schema))
    return found


def _keyword(key: str, value: Any, schema: dict[str, Any]) -> dict[str, Any]:
    if key in _VALUES:
        return {key: value}
    if key in _NAMES and isinstance(value, dict):
        return {key: {name: _schema(inner) for name, inner in value.items()}}
    if key == "items" and isinstance(value, list):
        return {"prefixItems": _schema(value)}
    if key == "additionalItems":
        # without a list of items it means nothing
        return {"items": _schema(value)} if isinstance(schema.get("items"), list) else {}
    if key == "dependencies" and isinstance(value, dict):
        required = {name: rule for name, rule in value.items() if isinstance(rule, list)}
        schemas = {name: _schema(r) for name, r in value.items() if not isinstance(r, list)}
        return {
            **({"dependentRequired": required} if required else {}),
            **({"dependentSchemas": schemas} if schemas else {}),
        }
    return {key: _schema(value)}
