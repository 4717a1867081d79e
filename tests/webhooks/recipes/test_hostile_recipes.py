"""Whatever comes, a recipe gives values or refuses; a recipe that was checked is not at fault."""

import json
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.webhooks.recipes import vectors
from webhooks import recipes
from webhooks.recipes import checking, reading, running
from webhooks.recipes import values as values_of_recipes
from webhooks.recipes.options import check_options

NOW = vectors.at(1_700_000_000)
ROOTS = {
    "method": None, "path": None, "query": None, "header": None, "body": None, "form": None,
    "secret": {"token", "aes_key", "key"}, "settings": {"receiver"},
}  # fmt: skip

words = st.sampled_from([*running.VALUES, *running.CHECKS, "when", "any", "nonsense"])
texts = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["${body}", "${query.a}", "${secret.token}", "${secret.key}", "${x}", "${x.rest}", "${",
         "${no.such}", "${body.a.b}", "${query}", "${header.x-a}"]
    ),
)  # fmt: skip
values = st.one_of(
    texts, st.integers(-5, 70), st.booleans(), st.none(),
    st.sampled_from(["md5", "sha256", "aes_cbc", "aes_gcm", "hex", "base64", "base64_43", "json",
                     "xml", "form", "s", "ms", "key_head", "data_head", "yyyy-MM-dd"]),
    st.lists(texts, max_size=3),
    st.dictionaries(st.sampled_from(["of", "drop", "sort", "is", "has", "method"]),
                    st.one_of(texts, st.lists(texts, max_size=2)), max_size=3),
)  # fmt: skip
options = st.dictionaries(
    st.sampled_from(["as", "of", "key", "key_is", "iv", "iv_is", "out", "pad", "of_is", "nonce",
                     "signature", "unit", "skip", "steps", "optional", "rest", "offset"]),
    values, max_size=6,
)  # fmt: skip
steps = st.lists(st.builds(lambda word, one, more: {**more, word: one}, words, values, options),
                 max_size=6)  # fmt: skip
sent = st.fixed_dictionaries(
    {
        "query": st.dictionaries(st.sampled_from(["a", "b"]), st.text(max_size=9), max_size=2),
        "header": st.dictionaries(st.just("x-a"), st.text(max_size=9), max_size=1),
        "body": st.binary(max_size=80),
        "secret": st.just({"token": "t", "key": "0123456789abcdef"}),
    }
)


@settings(max_examples=400, deadline=None)
@given(steps, sent)
def test_any_steps_give_values_or_refuse(recipe, values):
    try:
        assert set(values) <= set(recipes.run(recipe, values, NOW))
    except recipes.Refused as refused:
        told = refused
    else:
        return
    assert told.code.startswith(("signature_", "recipe_"))
    assert told.say["zh"]
    assert told.say["en"]


@settings(max_examples=400, deadline=None)
@given(steps)
def test_any_steps_can_be_checked(recipe):
    for pointer, say in recipes.check(recipe, ROOTS):
        assert pointer == "" or pointer.startswith("/")
        assert say["zh"]
        assert say["en"]


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(vectors.ACCEPTED)), st.binary(max_size=300), sent)
def test_a_checked_recipe_is_never_at_fault(name, body, values):
    recipe, good = vectors.ACCEPTED[name]
    given_values = {**good, **{k: v for k, v in values.items() if k != "secret"}, "body": body}
    with pytest.raises(recipes.Refused) as refused:
        recipes.run(recipe, given_values, NOW)
    assert refused.value.code in ("signature_mismatch", "signature_missing")


@pytest.mark.parametrize(
    "recipe",
    [vectors.ECHO, vectors.XML, vectors.JSON, vectors.DINGTALK_ROBOT[:1], vectors.TOP[:1],
     vectors.FEISHU_OPEN[:1]],
)  # fmt: skip
def test_good_recipes_pass(recipe):
    assert recipes.check(recipe, ROOTS) == []


@pytest.mark.parametrize(
    ("step", "pointer"),
    [
        ({"as": "x"}, "/0"),
        ({"as": "x", "hash": "sha256", "hmac": "sha256"}, "/0"),
        ({"as": "x", "hash": "crc32", "of": ""}, "/0/hash"),
        ({"as": "x", "hash": "md5"}, "/0"),
        ({"as": "x", "hash": "md5", "of": "", "salt": ""}, "/0/salt"),
        ({"as": "x", "text": "${nobody.knows}"}, "/0/text"),
        ({"as": "x", "text": "${secret.other}"}, "/0/text"),
        ({"as": "x", "text": "${open"}, "/0/text"),
        ({"as": "body", "text": ""}, "/0/as"),
        ({"as": "X", "text": ""}, "/0/as"),
        ({"text": ""}, "/0/as"),
        ({"equal": ["a"]}, "/0/equal"),
        ({"as": "x", "equal": ["a", "b"]}, "/0/as"),
        ({"fresh": "1", "unit": "days"}, "/0/unit"),
        ({"fresh": "1", "within_seconds": 0}, "/0/within_seconds"),
        ({"as": "x", "random": 65}, "/0/random"),
        ({"as": "x", "time": "s", "offset": "8"}, "/0/offset"),
        ({"as": "x", "decrypt": "aes_cbc", "key": "", "of": ""}, "/0"),
        ({"as": "x", "decrypt": "aes_gcm", "key": "", "of": ""}, "/0"),
        ({"as": "x", "decrypt": "rot13", "key": "", "of": "", "iv_is": "zero"}, "/0/decrypt"),
        ({"as": "x", "pairs": {"of": ["wide"]}}, "/0/pairs/of"),
        ({"as": "x", "pairs": {"of": ["query"], "sort": "size"}}, "/0/pairs/sort"),
        ({"when": {"has": "query.a"}, "steps": "none"}, "/0/steps"),
        ({"when": {"day": "monday"}, "steps": []}, "/0/when/day"),
        ({"any": [[{"as": "x"}]]}, "/0/any/0/0"),
        ("text", "/0"),
    ],
)
def test_the_check_says_where(step, pointer):
    found = recipes.check([step], ROOTS)
    assert [place for place, _ in found] == [pointer]


def test_too_many_steps():
    step = {"as": "x", "text": ""}
    assert recipes.check([step] * 40, ROOTS) == []
    assert recipes.check([{"when": {"method": "GET"}, "steps": [step] * 40}], ROOTS)
    with pytest.raises(recipes.Refused) as refused:
        recipes.run([step] * 41, {}, NOW)
    assert refused.value.code == "recipe_broken"


def test_values_are_bounded():
    big = {"body": b"x" * (1 << 20)}
    assert len(recipes.run([{"as": "x", "text": "${body}${body}"}], big, NOW)["x"]) == 2 << 20
    for template in ("${body}${body}.", "${body}${body}${body}"):
        with pytest.raises(recipes.Refused):
            recipes.run([{"as": "x", "text": template}], big, NOW)
    with pytest.raises(recipes.Refused):
        recipes.run([{"as": "x", "encode": "hex", "of": "${body}${body}"}], big, NOW)


def test_conditions():
    values = {"method": "GET", "query": {"echo": "1", "empty": ""}, "json": {"type": "a"}}
    assert recipes.is_so({"method": "GET", "has": "query.echo"}, values)
    assert not recipes.is_so({"method": "POST", "has": "query.echo"}, values)
    assert recipes.is_so({"lacks": "query.empty"}, values)
    assert recipes.is_so({"is": ["${json.type}", "b", "a"]}, values)
    assert not recipes.is_so({"is": ["${json.other}", ""]}, values)


def test_a_repeated_parameter_is_no_value():
    form = recipes.run(
        [{"as": "f", "parse": "form", "of": "${body}"}], {"body": b"a=1&a=2&b=3"}, NOW
    )
    assert recipes.text("${f.b}", form) == b"3"
    with pytest.raises(recipes.Refused) as refused:
        recipes.text("${f.a}", form)
    assert refused.value.code == "signature_missing"
    assert recipes.text("${f.a}", {"f": recipes.Pairs([("a", "1")])}) == b"1"


def test_bytes_that_are_no_text_stay_as_they_are():
    form = recipes.run([{"as": "f", "parse": "form", "of": "${body}"}], {"body": b"a=%B2%E2"}, NOW)
    assert recipes.text("${f.a}", form) == b"\xb2\xe2"


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"<a", b"<a></b>", b"no xml", b"<a>\x00</a>",
        b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
        b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
        b'<!DOCTYPE a SYSTEM "http://example.com/a.dtd"><a/>',
        b'<?xml version="1.0" encoding="no-such"?><a/>',
        b"<a>" * 70 + b"</a>" * 70,
        b"<a>" + b"<b/>" * 20_001 + b"</a>",
    ],
)  # fmt: skip
def test_bad_xml(raw):
    with pytest.raises(recipes.Refused) as refused:
        recipes.read_xml(raw)
    assert refused.value.code == "signature_mismatch"


def test_good_xml():
    raw = "<x><a>1</a><a>2</a><b> 文 </b><c/><d e='f'><g>h</g></d></x>".encode()
    assert recipes.read_xml(raw) == {
        "a": ["1", "2"], "b": " 文 ", "c": "", "d": {"@e": "f", "g": "h"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given_time", "unit", "expected"),
    [
        (b"1700000000", "s", 1_700_000_000),
        (b"1700000000123", "ms", 1_700_000_000.123),
        (b"2023-11-14T22:13:20Z", "iso", 1_700_000_000),
        (b"2023-11-15T06:13:20+08:00", "iso", 1_700_000_000),
        (b"2023-11-15 06:13:20", "yyyy-MM-dd HH:mm:ss", 1_700_000_000),
        (b"+1700000000", "s", None), (b"1e9", "s", None), (b"", "s", None),
        ("١٧".encode(), "s", None), (b"9" * 16, "ms", None), (b"2023", "yyyy-MM-dd", None),
    ],
)  # fmt: skip
def test_times(given_time, unit, expected):
    found = recipes.texts.read_time(given_time, unit, "+08:00")
    assert (found and found.timestamp()) == expected


def test_times_are_written():
    recipe = [
        {"as": "a", "time": "ms"}, {"as": "b", "time": "yyyy-MM-dd HH:mm:ss", "offset": "+08:00"},
        {"as": "c", "time": "iso", "offset": "+08:00"}, {"as": "d", "time": "yyyyMMddHHmmss"},
    ]  # fmt: skip
    found = recipes.run(recipe, {}, NOW)
    assert [found[name] for name in "abcd"] == [
        b"1700000000000", b"2023-11-15 06:13:20", b"2023-11-15T06:13:20+08:00", b"20231114221320",
    ]  # fmt: skip


def test_no_refusal_tells_a_secret():
    recipe = [{"equal": ["${secret.token}", "${query.given}"]}]
    with pytest.raises(recipes.Refused) as refused:
        recipes.run(recipe, {"secret": {"token": "hush"}, "query": {"given": "sent"}}, NOW)
    told = json.dumps([refused.value.say, str(refused.value), repr(refused.value)])
    assert "hush" not in told
    assert "sent" not in told
    assert refused.value.say["en"].startswith("Step 1 (equal)")


def test_an_empty_secret_proves_nothing():
    with pytest.raises(recipes.Refused):
        recipes.run([{"equal": ["${secret.token}", ""]}], {"secret": {"token": ""}}, NOW)
    with pytest.raises(recipes.Refused):
        recipes.run([{"as": "m", "hmac": "md5", "key": "", "of": "a"}], {}, NOW)


def test_surroundings_default_to_real_randomness():
    around = recipes.Surroundings(datetime.now(UTC))
    recipe = [{"as": "x", "random": 16}]
    assert recipes.run(recipe, {}, around)["x"] != recipes.run(recipe, {}, around)["x"]


def test_every_operation_is_in_the_grammar():
    assert set(checking._GRAMMAR) | {"pairs"} == {*running.VALUES, *running.CHECKS}


def _again(step, count=36):
    return [{"as": f"h{number}", **step} for number in range(count)]


_LARGE = {"as": "large", "text": "${body}" * 31}
HEAVY = {
    "hash": ([_LARGE, *_again({"hash": "sha512", "of": "${large}"})], b"a" * 64_000),
    "xor": ([_LARGE, *_again({"xor": ["${large}", "${large}"]})], b"a" * 64_000),
    "percent": ([_LARGE, *_again({"decode": "percent", "of": "${large}"})], b"%41" * 21_000),
    "xml": (_again({"parse": "xml", "of": "<a>${body}</a>"}), b"<b/>" * 15_000),
    "json": (_again({"parse": "json", "of": "[${body}1]"}), b"[1]," * 15_000),
    "form": (_again({"parse": "form", "of": "${body}"}), b"a=%41%41%41%41%41%41&" * 900),
    "pairs": (
        [{"as": "all", "parse": "json", "of": "${body}"},
         *_again({"pairs": {"of": ["all"] * 50, "only": ["none"]}})],
        json.dumps({str(number): 1 for number in range(5000)}).encode(),
    ),
}  # fmt: skip


def _delivered(steps, body, **more):
    proof = {"equal": ["${secret.key}", "${body}"]}
    options = {"secrets": {"key": {"title": {"zh": "值", "en": "Value"}}}, "steps": [*steps, proof]}
    assert not check_options(options)
    delivery = reading.Delivery("POST", "/in/x", b"", {}, body)
    given = reading.Given({"key": "new"}, {"key": "old"})
    return reading.read(options, delivery, given, NOW, **more)


@pytest.mark.parametrize("name", HEAVY)
def test_a_heavy_recipe_never_holds_up_the_loop(name):
    started = time.process_time()
    with pytest.raises(recipes.Heavy):
        _delivered(*HEAVY[name], is_brief=True)
    assert time.process_time() - started < 0.3


@pytest.mark.parametrize("name", ["hash", "xor", "percent", "pairs"])
def test_what_all_tries_handle_is_bounded(name):
    with pytest.raises(recipes.Refused) as refused:
        _delivered(*HEAVY[name])
    assert "too much" in refused.value.say["en"]


def test_an_answer_is_bounded_before_it_is_written():
    said = {"json": ["${body}"] * 9000}
    with values_of_recipes.bounded_work(), pytest.raises(recipes.Refused):
        reading.reply(said, {"body": {"a": "b" * 60_000}}, NOW)


def test_a_key_of_many_beginnings_is_refused_at_once():
    step = {"rsa_verify": "sha256", "key": "${body}", "of": "x", "signature": "YQ=="}
    started = time.process_time()
    with pytest.raises(recipes.Refused):
        recipes.run([step], {"body": b"-----BEGIN A-----" * 60_000}, NOW)
    assert time.process_time() - started < 0.5
