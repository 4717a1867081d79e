"""Hostile schemas are refused, and both validators say the same."""

import time
from decimal import Decimal

import pytest

from catalog import findings, json_schemas
from catalog.event_types import built_in


def nested(levels: int):
    schema: dict = {"type": "string"}
    for _ in range(levels):
        schema = {"properties": {"a": schema}}
    return schema


def exploding(levels: int, width: int):
    defs = {f"n{i}": {"allOf": [{"$ref": f"#/$defs/n{i + 1}"}] * width} for i in range(levels)}
    defs[f"n{levels}"] = {"type": "string"}
    return {"$defs": defs, "$ref": "#/$defs/n0"}


HOSTILE = {
    "not an object": ([], ""),
    "remote ref": ({"$ref": "https://example.com/a.json"}, "/$ref"),
    "file ref": ({"properties": {"a": {"$ref": "file:///etc/passwd"}}}, "/properties/a/$ref"),
    "dangling ref": ({"$ref": "#/$defs/nothing"}, "/$ref"),
    "nested id": ({"properties": {"a": {"$id": "https://x/"}}}, "/properties/a/$id"),
    "dynamic ref": ({"$dynamicRef": "#x"}, "/$dynamicRef"),
    "unevaluated": ({"unevaluatedProperties": False}, "/unevaluatedProperties"),
    "old draft": ({"$schema": "http://json-schema.org/draft-07/schema#"}, "/$schema"),
    "itself": ({"properties": {"a": {"$ref": "#"}}}, ""),
    "two in a ring": (
        {
            "$defs": {"a": {"not": {"$ref": "#/$defs/b"}}, "b": {"not": {"$ref": "#/$defs/a"}}},
            "$ref": "#/$defs/a",
        },
        "",
    ),
    "doubling": (exploding(20, 2), ""),
    "look-ahead": ({"pattern": "(?=a)b"}, "/pattern"),
    "back reference": ({"pattern": r"(a)\1"}, "/pattern"),
    "huge count": ({"pattern": "a{1,100000}"}, "/pattern"),
    "broken pattern": ({"patternProperties": {"(": {}}}, "/patternProperties/("),
    "unique without bound": ({"type": "array", "uniqueItems": True}, "/uniqueItems"),
    "unknown format": ({"format": "colour"}, "/format"),
    "wrong keyword value": ({"type": "text"}, "/type"),
    "too deep": (nested(40), ""),
    "too many parts": ({"enum": list(range(6_000))}, ""),
    "too large": ({"description": "x" * 300_000}, ""),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_schemas_are_refused_quickly_and_with_a_place(name):
    schema, pointer = HOSTILE[name]
    started = time.process_time()
    found = json_schemas.check(schema)
    assert time.process_time() - started < 2
    assert found
    assert found[0]["pointer"] == pointer
    assert found[0]["message"]


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"$ref": "#/$defs/a", "$defs": {"a": {"type": "string", "pattern": "^[a-z]+$"}}},
        {"type": "array", "uniqueItems": True, "maxItems": 100},
        {"patternProperties": {"^x-": {"type": "string"}}, "additionalProperties": False},
        exploding(5, 3),
    ],
)
def test_honest_schemas_pass(schema):
    assert json_schemas.check(schema) == []


def test_a_pattern_that_hangs_other_engines_ends_at_once():
    schema = {"type": "string", "pattern": "^(a+)+$"}
    assert json_schemas.check(schema) == []
    started = time.process_time()
    (finding,) = json_schemas.validator_of(schema)("a" * 50_000 + "!")
    assert time.process_time() - started < 1
    assert finding["pointer"] == ""


# schema, values that fit, values that do not
CORPUS = [
    ({"type": "integer"}, [1, -3, 10**30, Decimal("2.0"), 2.0], [1.5, Decimal("1.5"), "1", True]),
    ({"type": "number"}, [1, 1.5, Decimal("1e50")], [True, "1", None]),
    ({"type": "boolean"}, [True, False], [0, 1, "true"]),
    ({"multipleOf": 0.01}, [Decimal("1.10"), 3, "x"], [Decimal("1.105")]),
    ({"minimum": 3, "exclusiveMaximum": 5}, [3, Decimal("4.99")], [5, 2, Decimal("2.9")]),
    ({"type": "string", "format": "date"}, ["2026-02-28"], ["2026-02-30", "28.2.2026"]),
    ({"format": "date-time"}, ["2026-11-22T09:30:00Z", 5], ["2026-11-22 09:30", "x"]),
    ({"format": "email"}, ["a@example.com"], ["a.example.com"]),
    ({"format": "uri"}, ["https://example.com/a"], ["no uri"]),
    ({"format": "uuid"}, ["123e4567-e89b-12d3-a456-426614174000"], ["123"]),
    ({"format": "ipv4"}, ["203.0.113.8"], ["999.1.1.1"]),
    ({"pattern": "^\\d+$"}, ["123"], ["١٢٣", "12a"]),
    ({"pattern": "[\\u4e00-\\u9fff]"}, ["库存"], ["stock"]),
    ({"minLength": 2, "maxLength": 3}, ["库存", "abc", "😀😀"], ["a", "abcd"]),
    ({"enum": [1, "a", None]}, [1, 1.0, "a", None], [True, "b", 0]),
    ({"const": {"a": [1]}}, [{"a": [1]}], [{"a": [2]}, {"a": [True]}]),
    ({"uniqueItems": True, "maxItems": 9}, [[1, 2], [1, True]], [[1, 1], [1, 1.0], [{}, {}]]),
    ({"contains": {"type": "string"}}, [["a"], 7], [[], [1]]),
    ({"prefixItems": [{"type": "string"}], "items": {"type": "integer"}}, [["a", 1]], [["a", "b"]]),
    ({"required": ["a"]}, [{"a": None}, []], [{}]),
    (
        {
            "properties": {"a": {}},
            "patternProperties": {"^x-": {"type": "string"}},
            "additionalProperties": False,
        },
        [{"a": 1, "x-b": "c"}],
        [{"b": 1}, {"x-b": 1}],
    ),
    ({"additionalProperties": {"type": "integer"}}, [{"a": 1}], [{"a": "1"}]),
    ({"propertyNames": {"maxLength": 2}}, [{"ab": 1}], [{"abc": 1}]),
    ({"dependentRequired": {"a": ["b"]}}, [{"a": 1, "b": 1}, {"b": 1}], [{"a": 1}]),
    ({"if": {"required": ["a"]}, "then": {"required": ["b"]}}, [{"a": 1, "b": 2}, {}], [{"a": 1}]),
    (
        {"oneOf": [{"type": "string"}, {"maxLength": 2}]},
        ["abc", 5],
        [
            "ab",
        ],
    ),
    ({"not": {"type": "null"}}, [1], [None]),
    ({"anyOf": [False, {"type": "string"}]}, ["a"], [1]),
    ({"minProperties": 1, "maxProperties": 2}, [{"a": 1}], [{}, {"a": 1, "b": 2, "c": 3}]),
    (False, [], [1, None]),
]


@pytest.mark.parametrize("number", range(len(CORPUS)))
def test_both_validators_agree(number):
    schema, good, bad = CORPUS[number]
    fast = json_schemas.compile_fast(schema)
    for value in good:
        assert fast.is_valid(value), value
        assert json_schemas.explain(schema, value) == [], value
    for value in bad:
        assert not fast.is_valid(value), value
        assert json_schemas.explain(schema, value), value


def test_both_validators_agree_on_every_canonical_sample_and_its_mutants():
    mutants = [None, 7, "", "x" * 600, [], {}, Decimal("0.1"), True]
    for found in built_in().values():
        fast = json_schemas.compile_fast(found.schema)
        for name in found.sample:
            for mutant in mutants:
                value = {**found.sample, name: mutant}
                agreed = json_schemas.explain(found.schema, value) == []
                assert fast.is_valid(value) is agreed, (found.name, name, mutant)


def test_findings_are_bounded_and_name_the_place():
    schema = {"type": "array", "items": {"type": "object", "required": ["a~/b"]}}
    found = json_schemas.validator_of(schema)([{}] * 100)
    assert len(found) == json_schemas.MAX_FINDINGS
    assert found[0] == {"pointer": "/0/a~0~1b", "message": "This field is missing"}


def test_findings_speak_through_the_translator():
    before = list(findings.TRANSLATORS)
    findings.TRANSLATORS[:] = [lambda msgid: {"This field is missing": "缺少"}.get(msgid, msgid)]
    try:
        (finding,) = json_schemas.explain({"required": ["a"]}, {})
        assert finding["message"] == "缺少"
    finally:
        findings.TRANSLATORS[:] = before


def test_a_compiled_validator_is_kept_by_digest():
    schema = {"type": "object", "required": ["kept"]}
    first = json_schemas.validator_of(schema)
    assert json_schemas.validator_of(dict(schema)) is first
