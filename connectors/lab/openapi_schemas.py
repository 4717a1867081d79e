"""Schemas of an OpenAPI document as plain JSON Schemas, and examples that fit them."""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from connectors.engine import schemas

MAX_DEPTH = 8
MAX_FIELDS = 60
MAX_WORDS = 300
MAX_NODES = 2_000_000  # of a document whose aliases are written out
MAX_PARTS = 20_000  # of all schemas that are written out; what is beyond is left open
MAX_MADE_WORDS, MAX_MADE_ITEMS = 10_000, 10
_KEPT = (
    *("type", "enum", "const", "minLength", "maxLength", "minItems", "maxItems", "uniqueItems"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    *("minProperties", "maxProperties"),
)
_FORMATS = {
    "date-time": "2026-11-22T09:30:00Z",
    "date": "2026-11-22",
    "email": "lin@example.com",
    "uri": "https://example.com/",
    "uuid": "6f9619ff-8b86-4d01-b42d-00cf4fc964ff",
}
_JOINED = ("anyOf", "oneOf")


def is_too_much(document: Any) -> bool:
    """Tell whether a document is too large once its YAML aliases are written out."""
    waiting, count = [document], 0
    while waiting and count <= MAX_NODES:
        one = waiting.pop()
        inner = one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
        count += len(inner)
        waiting.extend(inner)
    return count > MAX_NODES


class Book:
    """An OpenAPI document whose references can be followed."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        """Keep the document."""
        self.document = document
        self.parts = 0

    def follow(self, part: Any) -> Any:
        """Return what a local reference stands for; {} for one that leads nowhere or outside."""
        for _ in range(20):
            name = part.get("$ref") if isinstance(part, Mapping) else None
            if not isinstance(name, str):
                return part
            part = self._at(name)
        return {}

    def _at(self, name: str) -> Any:
        node: Any = self.document
        if not name.startswith("#/"):
            return {}
        for token in name.removeprefix("#/").split("/"):
            key = token.replace("~1", "/").replace("~0", "~")
            node = node.get(key) if isinstance(node, Mapping) else None
        return node if node is not None else {}

    def schema(self, part: Any, *, is_input: bool, depth: int = 0) -> dict[str, Any]:
        """Return a schema with everything written out; what is too deep or circular is left open.

        Inputs lack what the app alone writes (`readOnly`), outputs what it never shows.
        """
        whole = self.follow(part)
        self.parts += 1
        if not isinstance(whole, Mapping) or depth > MAX_DEPTH or self.parts > MAX_PARTS:
            return {}
        whole = self._merged(whole, depth)
        found = {word: whole[word] for word in _KEPT if word in whole}
        _mend(found, whole)
        if whole.get("format") in _FORMATS and whole.get("type") == "string":
            found["format"] = whole["format"]
        if isinstance(whole.get("pattern"), str) and _is_pattern(whole["pattern"]):
            found["pattern"] = whole["pattern"]
        if isinstance(whole.get("description"), str) and depth > 0:
            found["description"] = " ".join(whole["description"].split())[:MAX_WORDS]
        given = whole.get("example", next(iter(whole.get("examples") or ()), None))
        if given is not None and depth > 0:
            found["examples"] = [given]
        self._inside(found, whole, depth, is_input=is_input)
        for word in _JOINED:
            if isinstance(whole.get(word), list):
                found[word] = [
                    self.schema(one, is_input=is_input, depth=depth + 1) for one in whole[word]
                ]
        return found

    def _inside(
        self, found: dict[str, Any], whole: Mapping[str, Any], depth: int, *, is_input: bool
    ) -> None:
        hidden = "readOnly" if is_input else "writeOnly"
        properties = whole.get("properties")
        if isinstance(properties, Mapping):
            found.setdefault("type", "object")
            shown = {
                name: self.schema(one, is_input=is_input, depth=depth + 1)
                for name, one in list(properties.items())[:MAX_FIELDS]
                if not self.follow(one).get(hidden)
            }
            found["properties"] = shown
            needed = [name for name in whole.get("required", []) if name in shown]
            if needed:
                found["required"] = needed
        if "items" in whole:
            found.setdefault("type", "array")
            found["items"] = self.schema(whole["items"], is_input=is_input, depth=depth + 1)
        extra = whole.get("additionalProperties")
        if isinstance(extra, bool):
            found["additionalProperties"] = extra
        elif isinstance(extra, Mapping):
            found["additionalProperties"] = self.schema(extra, is_input=is_input, depth=depth + 1)

    def _merged(self, whole: Mapping[str, Any], depth: int) -> dict[str, Any]:
        """Return a schema with the parts of `allOf` written into it."""
        merged = {word: rule for word, rule in whole.items() if word != "allOf"}
        for one in whole.get("allOf", []) if depth <= MAX_DEPTH else []:
            self.parts += 1
            if self.parts > MAX_PARTS:
                break
            part = self._merged(self.follow(one), depth + 1)
            inside = {**part.get("properties", {}), **merged.get("properties", {})}
            needed = [*part.get("required", []), *merged.get("required", [])]
            merged = {**part, **merged}
            if inside:
                merged["properties"] = inside
            if needed:
                merged["required"] = list(dict.fromkeys(needed))
        return merged


def _mend(found: dict[str, Any], whole: Mapping[str, Any]) -> None:
    """Turn what OpenAPI 3.0 says in its own way into JSON Schema."""
    for word, limit in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(found.get(word), bool) and found.pop(word) and limit in found:
            found[word] = found.pop(limit)
    if whole.get("nullable") is True and isinstance(found.get("type"), str):
        found["type"] = [found["type"], "null"]
        if "enum" in found and None not in found["enum"]:
            found["enum"] = [*found["enum"], None]


def _is_pattern(text: str) -> bool:
    try:
        schemas.validator({"type": "string", "pattern": text})
    except schemas.BadSchema:
        return False
    return len(text) <= MAX_WORDS


def example(schema: Any, stated: Any = None) -> Any:
    """Return a value that fits a schema: what the document gives, if it fits, else one made up."""
    if stated is not None and not schemas.problems(schema, stated):
        return stated
    full = _made(schema, 0, is_short=False)
    return full if not schemas.problems(schema, full) else _made(schema, 0, is_short=True)


def fitting(schema: dict[str, Any], stated: Any = None) -> tuple[dict[str, Any], Any, bool]:
    """Return (schema, example, whether rules had to go): nobody makes up a value for any pattern.

    What an example cannot be found for is loosened step by step: patterns first, then everything.
    """
    value = example(schema, stated)
    if not schemas.problems(schema, value):
        return schema, value, False
    loose = _without_patterns(schema)
    value = example(loose, stated)
    if not schemas.problems(loose, value):
        return loose, value, True
    names = schema.get("properties")
    open_schema: dict[str, Any] = {}
    if names:
        open_schema = {"type": "object", "properties": {name: {} for name in names}}
    value = stated if isinstance(stated, dict) == bool(names) else {}
    return open_schema, value, True


def _without_patterns(schema: Any) -> Any:
    if isinstance(schema, Mapping):
        return {
            name: _without_patterns(one)
            for name, one in schema.items()
            if not (name == "pattern" and isinstance(one, str))
        }
    return [_without_patterns(one) for one in schema] if isinstance(schema, list) else schema


def _made(schema: Any, depth: int, *, is_short: bool) -> Any:
    if not isinstance(schema, Mapping) or depth > MAX_DEPTH:
        return None
    if "const" in schema:
        return schema["const"]
    for word in ("examples", "enum"):
        if schema.get(word) and not schemas.problems(schema, schema[word][0]):
            return schema[word][0]
    for word in _JOINED:
        if schema.get(word) and "properties" not in schema:
            return _made(schema[word][0], depth + 1, is_short=is_short)
    kinds = schemas.kinds(schema)
    if "object" in kinds:
        needed = schema.get("required", [])
        return {
            name: _made(one, depth + 1, is_short=is_short)
            for name, one in schema.get("properties", {}).items()
            if name in needed or (not is_short and depth < 3)
        }
    if "array" in kinds:
        count = max(schema.get("minItems", 0), 0 if is_short else 1)
        # what no example can be made for is loosened
        count = min(count, MAX_MADE_ITEMS if depth < 3 else 1)
        return [_made(schema.get("items", {}), depth + 1, is_short=is_short) for _ in range(count)]
    return _plain(schema, kinds)


def _plain(schema: Mapping[str, Any], kinds: set[str]) -> Any:
    if "string" in kinds or not kinds:
        text = str(_FORMATS.get(str(schema.get("format")), "example"))
        least, most = (
            min(schema.get("minLength", 0), MAX_MADE_WORDS),
            schema.get("maxLength", 10_000),
        )
        return re.sub(r"\Z", "x" * max(0, least - len(text)), text)[:most]
    if kinds & {"integer", "number"}:
        least = schema.get("minimum", schema.get("exclusiveMinimum", 0))
        number = max(1, int(least) + (1 if "exclusiveMinimum" in schema else 0))
        number = min(number, int(schema.get("maximum", number)))
        step = schema.get("multipleOf")
        return int(Decimal(str(step))) * number if step and Decimal(str(step)) >= 1 else number
    return True if "boolean" in kinds else None
