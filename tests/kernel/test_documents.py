"""JSON keeps its meaning on the way in and out, and says plainly what it refuses."""

import json
import time
import tracemalloc
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel import documents
from kernel.documents import canonical_digest, dump, parse, split_array
from kernel.errors import Malformed, TooLarge


def slowly(raw: bytes, exact: bool = True):
    """The standard parser alone: what the fast path must agree with."""
    return documents._parse_exactly(raw, exact=exact)


numbers = st.one_of(
    st.integers(min_value=-(10**25), max_value=10**25),
    st.decimals(allow_nan=False, allow_infinity=False, places=3),
    st.sampled_from([2**63, 2**64, -(2**63) - 1, Decimal("12.50"), Decimal("-0.0")]),
)
texts = st.text(st.characters(), max_size=12) | st.sampled_from(
    [
        "\ud800",
        "a\udfffb",
        "\x00",
        "\u2028",
        "\x7f",
        "😀",
        '"',
        "\\",
        ":",
        '":',
        '{"a":1}',
        "NaN",
        ":1.5",
    ]
)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


@given(values)
@settings(max_examples=400, deadline=None)
def test_what_is_written_reads_back_the_same(value):
    raw = dump(value)
    again = parse(raw)
    # two escaped halves side by side are one character when read, as everywhere
    assert again == value or b"\\ud" in raw
    assert dump(again) == raw


@given(values, st.booleans(), st.sampled_from([None, 2]))
@settings(max_examples=400, deadline=None)
def test_the_fast_path_agrees_with_the_standard_parser(value, ascii_only, indent):
    raw = dump(value)
    if ascii_only or indent:
        try:
            raw = json.dumps(json.loads(raw), ensure_ascii=ascii_only, indent=indent).encode()
        except UnicodeEncodeError:
            return
    for exact in (True, False):
        assert repr(parse(raw, exact=exact)) == repr(slowly(raw, exact))


@given(st.text('{}[]":,0123456789.eE-+ \\u003aDd8ntrufalsNI\n', max_size=40))
@settings(max_examples=1500, deadline=None)
def test_the_fast_path_refuses_what_the_standard_parser_refuses(text):
    raw = text.encode()
    outcomes = []
    for read in (parse, slowly):
        try:
            outcomes.append(repr(read(raw)))
        except Malformed as problem:
            outcomes.append(problem.code)
    assert outcomes[0] == outcomes[1]


@given(values)
@settings(max_examples=300, deadline=None)
def test_both_writers_give_the_same_bytes(value):
    for sort_keys in (False, True):
        parts: list[str] = []
        documents._write(value, parts.append, sort_keys=sort_keys)
        slow = "".join(parts).encode("utf-8", "backslashreplace")
        assert dump(value, sort_keys=sort_keys) == slow


@pytest.mark.parametrize(
    "text",
    ["12.50", "0.10", "-0.0", "0.0000001", "1234567890123456789012345.6700", "1E+999", "0.00",
     "9007199254740993", "18446744073709551616", "-9223372036854775809", "9" * 4300,
     '"\\ud800"', '"\\u0000"', '{"b":1,"a":2}', '["1.50",1.50]', "1E-100"],
)  # fmt: skip
def test_text_survives_a_round_trip_to_the_byte(text):
    assert dump(parse(text.encode())) == text.encode()


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e999", Decimal("1E+999")), ("1e-7", Decimal("1E-7")), ("1.5e3", Decimal("1500")),
     ("1e4300", Decimal("1E+4300")), ("-1e2", Decimal(-100)), ("100", 100), ("-0", 0)],
)  # fmt: skip
def test_numbers_keep_their_value(text, value):
    read = parse(text.encode())
    assert (type(read), read) == (type(value), value)
    assert parse(dump(read)) == value


def test_without_exactness_fractions_are_floats_and_whole_numbers_still_exact():
    assert repr(parse(b"[1.50,18446744073709551617,2e2]", exact=False)) == (
        "[1.5, 18446744073709551617, 200.0]"
    )
    with pytest.raises(Malformed, match="more than 4300 digits"):
        parse(b"[1e999]", exact=False)


@pytest.mark.parametrize(
    ("raw", "code", "words"),
    [
        (b"", "not_json", "line 1, column 1"),
        (b"  ", "not_json", ""),
        (b'{"a":1,}', "not_json", "line 1, column 8"),
        (b"[1,\n2,\n!]", "not_json", "line 3, column 1"),
        (b"[1] x", "not_json", "column 5"),
        (b"[1]\x00", "not_json", ""),
        (b"[1][2]", "not_json", ""),
        (b'"\x01"', "not_json", ""),
        (b'"abc', "not_json", ""),
        (b'"abc\\', "not_json", ""),
        (b"01", "not_json", ""),
        (b"1.", "not_json", ""),
        (b"'a'", "not_json", ""),
        (b"NaN", "not_finite", "NaN and Infinity"),
        (b"[-Infinity]", "not_finite", "NaN and Infinity"),
        (b'{"a":Infinity}', "not_finite", ""),
        (b"\xef\xbb\xbf{}", "byte_order_mark", "without one"),
        ("{}".encode("utf-16"), "byte_order_mark", ""),
        ("{}".encode("utf-16-le"), "not_utf8", "UTF-16"),
        ("{}".encode("utf-16-be"), "not_utf8", "UTF-16"),
        ("[1]".encode("utf-32-le"), "not_utf8", ""),
        ("[1]".encode("utf-32"), "byte_order_mark", ""),
        (b'"\xff"', "not_utf8", "number 2"),
        (b'"\xc0\xaf"', "not_utf8", ""),
        (b'"\xed\xa0\x80"', "not_utf8", ""),
        (b'{"a":1,"a":2}', "duplicate_key", '"a" appears twice'),
        (b'{"a":1,"\\u0061":1}', "duplicate_key", ""),
        (b'{"x:y":{"b":":","b":":::"}}', "duplicate_key", '"b"'),
        (b'{":":1,":":"\\u003a\\u003a"}', "duplicate_key", ""),
        (b'{"\\ud800":1.5,"\\ud800":2}', "duplicate_key", ""),
        (b"9" * 4301, "number_too_long", "4300"),
        (b"[-" + b"9" * 5000 + b"]", "number_too_long", "4300"),
        (b"0." + b"1" * 4300, "number_too_long", "4300"),
        (b"1e4301", "number_too_long", ""),
        (b"1e-999999999999999999999", "number_too_long", ""),
        (b"1e" + b"9" * 100_000, "number_too_long", ""),
        (b"[" * 65 + b"]" * 65, "too_deep", "64"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "too_deep", "64"),
        (b"[" * 100_000, "too_deep", "64"),
        (b'{"a":' * 100_000, "too_deep", "64"),
    ],
)
def test_refusals_say_what_is_wrong_and_where(raw, code, words):
    with pytest.raises(Malformed) as caught:
        parse(raw)
    assert caught.value.code == code
    assert words in caught.value.plain()


def test_the_limits_are_the_callers():
    assert parse(b"[[[]]]", max_depth=3) == [[[]]]
    with pytest.raises(Malformed, match="deeper than 2"):
        parse(b"[[[]]]", max_depth=2)
    assert parse(b"[1,2]", max_bytes=5) == [1, 2]
    with pytest.raises(TooLarge, match="5 bytes; the limit is 4"):
        parse(b"[1,2]", max_bytes=4)
    with pytest.raises(TooLarge, match="the limit is 1048576"):
        parse(b" " * (1 << 20) + b"1")


def depth_of(value) -> int:
    items = value.values() if isinstance(value, dict) else value
    return 1 + max(map(depth_of, items), default=0) if isinstance(value, dict | list) else 0


@given(values)
@settings(max_examples=300, deadline=None)
def test_the_depth_is_counted_exactly(value):
    raw = dump(value)
    depth = depth_of(value)
    parse(raw, max_depth=depth)
    if depth:
        with pytest.raises(Malformed, match="deeper"):
            parse(raw, max_depth=depth - 1)


def test_brackets_inside_strings_do_not_count_as_depth():
    text = json.dumps(['[{"' * 100, "\\", "]]]", {"[[": ['\\\\"']}])
    assert parse(text.encode(), max_depth=3) == json.loads(text)
    assert parse(b"[" + b",".join([b"[[]]"] * 1000) + b"]", max_depth=3)


@pytest.mark.parametrize(
    "unit",
    [
        b'"',
        b'\\"',
        b'"\\',
        b"[]",
        b"{}",
        b"]",
        b'[],"',
        b'"a":',
        b"1",
        b" ",
        b'" ',
        b",1",
        b"[ ",
        b"\\u003",
        b"[1.5,",
        b"[[1]],",
    ],
)
def test_hostile_bytes_take_linear_time_and_bounded_memory(unit):
    raw = (b'["' if unit in (b'\\"',) else b"") + unit * ((1 << 20) // len(unit) - 2)
    tracemalloc.start()
    started = time.process_time()
    for read in (parse, split_array):
        with pytest.raises((Malformed, TooLarge)):
            read(raw)
    took = time.process_time() - started
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert took < 3
    assert peak < 64 << 20


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), Decimal("NaN"), Decimal("Infinity"), [{"a": float("nan")}],
     {"a": (1, [float("-inf")]), "b": 1 << 80}, {1: 2}, {"a": {1, 2}}, b"bytes", object()],
)  # fmt: skip
def test_what_json_has_not_is_never_written(value):
    with pytest.raises((ValueError, TypeError)):
        dump(value)


def test_computed_values_are_written_plainly():
    assert (
        dump({"n": None, "x": [1.5, True, None, (1, 2)]}) == b'{"n":null,"x":[1.5,true,null,[1,2]]}'
    )
    assert dump({"b": 1, "a": {"d": 1 << 70, "c": 2}}, sort_keys=True) == (
        b'{"a":{"c":2,"d":1180591620717411303424},"b":1}'
    )
    assert dump("扬帆") == '"扬帆"'.encode()
    # a small document cannot blow up to a large one
    assert len(dump(Decimal("1e-4000"))) < 10


def test_an_array_is_cut_byte_exact():
    elements = [b'{"a": 1.50,\n "b":"],[\\""}', b"[ 1 , 2 ]", b'"\xe6\x89\xac"', b"-0.0", b"null",
                b'"\\ud800"', b'{"a":1,"a":2}', b"123456789012345678901234567890"]  # fmt: skip
    raw = b" \n[ " + b" ,\t".join(elements) + b" ]\r\n"
    assert split_array(raw) == elements
    assert split_array(b"[" + b",".join(elements) + b"]") == elements
    assert split_array(b"[]") == split_array(b" [ ] ") == []


@given(st.lists(values, max_size=6))
@settings(max_examples=200, deadline=None)
def test_cutting_agrees_with_reading(items):
    raw = dump(items)
    slices = split_array(raw)
    assert [repr(parse(one)) for one in slices] == [repr(one) for one in parse(raw)]
    assert b"[" + b",".join(slices) + b"]" == raw


@pytest.mark.parametrize(
    "raw",
    [b"", b"{}", b"1", b"[1", b"[1,]", b"[,1]", b"[1,,2]", b"[1 2]", b"[1]]", b"[1] 2", b"[1}",
     b"]", b"[", b"[[1]", b'["a]', b"[NaN]", b"\xef\xbb\xbf[1]", b"[\xff]", b"[01]", b"[1e]",
     b"[" + b"9" * 9999 + b"]"],
)  # fmt: skip
def test_a_broken_array_is_refused_whole(raw):
    with pytest.raises(Malformed):
        split_array(raw)


def test_the_number_size_and_depth_of_elements_are_limited():
    assert len(split_array(b"[" + b",".join([b"1"] * 1000) + b"]")) == 1000
    with pytest.raises(TooLarge, match="more than 1000 elements"):
        split_array(b"[" + b",".join([b"1"] * 1001) + b"]")
    with pytest.raises(TooLarge, match="more than 2 elements"):
        split_array(b"[1,2,3]", max_items=2)
    with pytest.raises(TooLarge, match="the limit is 3"):
        split_array(b"[12]", max_bytes=3)
    assert split_array(b"[" + b"[" * 64 + b"]" * 64 + b"]") == [b"[" * 64 + b"]" * 64]
    with pytest.raises(Malformed, match="deeper"):
        split_array(b"[" + b"[" * 65 + b"]" * 65 + b"]")


def test_the_digest_ignores_form_and_notices_content():
    same = [b'{"a":1,"b":[1.50,"\xe6\x89\xac"]}', b'{ "b" : [1.50, "\\u626c"],\n "a":1 }']
    assert len({canonical_digest(raw) for raw in same}) == 1
    others = [
        b'{"a":1,"b":[1.5,"\xe6\x89\xac"]}',
        b'{"a":"1","b":[1.50,"\xe6\x89\xac"]}',
        b"[]",
        b"{}",
    ]
    assert len({canonical_digest(raw) for raw in [same[0], *others]}) == 5
    assert canonical_digest(b"{}") == (
        "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    )
