"""Nothing is lost on the way: what came in is stored and goes out, to the last digit."""

import pytest
from factories import webhooks as make
from factories.webhooks import OK, answering

from kernel import documents
from webhooks import drain, envelopes, intake, sources, type_rules
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
    "escapes nobody needs": rb'{"\u0061":"\/\u00e9","data":{"data":[1,2]}}',
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


def spaced(odd):
    """The same with room between everything, another order, and names that look alike."""
    return (
        b'\n{ "x\\",\\"data" : {"data": 7} ,\r\n\t"\\u0064ata"  :\t' + odd + b" ,\n"
        b'"type":"test.happened" , "source":"data", "id" :"1", "specversion" : "1.0" }\n'
    )


def as_structured(post, odd):
    return post(wrapped(odd), "application/cloudevents+json")


def as_spaced(post, odd):
    return post(spaced(odd), "application/cloudevents+json")


def as_mislabelled(post, odd):
    return post(spaced(odd), "application/json")


def as_batch(post, odd):
    return post(b"[" + wrapped(odd) + b"]", "application/cloudevents-batch+json")


def as_spaced_batch(post, odd):
    return post(b" [\n" + spaced(odd) + b"\t] ", "application/cloudevents-batch+json")


WRAPPED = [as_structured, as_spaced, as_mislabelled, as_batch, as_spaced_batch]


def sent_out():
    send = answering(OK)
    drain.drain("w1", send)
    (request,) = send.sent
    return request.body


@pytest.mark.parametrize("way", [as_one, as_array, as_binary, *WRAPPED])
@pytest.mark.parametrize("name", ODD)
def test_the_very_bytes_are_stored_and_sent(post, way, name):
    odd = ODD[name]
    assert way(post, odd).status_code == 202
    (event,) = make.rows(Event)
    assert (event.state, event.problem) == ("new", None)
    assert event.body == odd
    assert b'"data":' + odd + b"}" in sent_out()


@pytest.mark.parametrize("pointer", [None, "/data", "/list/1/a~1b"])
@pytest.mark.parametrize("name", ODD)
def test_what_a_rule_takes_out_of_a_message_is_as_it_was_sent(name, pointer):
    odd = ODD[name]
    rules = {"from": "envelope"} | ({"data_pointer": pointer} if pointer else {})
    for raw in (
        b'{"type":"a.b","list":[[0], {"a/b": ' + odd + b' } ] ,"data":' + odd + b"}",
        b'{"data" : ' + odd + b' ,"list" : [ 0,{"a\\/b":' + odd + b'}], "type" : "a.b"}',
    ):
        envelope = envelopes.open_envelopes(raw, "application/json", {}).envelopes[0]
        type_rules.apply(rules, envelope, {})
        assert (envelope.type, envelope.body) == ("a.b", odd)
        assert documents.dump(envelope.value) == documents.dump(documents.parse(odd))


@pytest.mark.parametrize("way", WRAPPED)
def test_a_wrapping_that_is_broken_is_kept_as_it_came(post, way):
    """Without an id it is no CloudEvent; its owner sees what was really sent."""
    sent = []

    def broken(raw, content_type):
        sent.append(raw.replace(b'"id"', b'"di"'))
        return post(sent[0], content_type)

    assert way(broken, b'{ "price" : 12.50 }').status_code == 422
    (event,) = make.rows(Event)
    assert event.state == "rejected"
    assert event.body == sent[0].strip(b" \n\t[]")


def test_text_that_no_encoding_can_write_is_kept_in_its_wrapping(post):
    raw = wrapped(rb'"<a>\ud800</a>"').replace(b'"id"', b'"datacontenttype":"text/xml","id"')
    assert post(raw, "application/cloudevents+json").status_code == 422
    (event,) = make.rows(Event)
    assert (event.state, event.body) == ("rejected", raw)


@pytest.mark.parametrize("way", [as_one, as_array, as_binary, *WRAPPED])
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
