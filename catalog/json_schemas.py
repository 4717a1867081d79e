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
from jsonschema import validators
from jsonschema.exceptions import ValidationError
from jsonschema.validators import Draft202012Validator

from catalog import patterns, schema_costs
from catalog.findings import say, words_for, words_of
from catalog.schema_costs import Schema, children, escape, resolve
from kernel import documents
from kernel.errors import N_, FieldError

MAX_BYTES = 256 * 1024
MAX_NODES = 5_000
MAX_DEPTH = 32
MAX_UNIQUE_ITEMS = 1_000
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
MAX_EXPLAINED_STEPS = 40_000  # the explainer takes a microsecond or two for each
MAX_PLACED_NODES = 10_000  # beyond, even to say where the first mistake is takes too long
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
    if str(schema.get("$schema", DIALECT)).rstrip("#") != DIALECT:
        return [_finding("/$schema", N_("Only JSON Schema 2020-12 and draft-07 are read here"))]
    try:
        is_schema = jsonschema_rs.meta.is_valid(schema)
    except UnicodeEncodeError:
        return [_half_a_character()]
    if not is_schema:
        for error in Draft202012Validator(Draft202012Validator.META_SCHEMA).iter_errors(schema):
            words = N_("This is not valid JSON Schema: %(what)s")
            return [_finding(_pointer(error.absolute_path), words, what=error.message[:300])]
    found = list(_walk(schema)) or _check_patterns(schema)
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


def _half_a_character() -> FieldError:
    return _finding("", N_("A text contains half a character"))


def _all_parts(root: Schema) -> Iterator[tuple[str, Schema]]:
    """Give a schema and every schema inside it, each with its pointer, in reading order."""
    todo = [("", root)]
    while todo:
        pointer, schema = todo.pop()
        yield pointer, schema
        inside = [(pointer + below, child) for below, child in children(schema)]
        todo += [pair for pair in reversed(inside) if isinstance(pair[1], dict)]


def _walk(root: Schema) -> Iterator[FieldError]:
    parts = list(_all_parts(root))
    looked_at = {id(part) for _, part in parts}
    for pointer, schema in parts:
        for word in sorted(REFUSED & schema.keys()):
            yield _finding(f"{pointer}/{word}", N_("“%(word)s” is not supported here"), word=word)
        if pointer and "$id" in schema:
            yield _finding(f"{pointer}/$id", N_("“%(word)s” is not supported here"), word="$id")
        reference = schema.get("$ref")
        if isinstance(reference, str):
            target = resolve(root, reference)
            # what no keyword leads to, such as an example, has not been looked at
            if not isinstance(target, bool) and id(target) not in looked_at:
                words = N_(
                    "“%(ref)s” must point inside this document (#/$defs/…) or to a shared shape"
                )
                yield _finding(f"{pointer}/$ref", words, ref=reference)
        most = schema.get("maxItems", MAX_UNIQUE_ITEMS + 1)
        if schema.get("uniqueItems") and most > MAX_UNIQUE_ITEMS:
            words = N_("“uniqueItems” needs a “maxItems” of at most %(limit)s beside it")
            yield _finding(f"{pointer}/uniqueItems", words, limit=MAX_UNIQUE_ITEMS)
        form = schema.get("format")
        if isinstance(form, str) and form not in (*FORMATS, *NOTED_FORMATS):
            words = N_("The format “%(format)s” is not known here")
            yield _finding(f"{pointer}/format", words, format=form)


def _check_patterns(root: Schema) -> list[FieldError]:
    found, work = [], 0
    for pointer, schema in _all_parts(root):
        written = [(f"{pointer}/pattern", schema["pattern"])] if "pattern" in schema else []
        written += [
            (f"{pointer}/patternProperties/{escape(name)}", name)
            for name in schema.get("patternProperties", {})
        ]
        for place, pattern in written:
            looked = patterns.look(pattern)
            work += looked.work
            problem = looked.problem or _engine_problem(pattern)
            if problem:
                words = N_("This pattern cannot be used safely: %(why)s")
                found.append(_finding(place, words, why=problem))
            if work > patterns.MAX_WORK_TOGETHER or len(found) >= MAX_FINDINGS:
                words = N_("All patterns together are too complex")
                return found or [_finding(place, words)]
    return found


def _engine_problem(pattern: str) -> str | None:
    try:
        _pattern_validator(pattern)
    except (ValueError, jsonschema_rs.ValidationError) as error:
        return str(error).splitlines()[0][:200]
    return None


def _check_cost(schema: Schema) -> list[FieldError]:
    """Bound the work one value can cause: no schema contains itself, and all of it stays small."""
    try:
        total, depth = schema_costs.expanded(schema)
    except RecursionError:
        words = N_("The schema contains itself; write the levels out instead")
        return [_finding("", words)]
    if total > schema_costs.MAX_EXPANDED_NODES:
        words = N_("With every $ref written out the schema has more than %(limit)s parts")
        return [_finding("", words, limit=schema_costs.MAX_EXPANDED_NODES)]
    if depth > schema_costs.MAX_EXPANDED_DEPTH:
        words = N_("With every $ref written out the schema is nested deeper than %(limit)s")
        return [_finding("", words, limit=schema_costs.MAX_EXPANDED_DEPTH)]
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
        pattern_options=jsonschema_rs.RegexOptions(size_limit=1 << 20),
        offline=True,
    )


_validators: dict[str, Validator] = {}


def validator_of(schema: Schema, digest: str | None = None) -> Validator:
    """Return `callable(value) -> findings`, compiled once per schema digest."""
    key = digest or digest_of(schema)
    found = _validators.get(key)
    if found is None:
        found = _bounded(schema)
        if len(_validators) >= 4_000:
            _validators.clear()  # rare, cheap to fill again
        _validators[key] = found
    return found


def _bounded(schema: Schema) -> Validator:
    fast, load = compile_fast(schema), schema_costs.load_of(schema)

    def find(value: Any) -> list[FieldError]:
        weight = schema_costs.weigh(value)
        steps = weight.steps(load)
        if steps > schema_costs.MAX_STEPS:
            return [_finding("", N_("There is too much in it to be checked; send smaller parts"))]
        try:
            if fast.is_valid(value):
                return []
            if steps <= MAX_EXPLAINED_STEPS:
                return _explain_surely(fast, schema, value)
            if weight.containers + weight.plain <= MAX_PLACED_NODES:
                return _first(fast, value)
        except UnicodeEncodeError:
            return [_half_a_character()]
        return [_finding("", N_("Something in it does not fit; it is too large to say where"))]

    return find


def _explain_surely(fast: Any, schema: Schema, value: Any) -> list[FieldError]:
    # the hot path decides; when the explainer sees nothing its own words are used
    return explain(schema, value) or _first(fast, value)


def _first(fast: Any, value: Any) -> list[FieldError]:
    """Say the first thing that the fast validator finds wrong."""
    try:
        fast.validate(value)
    except jsonschema_rs.ValidationError as error:
        below, msgid, params = words_of(error.kind)
        return [{"pointer": _pointer(error.instance_path) + below, "message": say(msgid, **params)}]
    return []


@lru_cache(maxsize=4_000)
def _pattern_validator(pattern: str) -> Any:
    return compile_fast({"pattern": pattern})


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
    if not _rule_validator("format", name).is_valid(value):
        yield ValidationError("format")


@lru_cache(maxsize=256)
def _rule_validator(rule: str, limit: Any) -> Any:
    return compile_fast({rule: limit})


def _multiple_of(_v: Any, factor: Any, value: Any, _s: Any) -> Iterator[ValidationError]:
    if _is_number(None, value) and not _rule_validator("multipleOf", factor).is_valid(value):
        yield ValidationError("multipleOf")


def _unique(_v: Any, wanted: Any, value: Any, _s: Any) -> Iterator[ValidationError]:
    if wanted and not _rule_validator("uniqueItems", True).is_valid(value):
        yield ValidationError("uniqueItems")


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
        "uniqueItems": _unique,
        "patternProperties": _pattern_properties,
        "additionalProperties": _additional,
    },
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine("number", _is_number).redefine(
        "integer", _is_integer
    ),
)


def _pointer(path: Any) -> str:
    return "".join(f"/{escape(str(part))}" for part in path)


def _describe(error: ValidationError) -> FieldError:
    pointer = _pointer(error.absolute_path)
    missing, msgid, params = words_for(error)
    return {"pointer": pointer + missing, "message": say(msgid, **params)}
