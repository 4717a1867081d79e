"""Mapping: exactness, every operator, budgets, and the check at save."""

import time
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.engine import mapping
from connectors.engine.fixtures import same
from connectors.engine.mapping import MappingError
from kernel import documents

EVENT = {
    "event": {
        "data": {
            "no": "00123",
            "id": 1234567890123456789,
            "price": Decimal("12.50"),
            "phone": "+86 0138",
            "status": "WAIT",
            "empty": None,
            "lines": [
                {"sku": "A", "quantity": Decimal("1.0"), "tags": ["x"]},
                {"sku": "B", "quantity": 0, "tags": []},
            ],
        }
    }
}


def targets(error):
    return {problem.target for problem in error.value.problems}


@pytest.mark.parametrize(
    ("document", "value"),
    [
        ({"a": 1, "b": [True, None, "x"]}, {"a": 1, "b": [True, None, "x"]}),
        ("${event.data.id}", 1234567890123456789),
        ({"n": "No ${event.data.no}"}, {"n": "No 00123"}),
        ({"p": "${event.data.price}"}, {"p": Decimal("12.50")}),
        ({"t": "${event.data.price} 元"}, {"t": "12.50 元"}),
        (
            {"each": "${event.data.lines}", "do": {"s": "${item.sku}", "i": "${index}"}},
            [{"s": "A", "i": 0}, {"s": "B", "i": 1}],
        ),
        (
            {"each": "event.data.lines", "as": "line", "when": "line.quantity > 0",
             "do": "${line.sku}"},
            ["A"],
        ),
        (
            {"each": "${event.data.lines}", "as": "line", "do": {
                "sku": "${line.sku}",
                "tags": {"each": "${line.tags}", "do": "${line.sku}${item}"}}},
            [{"sku": "A", "tags": ["Ax"]}, {"sku": "B", "tags": []}],
        ),
        ({"w": {"when": "event.data.no == '00123'", "then": 1, "else": 2}}, {"w": 1}),
        ({"w": {"when": "${event.data.no == ''}", "then": 1}, "k": 1}, {"k": 1}),
        ([{"when": "${event.data.no == ''}", "then": 1}, 2], [2]),
        ({"d": {"value": "${event.data.absent}", "default": "-"}}, {"d": "-"}),
        ({"d": {"value": "${event.data.empty}", "default": "-"}}, {"d": "-"}),
        ({"d": {"value": "a ${event.data.empty}", "default": "-"}}, {"d": "-"}),
        ({"d": {"value": "${event.data.no}", "default": "-"}}, {"d": "00123"}),
        ({"o": {"optional": "${event.data.absent}"}, "k": 1}, {"k": 1}),
        ({"o": {"optional": "${event.data.empty}"}}, {}),
        ({"o": "${event.data.empty}"}, {"o": None}),
        ({"c": {"const": {"each": "x"}}}, {"c": {"each": "x"}}),
        ({"c": {"object": {"const": 1, "each": 2}}}, {"c": {"const": 1, "each": 2}}),
        ({"m": {"value": "1.00", "currency": "CNY"}}, {"m": {"value": "1.00", "currency": "CNY"}}),
        (
            {"s": {"code_table": {"table": {"WAIT": "paid"}, "of": "${event.data.status}"}}},
            {"s": "paid"},
        ),
        (
            {"s": {"code_table": {"table": {}, "of": "${event.data.status}", "unknown": "keep"}}},
            {"s": "WAIT"},
        ),
        (
            {"s": {"code_table": {"table": {}, "of": "${event.data.id}",
                                  "unknown": {"const": "other"}}}},
            {"s": "other"},
        ),
        (
            {"s": {"code_table": {"table": {"1234567890123456789": 1}, "of": "${event.data.id}"}}},
            {"s": 1},
        ),
        (
            {"n": "${event.data.no}", "l": {"each": "${event.data.lines}", "do": "${item.sku}"},
             "x": {"rest": "${event.data}", "except": ["id", "phone"]}},
            {"n": "00123", "l": ["A", "B"],
             "x": {"price": Decimal("12.50"), "status": "WAIT", "empty": None}},
        ),
    ],
)  # fmt: skip
def test_every_operator(document, value):
    assert same(mapping.apply(document, EVENT), value)


def test_every_target_that_fails_is_named_with_what_was_missing():
    document = {
        "a": "${event.data.absent}",
        "b": {"c": "${event.data.lines[5].sku}"},
        "l": {"each": "${event.data.lines}", "do": {"z": "${item.zz}"}},
        "s": {"code_table": {"table": {}, "of": "${event.data.status}"}},
        "n": {"each": "${event.data.no}", "do": 1},
        "w": {"when": "${event.data.no}", "then": 1},
        "good": "${event.data.no}",
    }
    with pytest.raises(MappingError) as error:
        mapping.apply(document, EVENT)
    assert targets(error) == {"/a", "/b/c", "/l/0/z", "/l/1/z", "/s", "/n", "/w"}
    first = error.value.problems[0]
    assert (first.source, first.is_missing) == ("event.data.absent", True)
    assert "event.data.absent" in first.say["zh"]


def test_a_default_does_not_hide_a_wrong_value():
    document = {"d": {"value": "${money(event.data.no + 'x')}", "default": "0.00"}}
    with pytest.raises(MappingError) as error:
        mapping.apply(document, EVENT)
    assert targets(error) == {"/d"}


@pytest.mark.parametrize(
    ("document", "target"),
    [
        ({"a": "${"}, "/a"),
        ({"a": "${nonsense.x}"}, "/a"),
        ({"a": {"each": "${event.data.lines}"}}, "/a"),
        ({"a": {"each": "", "do": 1}}, "/a"),
        ({"a": {"each": "${event.data.lines}", "as": "event", "do": 1}}, "/a"),
        ({"a": {"each": "${event.data.lines}", "as": "a b", "do": 1}}, "/a"),
        ({"a": {"rest": "${money(1)}"}}, "/a"),
        ({"a": {"code_table": {"of": 1}}}, "/a"),
        ({"a": {"code_table": 1}}, "/a"),
        ({"a": {"object": 1}}, "/a"),
        ({"a~/b": "${x}"}, "/a~0~1b"),
        ({"a": "${item.x}", "b": {"each": "${event.data.lines}", "do": "${line.x}"}}, "/b/0"),
    ],
)
def test_mistakes_are_refused_when_the_document_is_read(document, target):
    with pytest.raises(MappingError) as error:
        mapping.prepare(document)
    assert target in targets(error)
    assert mapping.check_mapping(document)


leaves = st.text(max_size=30) | st.integers() | st.booleans() | st.none()
leaves |= st.decimals(allow_nan=False, allow_infinity=False, places=6)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(min_size=1, max_size=8), inner)
    ),
    max_leaves=12,
)


@given(values)
def test_what_is_mapped_leaves_exactly_as_it_came(value):
    event = {"event": {"data": {"v": value, "l": [value, value]}}}
    document = {
        "one": "${event.data.v}",
        "all": {"each": "${event.data.l}", "do": {"x": "${item}"}},
        "left": {"rest": "${event.data}", "except": []},
    }
    got = mapping.apply(document, event)
    assert same(got, {"one": value, "all": [{"x": value}, {"x": value}], "left": {}})


@pytest.mark.parametrize(
    "raw",
    [
        "1234567890123456789",
        "12345678901234567890",
        '"12.50"',
        "12.50",
        '"013800000000"',
        '"+8613800000000"',
        '"1e5"',
        '"12_000"',
        '"true"',
        '"0x10"',
        '"${event.data}"',
        "0.1",
        "100000000000000000000.01",
        '"\\u0000"',
    ],
)
def test_ids_money_and_phones_survive_from_wire_to_wire(raw):
    event = {"event": {"data": documents.parse(b'{"v": ' + raw.encode() + b"}")}}
    out = documents.dump(mapping.apply({"v": "${event.data.v}"}, event))
    assert documents.parse(out) == {"v": documents.parse(raw.encode())}
    if raw != '"\\u0000"':
        assert out == b'{"v":' + raw.encode() + b"}"


def test_the_step_budget_stops_a_bomb():
    many = {"event": {"data": {"l": list(range(400))}}}
    inner = {"each": "${event.data.l}", "as": "c", "do": 1}
    middle = {"each": "${event.data.l}", "as": "b", "do": inner}
    started = time.process_time()
    with pytest.raises(MappingError, match="steps"):
        mapping.apply({"each": "${event.data.l}", "as": "a", "do": middle}, many)
    assert time.process_time() - started < 2


def test_the_size_budget_stops_a_bomb():
    big = {"event": {"data": {"l": list(range(100)), "t": "x" * 60_000}}}
    with pytest.raises(MappingError, match="1 MB"):
        mapping.apply({"each": "${event.data.l}", "do": "${event.data.t}"}, big)


def test_a_document_with_too_many_nodes_is_refused():
    with pytest.raises(MappingError, match="too large"):
        mapping.prepare([[1] * 100] * 30)
    deep: object = 1
    for _ in range(40):
        deep = [deep]
    with pytest.raises(MappingError, match="too large"):
        mapping.prepare(deep)


SOURCE = {
    "type": "object",
    "properties": {
        "no": {"type": "string"},
        "count": {"type": "integer"},
        "open": {"type": "object", "additionalProperties": True},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
    },
    "$defs": {"line": {"type": "object", "properties": {"sku": {"type": "string"}}}},
}
TARGET = {
    "type": "object",
    "additionalProperties": False,
    "required": ["number", "rows"],
    "properties": {
        "number": {"type": "string", "maxLength": 5},
        "count": {"type": "number"},
        "state": {"enum": ["open", "done"]},
        "rows": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["sku"],
                "properties": {"sku": {"type": "string"}},
            },
        },
    },
}
GOOD = {
    "number": "${event.data.no}",
    "rows": {"each": "${event.data.lines}", "do": {"sku": "${item.sku}"}},
}


def found(document, steps=None):
    sources = mapping.source_schema(SOURCE, steps or {})
    return {one.target for one in mapping.check_mapping(document, sources, TARGET)}


def test_a_good_mapping_has_no_problems():
    assert found(GOOD) == set()
    assert found({**GOOD, "count": "${event.data.count}", "number": "${event.id}"}) == set()
    assert found({**GOOD, "count": "${event.data.open.anything}"}) == set()
    assert found({**GOOD, "number": "${steps.erp.output.no}"}, {"erp": SOURCE}) == set()
    assert found({**GOOD, "number": "${steps.any.output.whatever}"}, {"any": None}) == set()


@pytest.mark.parametrize(
    ("change", "target"),
    [
        ({"number": "${event.data.number}"}, "/number"),
        ({"number": "${event.datum.no}"}, "/number"),
        ({"number": "${event.data.no.deeper}"}, "/number"),
        ({"number": "${event.data.count}"}, "/number"),
        ({"number": "${has(event.data.no)}"}, "/number"),
        ({"number": "too long"}, "/number"),
        ({"number": 5}, "/number"),
        ({"number": "${steps.later.output.no}"}, "/number"),
        ({"number": "${steps.erp.outptu.no}"}, "/number"),
        ({"number": {"when": "event.data.nope == 1", "then": "x"}}, "/number"),
        ({"count": "${money(event.data.count)}"}, "/count"),
        ({"count": "n ${event.data.count}"}, "/count"),
        ({"state": "closed"}, "/state"),
        ({"state": {"code_table": {"table": {"1": "x"}, "of": "1"}}}, "/state"),
        ({"extra": 1}, "/extra"),
        ({"rows": "${event.data.no}"}, "/rows"),
        ({"rows": {"each": "${event.data.no}", "do": {"sku": "x"}}}, "/rows"),
        ({"rows": {"each": "${event.data.lines}", "do": {"sku": "${item.skuu}"}}}, "/rows/0/sku"),
        ({"rows": {"each": "${event.data.lines}", "do": {}}}, "/rows/0/sku"),
        ({"rows": {"each": "${event.data.lines}", "do": "${item.sku}"}}, "/rows/0"),
    ],
)
def test_what_must_go_wrong_is_found_when_it_is_saved(change, target):
    assert target in found({**GOOD, **change}, {"erp": SOURCE})


def test_a_required_field_left_out_is_found():
    assert found({"number": "x"}) == {"/rows"}
