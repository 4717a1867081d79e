"""Nothing is lost on the way: what came in is stored and goes out, to the last digit."""

import json
from decimal import Decimal

import pytest
from factories import webhooks as make
from factories.webhooks import OK, answering

from kernel import documents
from webhooks import drain, intake, sources
from webhooks.tables import Event

ODD = {
    "a zero character": rb'{"text":"a\u0000b"}',
    "half a character": rb'{"text":"\ud83d","other":"\udc00\ud800"}',
    "nineteen digits": b'{"id":9223372036854775807,"next":9223372036854775808}',
    "forty digits": b'{"id":1234567890123456789012345678901234567890}',
    "cents": b'{"price":12.50,"rate":0.10,"sum":100.00,"none":0.0}',
    "many places": b'{"x":0.1000000000000000055511151231257827021181583404541015625}',
    "far exponents": b'{"small":1e-7,"large":1E400,"plain":1.5E+3,"minus":-2.50e-1}',
    "any script": '{"名称":"轴承 𠮷","نص":"مرحبا","emoji":"👩‍🏭"}'.encode(),
    "odd keys": rb'{"":1,"a.b/c~d":2,"\u0000":3,"__proto__":{"x":4},"__class__":5}',
    "nothing much": b"{}",
    "sixty levels": b'{"x":' + b"[" * 60 + b"0" + b"]" * 60 + b"}",
    "a scalar inside": b'{"x":[null,true,false,"",0,-1]}',
    "spaces": b'{ "a" :\t[ 1 ,\r\n 2 ] }',
}


@pytest.fixture
def post(client, database):
    intake.forget()
    rules = {"from": "fixed", "value": "test.happened"}
    source = make.in_transaction(lambda s: make.make_source(s, "org_a", rules=rules))
    make.in_transaction(lambda s: make.make_endpoint(s, "org_a"))
    token = sources.url_of(source).rsplit("/", 1)[1]

    def send(raw, content_type, **more):
        signed = make.signed(source, raw, "msg_1")
        headers = {**signed, "content-type": content_type, **more}
        return client.post(f"/in/{token}", data=raw, headers=headers)

    return send


def as_one(post, odd):
    return post(odd, "application/json")


def as_array(post, odd):
    return post(b"[" + odd + b"]", "application/json")


def as_binary(post, odd):
    attributes = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/x", "ce-type": "a.b"}
    return post(odd, "application/json", **attributes)


def wrapped(odd):
    return (
        b'{"specversion":"1.0","id":"1","source":"/x","type":"test.happened","data":' + odd + b"}"
    )


def as_structured(post, odd):
    return post(wrapped(odd), "application/cloudevents+json")


def as_batch(post, odd):
    return post(b"[" + wrapped(odd) + b"]", "application/cloudevents-batch+json")


def exact(raw):
    """The value with every number as it was written, so that 12.5 is not 12.50."""
    return json.loads(raw, parse_float=Decimal, parse_int=lambda digits: ("int", digits))


def numbers(value):
    """Numbers by value: 1E400 may be written as 1E+400, but 12.50 keeps its zero."""
    if isinstance(value, dict):
        return {key: numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [numbers(item) for item in value]
    return value.as_tuple() if isinstance(value, Decimal) else value


def sent_out():
    send = answering(OK)
    drain.drain("w1", send)
    (request,) = send.sent
    return request.body


@pytest.mark.parametrize("way", [as_one, as_array, as_binary])
@pytest.mark.parametrize("name", ODD)
def test_the_very_bytes_are_stored_and_sent(post, way, name):
    odd = ODD[name]
    assert way(post, odd).status_code == 202
    (event,) = make.rows(Event)
    assert (event.state, event.problem) == ("new", None)
    assert event.body == odd
    assert b'"data":' + odd + b"}" in sent_out()


@pytest.mark.parametrize("way", [as_structured, as_batch])
@pytest.mark.parametrize("name", ODD)
def test_of_a_wrapping_the_data_keeps_every_digit_and_character(post, way, name):
    odd = ODD[name]
    assert way(post, odd).status_code == 202
    (event,) = make.rows(Event)
    assert (event.state, event.problem) == ("new", None)
    assert numbers(exact(event.body)) == numbers(exact(odd))
    body = sent_out()
    assert b'"data":' + event.body + b"}" in body
    assert documents.parse(body)["data"] == documents.parse(odd)


@pytest.mark.parametrize("way", [as_one, as_array, as_binary, as_structured, as_batch])
@pytest.mark.parametrize(
    ("odd", "code"),
    [
        (b'{"a":1,"a":2}', "duplicate_key"),
        (b'{"x":{"a":1,"b":2,"a":1}}', "duplicate_key"),
        (b'{"a":NaN}', "not_finite"),
        (b'{"a":"\xff"}', "not_utf8"),
        (b'{"a":' + b"9" * 5000 + b"}", "number_too_long"),
    ],
)
def test_what_two_readers_would_read_differently_is_refused(post, way, odd, code):
    answer = way(post, odd)
    assert answer.status_code == 400
    assert answer.json["code"] in (code, "not_json")
    assert make.rows(Event) == []
