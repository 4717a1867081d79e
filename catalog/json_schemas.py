"""Strangers' JSON Schemas, kept harmless: bounds at the door, a fast validator, plain findings.

The fast validator is jsonschema-rs; jsonschema finds the words. Patterns and formats are decided
by the same engine in both, so that they cannot disagree and no pattern can run away.
"""

import hashlib
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import lru_cache
from typing import Any

import jsonschema_rs
import re2
from jsonschema import validators
from jsonschema.exceptions import ValidationError
from jsonschema.validators import Draft202012Validator

from catalog.findings import say, words_for
from kernel import documents
from kernel.errors import N_, FieldError

MAX_BYTES = 256 * 1024
MAX_NODES = 5_000
MAX_DEPTH = 32
MAX_EXPANDED_NODES = 50_000  # with every $ref written out: what one value can cost
MAX_UNIQUE_ITEMS = 1_000
MAX_PATTERN_LENGTH = 1_000
MAX_FINDINGS = 20
DIALECT = "https://json-schema.org/draft/2020-12/schema"
FORMATS = (
    *("date", "date-time", "time", "duration", "email", "hostname", "ipv4", "ipv6"),
    *("uri", "uri-reference", "uuid", "json-pointer", "regex"),
)
# Known names that say what a text is meant to be, without being checked.
NOTED_FORMATS = ("uri-template", "iri", "iri-reference", "idn-email", "idn-hostname")
# What makes the cost of one value hard to foresee, or reaches outside the document.
REFUSED = frozenset(
    {
        "$anchor",
        "$dynamicAnchor",
        "$dynamicRef",
        "$recursiveAnchor",
        "$recursiveRef",
        "$vocabulary",
        "unevaluatedItems",
        "unevaluatedProperties",
    }
)
_MANY = ("allOf", "anyOf", "oneOf", "prefixItems")
_NAMED = ("$defs", "definitions", "properties", "patternProperties", "dependentSchemas")
_ONE = (
    *("additionalProperties", "propertyNames", "items", "contains", "not", "if", "then", "else"),
    *("contentSchema",),
)
Schema = dict[str, Any]
Validator = Callable[[Any], list[FieldError]]


def digest_of(schema: Any) -> str:
    """Return the SHA-256 of a document's compact JSON."""
    return hashlib.sha256(documents.dump(schema)).hexdigest()


# --- bounds ------------------------------------------------------------------------------------


def check(schema: Any) -> list[FieldError]:
    """Say why a schema may not be used here; an empty list means that it may."""
    if not isinstance(schema, dict):
        return [_finding("", N_("A schema must be a JSON object"))]
    if len(documents.dump(schema)) > MAX_BYTES:
        return [_finding("", N_("The schema is larger than %(limit)s kB"), limit=MAX_BYTES // 1024)]
    nodes, depth = _measure(schema)
    if nodes > MAX_NODES:
        return [_finding("", N_("The schema has more than %(limit)s parts"), limit=MAX_NODES)]
    if depth > MAX_DEPTH:
        return [_finding("", N_("The schema is nested deeper than %(limit)s"), limit=MAX_DEPTH)]
    if schema.get("$schema", DIALECT).rstrip("#") != DIALECT:
        return [_finding("/$schema", N_("Only JSON Schema 2020-12 and draft-07 are read here"))]
    if not jsonschema_rs.meta.is_valid(schema):
        for error in Draft202012Validator(Draft202012Validator.META_SCHEMA).iter_errors(schema):
            words = N_("This is not valid JSON Schema: %(what)s")
            return [_finding(_pointer(error.absolute_path), words, what=error.message[:300])]
    found = list(_walk(schema, schema, ""))
    found = found or _check_cost(schema)
    return found[:MAX_FINDINGS] or _check_compiles(schema)


def _finding(pointer: str, msgid: str, **params: Any) -> FieldError:
    return {"pointer": pointer, "message": say(msgid, **params)}


def _measure(value: Any) -> tuple[int, int]:
    """Count every JSON value in a document and its depth, without recursion."""
    nodes, deepest, todo = 0, 0, [(value, 1)]
    while todo:
        item, depth = todo.pop()
        nodes, deepest = nodes + 1, max(deepest, depth)
        if isinstance(item, dict):
            todo += [(child, depth + 1) for child in item.values()]
        elif isinstance(item, list):
            todo += [(child, depth + 1) for child in item]
        if nodes > MAX_NODES or deepest > MAX_DEPTH:
            break
    return nodes, deepest


def _children(schema: Any) -> Iterator[tuple[str, Any]]:
    """Give the schemas directly inside a schema, with their pointer below it."""
    if not isinstance(schema, dict):
        return
    for word in _MANY:
        if isinstance(schema.get(word), list):
            for index, child in enumerate(schema[word]):
                yield f"/{word}/{index}", child
    for word in _NAMED:
        if isinstance(schema.get(word), dict):
            for name, child in schema[word].items():
                yield f"/{word}/{_escape(name)}", child
    for word in _ONE:
        if isinstance(schema.get(word), dict | bool):
            yield f"/{word}", schema[word]


def _walk(root: Schema, schema: Any, pointer: str) -> Iterator[FieldError]:
    if not isinstance(schema, dict):
        return
    for word in sorted(REFUSED & schema.keys()):
        yield _finding(f"{pointer}/{word}", N_("“%(word)s” is not supported here"), word=word)
    if pointer and "$id" in schema:
        yield _finding(f"{pointer}/$id", N_("“%(word)s” is not supported here"), word="$id")
    reference = schema.get("$ref")
    if isinstance(reference, str) and _resolve(root, reference) is None:
        words = N_("“%(ref)s” must point inside this document (#/$defs/…) or to a shared shape")
        yield _finding(f"{pointer}/$ref", words, ref=reference)
    yield from _walk_patterns(schema, pointer)
    if (
        schema.get("uniqueItems")
        and schema.get("maxItems", MAX_UNIQUE_ITEMS + 1) > MAX_UNIQUE_ITEMS
    ):
        words = N_("“uniqueItems” needs a “maxItems” of at most %(limit)s beside it")
        yield _finding(f"{pointer}/uniqueItems", words, limit=MAX_UNIQUE_ITEMS)
    if isinstance(schema.get("format"), str) and schema["format"] not in (
        *FORMATS,
        *NOTED_FORMATS,
    ):
        words = N_("The format “%(format)s” is not known here")
        yield _finding(f"{pointer}/format", words, format=schema["format"])
    for below, child in _children(schema):
        yield from _walk(root, child, pointer + below)


def _walk_patterns(schema: Schema, pointer: str) -> Iterator[FieldError]:
    patterns = [(f"{pointer}/pattern", schema["pattern"])] if "pattern" in schema else []
    patterns += [
        (f"{pointer}/patternProperties/{_escape(name)}", name)
        for name in schema.get("patternProperties", {})
    ]
    for place, pattern in patterns:
        problem = _pattern_problem(pattern)
        if problem:
            words = N_("This pattern cannot be used safely: %(why)s")
            yield _finding(place, words, why=problem)


def _pattern_problem(pattern: str) -> str | None:
    """Refuse what a linear-time engine cannot run (look-around, back references, huge counts)."""
    if len(pattern) > MAX_PATTERN_LENGTH:
        return f"longer than {MAX_PATTERN_LENGTH} characters"
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 1 << 20
    try:
        re2.compile(pattern, options)
        _pattern_validator(pattern)
    except (re2.error, ValueError, jsonschema_rs.ValidationError) as error:
        reason = error.args[0] if error.args else ""
        text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        return text.splitlines()[0][:200]
    return None


def _resolve(root: Schema, reference: str) -> Any:
    """Follow a reference inside the document; None when it leads nowhere or outside."""
    if reference == "#":
        return root
    if not reference.startswith("#/"):
        return None
    target: Any = root
    for part in reference[2:].split("/"):
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(target, dict) and name in target:
            target = target[name]
        elif isinstance(target, list) and name.isdigit() and int(name) < len(target):
            target = target[int(name)]
        else:
            return None
    return target if isinstance(target, dict | bool) else None


def _check_cost(schema: Schema) -> list[FieldError]:
    """Bound the work one value can cause: no schema contains itself, and all of it stays small."""
    sizes: dict[int, int] = {}
    open_now: set[int] = set()

    def size(part: Any) -> int:
        if not isinstance(part, dict):
            return 1
        if id(part) in open_now:
            raise RecursionError
        if id(part) not in sizes:
            open_now.add(id(part))
            total = 1 + sum(
                size(child)
                for below, child in _children(part)
                if not below.startswith(("/$defs/", "/definitions/"))
            )
            if isinstance(part.get("$ref"), str):
                total += size(_resolve(schema, part["$ref"]))
            open_now.discard(id(part))
            sizes[id(part)] = total
        return sizes[id(part)]

    try:
        total = size(schema)
    except RecursionError:
        words = N_("The schema contains itself; write the levels out instead")
        return [_finding("", words)]
    if total > MAX_EXPANDED_NODES:
        words = N_("With every $ref written out the schema has more than %(limit)s parts")
        return [_finding("", words, limit=MAX_EXPANDED_NODES)]
    return []


def _check_compiles(schema: Schema) -> list[FieldError]:
    try:
        compile_fast(schema)
    except (ValueError, jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
        what = str(error).splitlines()[0][:200]
        return [_finding("", N_("This is not valid JSON Schema: %(what)s"), what=what)]
    return []


# --- the fast validator --------------------------------------------------------------------------


def _is_noted(_text: str) -> bool:
    return True


def compile_fast(schema: Schema) -> Any:
    """Compile a schema for the hot path: linear-time patterns, asserted formats, no network."""
    return jsonschema_rs.Draft202012Validator(
        schema,
        validate_formats=True,
        formats=dict.fromkeys(NOTED_FORMATS, _is_noted),
        pattern_options=jsonschema_rs.RegexOptions(),
        offline=True,
    )


_validators: dict[str, Validator] = {}


def validator_of(schema: Schema, digest: str | None = None) -> Validator:
    """Return `callable(value) -> findings`, compiled once per schema digest."""
    key = digest or digest_of(schema)
    found = _validators.get(key)
    if found is None:
        fast = compile_fast(schema)

        def found(value: Any) -> list[FieldError]:
            return [] if fast.is_valid(value) else _explain_surely(fast, schema, value)

        if len(_validators) >= 4_000:
            _validators.clear()  # rare, cheap to fill again
        _validators[key] = found
    return found


def _explain_surely(fast: Any, schema: Schema, value: Any) -> list[FieldError]:
    findings = explain(schema, value)
    if findings:
        return findings
    # the hot path decides; when the explainer sees nothing its own words are used
    first = next(iter(fast.iter_errors(value)))
    return [{"pointer": _pointer(first.instance_path), "message": str(first.message)[:300]}]


@lru_cache(maxsize=4_000)
def _pattern_validator(pattern: str) -> Any:
    return compile_fast({"pattern": pattern})


@lru_cache(maxsize=64)
def _format_validator(name: str) -> Any:
    return compile_fast({"format": name})


# --- the explainer -------------------------------------------------------------------------------


def explain(schema: Schema, value: Any, limit: int = MAX_FINDINGS) -> list[FieldError]:
    """Say what is wrong with a value and where, in plain words, at most `limit` findings."""
    findings: list[FieldError] = []
    for error in _Explainer(schema).iter_errors(value):
        finding = _describe(error)
        if finding not in findings:
            findings.append(finding)
        if len(findings) >= limit:
            break
    return findings


def _is_number(_: Any, value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _is_integer(_: Any, value: Any) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(value, Decimal):
        return value.is_finite() and (value.adjusted() > 400 or value == value.to_integral_value())
    return isinstance(value, int) or (isinstance(value, float) and value.is_integer())


def _pattern(_v: Any, pattern: str, value: Any, _s: Any) -> Iterator[ValidationError]:
    if isinstance(value, str) and not _pattern_validator(pattern).is_valid(value):
        yield ValidationError("pattern")


def _format(_v: Any, name: str, value: Any, _s: Any) -> Iterator[ValidationError]:
    if not _format_validator(name).is_valid(value):
        yield ValidationError("format")


def _multiple_of(_v: Any, factor: Any, value: Any, _s: Any) -> Iterator[ValidationError]:
    if _is_number(None, value) and not compile_fast({"multipleOf": factor}).is_valid(value):
        yield ValidationError("multipleOf")


def _pattern_properties(
    validator: Any, patterns: dict[str, Any], value: Any, _s: Any
) -> Iterator[ValidationError]:
    if not isinstance(value, dict):
        return
    for pattern, schema in patterns.items():
        for name, item in value.items():
            if _pattern_validator(pattern).is_valid(name):
                yield from validator.descend(item, schema, path=name, schema_path=pattern)


def _additional(validator: Any, rest: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
    if not isinstance(value, dict):
        return
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for name, item in value.items():
        if name in known or any(_pattern_validator(p).is_valid(name) for p in patterns):
            continue
        if rest is False:
            yield ValidationError("additionalProperties", path=[name])
        elif isinstance(rest, dict):
            yield from validator.descend(item, rest, path=name)


_extend: Any = validators.extend
_Explainer: Any = _extend(
    Draft202012Validator,
    validators={
        "pattern": _pattern,
        "format": _format,
        "multipleOf": _multiple_of,
        "patternProperties": _pattern_properties,
        "additionalProperties": _additional,
    },
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine("number", _is_number).redefine(
        "integer", _is_integer
    ),
)


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _pointer(path: Any) -> str:
    return "".join(f"/{_escape(str(part))}" for part in path)


def _describe(error: ValidationError) -> FieldError:
    pointer = _pointer(error.absolute_path)
    missing, msgid, params = words_for(error)
    return {"pointer": pointer + missing, "message": say(msgid, **params)}
