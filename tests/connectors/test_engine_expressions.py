"""Expressions: the shared conformance file on both engines, exactness, and hostile input."""

import base64
import time
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.engine import cel, expressions, templates, yaml_lines
from connectors.engine.expressions import BadExpression, EvaluationError
from connectors.engine.fixtures import same
from connectors.engine.functions import Missing, money, plus, times

CONFORMANCE = yaml_lines.read(Path(__file__).parent / "cel_conformance.yaml").value
REFUSALS = {"missing": Missing, "value": EvaluationError, "refused": BadExpression}


@pytest.mark.parametrize("engine", sorted(cel.ENGINES))
@pytest.mark.parametrize("case", CONFORMANCE["cases"], ids=lambda case: case["expression"])
def test_both_engines_agree_with_the_file(case, engine):
    if "error" not in case:
        value = expressions.compile(case["expression"], engine=engine).evaluate(
            CONFORMANCE["activation"]
        )
        assert same(value, case["value"])
        return
    with pytest.raises(REFUSALS[case["error"]]) as caught:
        expressions.compile(case["expression"], engine=engine).evaluate(CONFORMANCE["activation"])
    assert caught.value.say["zh"]
    assert caught.value.say["en"]
    assert "_p" not in caught.value.say["en"]


def test_the_native_engine_is_the_one_in_use():
    assert cel.engine_name() == "cel-expr-python"


HOSTILE = [
    "event.data.many.all(x, event.data.many.all(y, true))",
    "event.data.many.map(x, event.data.many.map(y, event.data.many))",
    "event.data.many.all(a, event.data.many.all(b, event.data.many.all(c, true)))",
    "[event.data.long + event.data.long].map(a, [a + a].map(b, b + b))",
    "['x'].map(a, [a + a + a + a].map(b, b))",
    "+".join(["event.data.long"] * 30),
    "event.data.few.map(x, " + "+".join(["event.data.long"] * 20) + ")",
    "event.data.long.matches('(a+)+$')",
    "event.data.long.matches('(a|a)*b(a|a)*b(a|a)*b')",
    "event.data.long.matches('((a{100}){100}){100}')",
    "(" * 200 + "1" + ")" * 200,
    "[" * 13 + "]" * 13,
    "!" * 400 + "true",
    "-" * 400 + "1",
    "1" + "+1" * 240,
    "true" + " ? true : false" * 30,
    "event" + ".a" * 240,
    "9" * 490,
    "1e999999999",
    "event.data.many.map(x, [x, x, x, x])",
    "replace(event.data.long, 'a', event.data.long)",
    "join(event.data.many.map(x, event.data.long), '')",
    "money('" + "9" * 400 + "')",
    "times('" + "9" * 40 + "', '" + "9" * 40 + "')",
    "event.__class__.__mro__",
    "event.data.few.__class__",
    "__import__('os')",
    "event.data['__class__']['__globals__']",
    "\x00",
    "event.data.few.exists(_p0, true)",
    "'" + "\\u0041" * 80 + "'",
]


@pytest.mark.parametrize("source", HOSTILE, ids=lambda source: source[:40])
def test_hostile_expressions_are_refused_or_quick(source):
    activation = {
        "event": {
            "data": {"many": list(range(1000)), "few": list(range(100)), "long": "a" * 60_000}
        }
    }
    started = time.process_time()
    try:
        value = expressions.compile(source).evaluate(activation)
    except (BadExpression, EvaluationError):
        value = "refused"
    assert len(str(value)) < 200_000
    assert time.process_time() - started < 0.1


@pytest.mark.parametrize("engine", sorted(cel.ENGINES))
def test_lists_longer_than_the_budget_are_refused_before_they_run(engine):
    many = {"event": {"data": {"lines": list(range(501))}}}
    with pytest.raises(EvaluationError, match="too much data"):
        expressions.compile("event.data.lines.map(x, x)", engine=engine).evaluate(many)
    expression = expressions.compile("size(event.data.lines)", engine=engine)
    few = {"event": {"data": {"lines": list(range(500))}}}
    assert expression.evaluate(few) == 500


@given(st.text(max_size=300))
def test_any_text_compiles_or_is_refused(text):
    said = {"zh": "ok", "en": "ok"}
    try:
        expressions.compile(text)
    except BadExpression as no:
        said = no.say
    assert said["zh"]
    assert said["en"]


scalars = (
    st.text(max_size=40)
    | st.integers()
    | st.booleans()
    | st.none()
    | st.decimals(allow_nan=False, allow_infinity=False, places=4)
)


@given(scalars)
def test_a_path_gives_back_exactly_what_is_there(value):
    got = expressions.compile("event.data.x").evaluate({"event": {"data": {"x": value}}})
    assert got is value


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60))
def test_a_text_survives_a_trip_through_cel(value):
    got = expressions.compile('event.data.x + ""').evaluate({"event": {"data": {"x": value}}})
    assert got == value


@pytest.mark.parametrize("engine", sorted(cel.ENGINES))
@pytest.mark.parametrize("value", ["paid\0x", "\ud800", {"a\0": 1}, [{"k": "\0"}]])
def test_text_an_engine_would_misread_is_refused(value, engine):
    activation = {"event": {"data": {"x": value}}}
    with pytest.raises(EvaluationError, match="character"):
        expressions.compile('event.data.x == "paid"', engine=engine).evaluate(activation)
    assert expressions.compile("event.data.x").evaluate(activation) == value


@given(st.integers(min_value=-(2**63), max_value=2**63 - 1))
def test_whole_numbers_of_64_bits_survive_cel(value):
    source = "event.data.x == 0 ? event.data.x : event.data.x"
    assert expressions.compile(source).evaluate({"event": {"data": {"x": value}}}) == value


@given(st.integers(min_value=2**63))
def test_longer_whole_numbers_cross_as_their_digits(value):
    got = expressions.compile("[event.data.x]").evaluate({"event": {"data": {"x": value}}})
    assert got == [str(value)]


amounts = st.decimals(min_value="-99999999999", max_value="99999999999", places=4)


@given(amounts, amounts)
def test_decimal_arithmetic_is_exact(left, right):
    assert Fraction(plus(str(left), right)) == Fraction(left) + Fraction(right)
    assert Fraction(times(left, str(right))) == Fraction(left) * Fraction(right)


def test_a_sum_that_would_be_rounded_is_refused():
    assert plus("1" + "0" * 39, "0." + "0" * 29 + "1").endswith("1")
    with pytest.raises(EvaluationError, match="exactly"):
        plus(Decimal("1e150"), 1)


@given(st.decimals(min_value="-99999999", max_value="99999999", places=2))
def test_money_keeps_amounts_of_two_decimals(amount):
    assert money(str(amount)) == format(amount, "f")


def test_a_condition_is_true_or_false_and_nothing_else():
    activation = {"event": {"data": {"n": 1, "s": "true"}}}
    assert expressions.condition("${event.data.n == 1}", activation) is True
    assert expressions.condition("event.data.n == 2", activation) is False
    assert expressions.condition(True, activation) is True
    for wrong in ("event.data.n", "event.data.s", "null"):
        with pytest.raises(EvaluationError):
            expressions.condition(wrong, activation)
    with pytest.raises(BadExpression):
        expressions.condition(1, activation)


def test_a_missing_value_in_the_branch_not_taken_is_no_error():
    activation = {"event": {"data": {"n": 1}}}
    source = "event.data.n == 1 ? 'one' : money(event.data.absent)"
    assert expressions.compile(source).evaluate(activation) == "one"


def test_one_and_true_are_different_arguments():
    source = "text(1) + text(true) + text(1.0)"
    assert expressions.compile(source).evaluate({}) == "1true1.0"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ("${event.n}", 7),
        (" ${event.n}", " 7"),
        ("a${event.n}b${event.s}", "a7b}x"),
        ('${"}" + event.s}', "}}x"),
        ("$${event.n}", "${event.n}"),
        ("5 $ ${event.n}", "5 $ 7"),
        ("${event.flag}!", "true!"),
        ("${ {'a': 1}.a }", 1),
    ],
)
def test_templates_join_text_and_keep_a_single_value_typed(text, value):
    got = templates.parse(text).evaluate({"event": {"n": 7, "s": "}x", "flag": True}})
    assert same(got, value)


@pytest.mark.parametrize("text", ["${", "${event.n", "${}", "${'}", "x" * 4001])
def test_broken_templates_are_refused(text):
    with pytest.raises(BadExpression):
        templates.parse(text)


def test_an_object_in_the_middle_of_a_text_is_an_error():
    with pytest.raises(EvaluationError, match="object"):
        templates.parse("a ${event}").evaluate({"event": {}})


def test_base64_is_of_the_text_in_utf8_and_decodes_back():
    for text in ("", "f", "fo", "foo", "扬帆>>??", '{"company": 1}'):
        known = {"input": {"x": text}}
        plain = expressions.compile_expression("base64(input.x)").evaluate(known)
        safe = expressions.compile_expression("base64url(input.x)").evaluate(known)
        assert base64.b64decode(plain, validate=True).decode() == text
        assert base64.urlsafe_b64decode(safe).decode() == text
        assert plain.translate(str.maketrans("+/", "-_")) == safe
    # RFC 4648, section 10
    assert expressions.compile_expression('base64("foobar")').evaluate({}) == "Zm9vYmFy"
    assert expressions.compile_expression('base64("fooba")').evaluate({}) == "Zm9vYmE="


def test_an_object_that_is_made_has_one_order():
    """Engines keep none, and a body that is signed or repeated must be the same again."""
    made = templates.parse('${json({"b": 1, "a": {"d": 1, "c": 2}})}').evaluate({})
    assert made == '{"a":{"c":2,"d":1},"b":1}'


def test_what_came_in_keeps_its_order():
    made = templates.parse("${json(input)}").evaluate({"input": {"b": 1, "a": 2}})
    assert made == '{"b":1,"a":2}'
