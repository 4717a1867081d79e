"""Schemas, values and manifests made to hurt: refused when they are saved, or done in a blink.

Times are of the processor, the best of three: what else the machine does must not decide.
"""

import json
import random
import time
from decimal import Decimal

import pytest
from factories import catalog as shelf
from factories.machine import best

from catalog import event_types, json_schemas, manifests, patterns, schema_costs

BLINK = 0.1
QUICK = 0.02  # for 40,000 characters: half a microsecond for each
RNG = random.Random(20261122)
AB = "".join(RNG.choice("ab") for _ in range(900_000))
TINY, HUGE, LONG = Decimal("1e-4000"), Decimal("1e4000"), int("9" * 4300)


def chain(levels, last):
    links = {f"n{i}": {"$ref": f"#/$defs/n{i + 1}"} for i in range(levels)}
    return {"$defs": {**links, f"n{levels}": last}, "$ref": "#/$defs/n0"}


def branches(word, count, make):
    return {"items": {word: [make(i) for i in range(count)]}}


# schema → nothing that is wrong with it may get past the door
REFUSED = {
    "$schema is no text": {"$schema": 5},
    "$schema is a list": {"$schema": []},
    "a rule hidden behind an unknown word": {
        "$ref": "#/x-hidden",
        "x-hidden": {"uniqueItems": True},
    },
    "a far reference behind a default": {
        "$ref": "#/default",
        "default": {"$ref": "http://127.0.0.1/"},
    },
    "a far reference behind an example": {
        "examples": [{"$ref": "http://127.0.0.1/"}],
        "$ref": "#/examples/0",
    },
    "an id behind an enum": {
        "enum": [{"$id": "http://127.0.0.1/"}],
        "properties": {"a": {"$ref": "#/enum/0"}},
    },
    "half a character": {"properties": {"a\ud800": {}}},
    "half a character in a pattern": {"pattern": "\ud800"},
    "a long chain of references": chain(150, {"type": "string"}),
    "a chain too long for recursion": chain(2_000, {"type": "string"}),
    "states that double": {"pattern": "[ab]*a[ab]{16}c"},
    "hundreds of places alive": {"pattern": "[ab]*a[ab]{900}c"},
    "hundreds of optional places": {"pattern": "(?:[ab]?){500}[ab]*a[ab]{400}c"},
    "places hidden in groups": {"pattern": "(?:ab|ba)*a(?:ab|ba){20}"},
    "a count inside a count": {"pattern": "(([a-z]{30}){30}){30}"},
    "the same in a key": {"patternProperties": {"[ab]*a[ab]{50}c": {}}},
    "many patterns that are each bearable": {
        "patternProperties": {f"^[a-z]{{0,{count}}}c$": {} for count in range(500, 600)}
    },
    "a branch for everything": {
        "$defs": {f"n{i}": {"allOf": [{"$ref": f"#/$defs/n{i + 1}"}] * 3} for i in range(12)}
        | {"n12": {"pattern": "a"}},
        "items": {"$ref": "#/$defs/n0"},
    },
}

# schema that may be saved, value that makes as much work as it can
COSTLY = {
    "allOf over a long list": (
        branches("allOf", 1200, lambda i: {"type": "integer", "minimum": -i}),
        list(range(90_000)),
    ),
    "allOf that fails at the end": (
        branches("allOf", 1200, lambda i: {"type": "integer", "minimum": -i}),
        [*range(18_000), "x"],
    ),
    "anyOf that never fits": (branches("anyOf", 1600, lambda i: {"const": i}), ["z"] * 50_000),
    "oneOf that fits once": (branches("oneOf", 1600, lambda i: {"const": i}), [1] * 50_000),
    "not within anyOf": (
        {"items": {"not": {"anyOf": [{"maximum": -i} for i in range(1, 1500)]}}},
        list(range(50_000)),
    ),
    "an enum of objects": (
        {"items": {"enum": [{"a": {"b": i}} for i in range(1500)]}},
        [{"a": {"b": -1}}] * 20_000,
    ),
    "contains with many rules": (
        {"contains": {"allOf": [{"pattern": f"x{i}"} for i in range(800)]}},
        ["x0x1"] * 50_000,
    ),
    "minContains out of reach": (
        {"contains": {"type": "string"}, "minContains": 10**9},
        ["a"] * 150_000,
    ),
    "a list of equal objects": (
        {"uniqueItems": True, "maxItems": 1000},
        [{"a": i} for i in range(999)] + [{"a": 1}],
    ),
    "many lists of objects": (
        {"items": {"uniqueItems": True, "maxItems": 1000}},
        [[{"a": i} for i in range(1000)] for _ in range(40)],
    ),
    "many unknown fields": ({"additionalProperties": False}, {f"a{i}": 1 for i in range(60_000)}),
    "many bad names": ({"propertyNames": {"pattern": "^x"}}, {f"a{i}": 1 for i in range(60_000)}),
    "many missing fields": (
        {"items": {"required": [f"r{i}" for i in range(4000)]}},
        [{}] * 3_000,
    ),
    "many patterns for many keys": (
        {"patternProperties": {f"^k{i}[a-z]+$": {} for i in range(400)}},
        {f"key{i}": 1 for i in range(40_000)},
    ),
    "everything is wrong": ({"items": {"type": "integer"}}, ["x" * 8] * 60_000),
    "wrong in the middle": ({"items": {"type": "integer"}}, [*range(60_000), "x"]),
    "tiny numbers": ({"items": {"type": ["integer", "number"]}}, [TINY] * 60_000),
    "tiny numbers in another way": (
        {"items": {"anyOf": [{"type": "integer"}, {"type": "number"}]}},
        [TINY] * 60_000,
    ),
    "huge numbers to divide": ({"items": {"multipleOf": 0.01}}, [HUGE] * 60_000),
    "long numbers to compare": ({"items": {"minimum": 5}}, [LONG] * 230),
    "long numbers to divide": ({"items": {"multipleOf": 7}}, [LONG] * 230),
    "a pattern that hangs other engines": ({"pattern": "^(a+)+$"}, "a" * 900_000 + "!"),
    "another one": ({"pattern": "^(([a-z])+.)+[A-Z]([a-z])+$"}, "a" * 900_000),
    "a third one": ({"pattern": r"(x+x+)+y"}, "x" * 900_000),
    "a pattern at its limit": ({"pattern": "[ab]*a[ab]{8}c"}, AB),
    "an expression of a million brackets": ({"format": "regex"}, "(" * 900_000),
    "an address without end": ({"format": "email"}, "a" * 500_000 + "@" + "b." * 200_000),
    "a name without end": ({"format": "hostname"}, "xn--" + "a" * 900_000),
    "half a character at its end": ({"items": {"type": "string"}}, ["x", "\ud800"]),
    "half a character and a mistake": ({"required": ["z"], "properties": {}}, {"a": "\ud800"}),
    "references as deep as may be": (chain(95, {"type": "integer"}), "x"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_hostile_schema_is_refused_when_it_is_saved(name):
    started = time.process_time()
    found = json_schemas.check(REFUSED[name])
    assert time.process_time() - started < 4
    assert found
    assert all(one["message"] for one in found)


@pytest.mark.parametrize("name", COSTLY)
def test_a_costly_value_is_judged_or_refused_in_a_blink(name):
    schema, value = COSTLY[name]
    assert json_schemas.check(schema) == []
    judge = json_schemas.validator_of(schema)
    seconds, found = best(lambda: judge(value), enough=BLINK)
    assert seconds < BLINK
    assert len(found) <= json_schemas.MAX_FINDINGS
    assert sum(len(one["message"]) for one in found) < 10_000


def test_without_the_bound_a_blink_is_not_enough(monkeypatch):
    """The break that the tests above must notice."""
    monkeypatch.setattr(schema_costs, "MAX_STEPS", 10**12)
    schema, value = COSTLY["not within anyOf"]
    judge = json_schemas._bounded(schema)
    assert best(lambda: judge(value), tries=1)[0] > BLINK
    fast = json_schemas.compile_fast(REFUSED["hundreds of places alive"])
    assert best(lambda: fast.is_valid(AB[:200_000]), tries=1)[0] > BLINK


def test_the_houses_own_types_take_a_megabyte_of_honest_data():
    """No list, field or text of an honest event is refused for its size."""
    found = event_types.find(None, None, "goods.received")
    judge, sample = event_types.validator(found), found.sample
    assert judge({**sample, "lines": sample["lines"] * 100}) == []
    for one in event_types.built_in().values():
        weight = schema_costs.weigh(one.sample)
        assert weight.steps(schema_costs.load_of(one.schema)) * 500 < schema_costs.MAX_STEPS, one
    note = event_types.find(None, None, "page.published")
    body = "长" * 300_000
    weight = schema_costs.weigh({**note.sample, "body": body})
    assert weight.steps(schema_costs.load_of(note.schema)) < schema_costs.MAX_STEPS


def test_findings_of_large_values_still_say_what_and_where():
    schema = {
        "items": {
            "type": "object",
            "required": ["sku"],
            "additionalProperties": False,
            "properties": {
                "sku": {"type": "string", "maxLength": 5},
                "kind": {"enum": ["a", "b"]},
                "n": {"multipleOf": 2},
            },
        }
    }
    judge = json_schemas.validator_of(schema)
    good = [{"sku": "A-1"}] * 3_000
    assert judge(good) == []
    for bad, pointer, words in (
        ({}, "/3000/sku", "This field is missing"),
        ({"sku": 1}, "/3000/sku", "Must be text"),
        ({"sku": "toolong"}, "/3000/sku", "Is too long: at most 5 characters"),
        ({"sku": "A", "x~/y": 1}, "/3000/x~0~1y", "This field is not known here"),
        ({"sku": "A", "kind": "c"}, "/3000/kind", "Must be one of: a, b"),
        ({"sku": "A", "n": 3}, "/3000/n", "Must be a multiple of 2"),
        ("x", "/3000", "Must be an object"),
    ):
        assert judge([*good, bad]) == [{"pointer": pointer, "message": words}]


# --- patterns ------------------------------------------------------------------------------------

HONEST = [
    "^[A-Z]{3}$", "^[0-9a-f]{64}$", r"^[^\s](.{0,118}[^\s])?$", r"^[^@\s]+@[^@\s]+\.[^@\s]+$",
    r"^\w+([.-]\w+)*@\w+([.-]\w+)*\.\w{2,24}$", r"^(?:[a-z0-9]{8}-){3}[a-z0-9]{12}$",
    r"foo|bar|baz.*qux", r".*\d{4}.*", "^.{1,500}$", "^[\u4e00-\u9fff]{2,8}$", r"\bfoo\b",
    "^-?(0|[1-9][0-9]{0,17})(\\.[0-9]{1,9})?$", "[ab]*a[ab]{5}c", "^$", "", "a|", "[^a]",
    "^(?:(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])\\.){3}(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])$",
]  # fmt: skip


@pytest.mark.parametrize("pattern", HONEST)
def test_honest_patterns_are_taken(pattern):
    assert patterns.look(pattern).problem is None


def grow(chance, depth=0):
    """A random pattern over a few letters."""
    kind = chance.random()
    if depth > 3 or kind < 0.35:
        return chance.choice(
            ["a", "b", "[ab]", ".", "[^a]", r"\d", r"\w", "(?:ab|ba)", "é", "[é-ü]"]
        )
    if kind < 0.6:
        return "".join(grow(chance, depth + 1) for _ in range(chance.randint(2, 4)))
    if kind < 0.75:
        return "(?:" + "|".join(grow(chance, depth + 1) for _ in range(2)) + ")"
    least = chance.randint(0, 12)
    count = f"{{{least},{least + chance.randint(1, 20)}}}"
    times = chance.choice(["*", "+", "?", "{15}", "{30}", count])
    return f"(?:{grow(chance, depth + 1)}){times}"


def test_what_is_taken_is_fast_and_some_of_it_is_not_taken():
    """Hundreds of random patterns: every accepted one runs a long text in small, linear time."""
    chance = random.Random(7)
    texts = ["".join(chance.choice(a) for _ in range(40_000)) for a in ("ab", "abé", "ab1 ")]
    slow = 0
    for _ in range(300):
        pattern = grow(chance) + chance.choice(["", "c$", "z"])
        problem = patterns.look(pattern).problem
        slow += bool(problem and "slow" in problem)
        if problem or json_schemas._engine_problem(pattern):
            continue
        judge = json_schemas.compile_fast({"pattern": pattern})
        for text in texts:
            seconds, _ = best(lambda judge=judge, text=text: judge.is_valid(text), enough=QUICK)
            assert seconds < QUICK, pattern
    assert slow >= 10


# --- what people send to the shop ----------------------------------------------------------------

TEXTS = {
    "aliases": "a: &a [x, x]\nb: [*a, *a]\n",
    "an anchor": "&a " * 500 + "x",
    "a tag": "!!python/object/apply:os.system [x]",
    "lists in lists": "[" * 100_000,
    "dashes": "- " * 100_000,
    "question marks": "? " * 50_000,
    "objects in objects": "{a: " * 50_000,
    "many lists": "[" + "[]," * 80_000 + "]",
    "many names": "".join(f"k{i}: v\n" for i in range(20_000)),
    "a long number": "a: " + "9" * 200_000,
    "too much": "# " + "x" * 300_000,
    "a zero byte": "a: \0",
    "twice": "a: 1\na: 2\n",
    "nothing": "",
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_hostile_manifest_is_refused_with_a_line(name):
    started = time.process_time()
    checked = manifests.check(TEXTS[name])
    assert time.process_time() - started < 3
    assert checked.errors
    assert all(one.line >= 1 for one in checked.errors)


@pytest.mark.parametrize(
    "value", [None, 5, [], {}, "x", [None], [5], {"a": 1}, True, [{"id": 1}], "1e999"]
)
def test_no_value_of_a_manifest_crashes_its_check(value):
    optional = ("lifecycle", "connector", "privacy_url", "sign_on", "event_types", "for_sizes")
    for name in (*shelf.MANIFEST, *optional):
        manifests.check(json.dumps(shelf.manifest(**{name: value})))
