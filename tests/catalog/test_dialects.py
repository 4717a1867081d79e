"""A draft-07 schema and its 2020-12 rewriting accept the same values."""

import itertools

import pytest
from jsonschema import Draft7Validator, Draft202012Validator

from catalog import dialects, json_schemas

DRAFT_7 = "http://json-schema.org/draft-07/schema#"
VALUES = [
    None, 1, "a", "longer", [], [1], [1, "a"], [1, "a", 2], ["a"], ["a", 1, 2, 3],
    {}, {"a": 1}, {"a": 1, "b": 2}, {"b": "x"}, {"items": [1]}, {"dependencies": 1}, {"$ref": "x"},
]  # fmt: skip
SCHEMAS = [
    {"items": [{"type": "integer"}, {"type": "string"}]},
    {"items": [{"type": "integer"}], "additionalItems": {"type": "string"}},
    {"items": [{"type": "integer"}], "additionalItems": False},
    {"items": {"type": "integer"}, "additionalItems": False},
    {"additionalItems": False},
    {"dependencies": {"a": ["b"]}},
    {"dependencies": {"a": {"required": ["b"]}, "b": ["a"]}},
    {"$ref": "#/definitions/n", "maxLength": 1, "definitions": {"n": {"type": "string"}}},
    {"properties": {"items": {"items": [{"type": "string"}]}, "dependencies": {"type": "string"}}},
    {"enum": [{"items": [1]}, 1], "title": "t"},
    {"anyOf": [{"items": [{"type": "string"}]}, {"not": {"dependencies": {"a": ["b"]}}}]},
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
def test_the_rewriting_accepts_the_same(schema):
    old = Draft7Validator({"$schema": DRAFT_7, **schema})
    rewritten = dialects.modern({"$schema": DRAFT_7, **schema})
    Draft202012Validator.check_schema(rewritten)
    new = Draft202012Validator(rewritten)
    assert json_schemas.check(rewritten) == []
    verdicts = [(old.is_valid(v), new.is_valid(v)) for v in VALUES]
    assert all(a == b for a, b in verdicts), list(
        itertools.compress(VALUES, [a != b for a, b in verdicts])
    )


def test_other_dialects_are_left_alone():
    for schema in ({"type": "object"}, {"$schema": dialects.MODERN, "items": {}}, [], None, True):
        assert dialects.modern(schema) is schema
