"""Senders who are not who they say, and ids that would make one event stand in another's way."""

import base64
import gzip
import hashlib
import hmac
import itertools
import json

import pytest
from factories import webhooks as make
from factories.identity import bearer, make_api_key, make_organization

from catalog import event_types
from kernel import clock
from kernel.database import EVERY, transaction
from kernel.errors import Invalid
from webhooks import intake, signing, sources
from webhooks.tables import Event

SECRET, STRANGERS = "a-shared-secret-0123", "whsec_" + base64.b64encode(b"s" * 32).decode()
RAW = b'{"type":"shop.opened","data":{"n":1}}'


@pytest.fixture(autouse=True)
def _fresh_memory():
    intake.forget()


def open_source(organization_id="org_a", **over):
    source = make.in_transaction(lambda s: make.make_source(s, organization_id, **over))
    return source, "/in/" + sources.url_of(source).rsplit("/", 1)[1]


def order(**over):
    sample = dict(event_types.find(None, None, "order.paid").sample)
    return {"type": "order.paid", "data": {**sample, **over}}


# --- signatures --------------------------------------------------------------------------------


def hexed(raw, key=SECRET, algorithm="sha256"):
    return hmac.new(key.encode(), raw, getattr(hashlib, algorithm)).hexdigest()


def good_headers(kind, source, raw=RAW, seconds=0):
    """What an honest sender of this kind of source sends along."""
    stamp = str(int(clock.now().timestamp()) + seconds)
    if kind == "standard_webhooks":
        with clock.shifted(seconds=seconds):
            return signing.sign("msg_1", raw, [sources.secret_of(source)], clock.now())
    if kind == "github":
        return {"x-hub-signature-256": f"sha256={hexed(raw)}", "x-github-delivery": "d-1"}
    if kind == "stripe":
        return {"x-signature": f"t={stamp},v1={hexed(stamp.encode() + b'.' + raw)}"}
    if kind == "timed":
        return {"x-time": stamp, "x-signature": hexed(stamp.encode() + b"." + raw)}
    if kind == "token":
        return {"authorization": SECRET}
    return {"x-signature": hexed(raw)}


KINDS = {
    "standard_webhooks": {},
    "github": {"scheme": "github", "secret": SECRET},
    "hmac": {"scheme": "hmac", "secret": SECRET},
    "stripe": {"scheme": "hmac", "secret": SECRET, "scheme_options": {"style": "stripe"}},
    "timed": {
        "scheme": "hmac",
        "secret": SECRET,
        "scheme_options": {"timestamp_header": "X-Time"},
    },
    "token": {"scheme": "token", "secret": SECRET},
}
PROOF = {"standard_webhooks": "webhook-signature", "github": "x-hub-signature-256"}
TIMED = {"standard_webhooks", "stripe", "timed"}


# Latin letters and digits and their doubles: a random proof always has some of them
LOOK_ALIKES = str.maketrans(
    "aceopxyABCEHKMOPTX0123456789", "асеорхуАВСЕНКМОРТХ０１２３４５６７８９"
)


def tricks(kind, good, source):
    """Headers, bodies and queries that are almost right, each with what is wrong about it."""
    name = PROOF.get(kind, "authorization" if kind == "token" else "x-signature")
    proof = good[name]
    yield "no proof", {k: v for k, v in good.items() if k != name}, RAW
    yield "empty proof", {**good, name: ""}, RAW
    yield "blank proof", {**good, name: " "}, RAW
    yield "proof cut short", {**good, name: proof[:-1]}, RAW
    yield "proof made longer", {**good, name: proof + "0"}, RAW
    if kind not in ("standard_webhooks", "stripe"):  # theirs are lists that may hold several
        yield "proof twice, as proxies join headers", {**good, name: f"{proof}, {proof}"}, RAW
        yield "a stranger's first", {**good, name: f"AAAA,{proof}"}, RAW
    yield "another alphabet", {**good, name: proof.translate(LOOK_ALIKES)}, RAW
    yield "upper case", {**good, name: proof.upper()}, RAW
    yield "quoted", {**good, name: f'"{proof}"'}, RAW
    yield "percent-encoded", {**good, name: "".join(f"%{ord(c):02x}" for c in proof)}, RAW
    yield "not ASCII", {**good, name: proof + "\xe9"}, RAW
    if kind != "token":
        yield "one byte changed", good, RAW.replace(b"1", b"2")
        yield "one byte added", good, RAW + b" "
        yield "packed after it was signed", {**good, "content-encoding": "gzip"}, gzip.compress(RAW)
        wrong = good_headers(kind, source, b"{}")
        yield "another body's proof", wrong, RAW
        yield "the empty key", {**good, name: proof_with("", kind, proof, good)}, RAW
        yield "the word none", {**good, name: "none"}, RAW
        yield "a weaker digest", {**good, name: hexed(RAW, algorithm="sha1")}, RAW
        yield "the name of a weaker digest", {**good, name: f"sha1={hexed(RAW)}"}, RAW
    if kind in TIMED:
        for seconds in (-301, 301, -86_400, 10**8):
            yield f"{seconds} s off", good_headers(kind, source, seconds=seconds), RAW
    if kind == "standard_webhooks":
        for other in ("webhook-id", "webhook-timestamp"):
            yield f"without {other}", {k: v for k, v in good.items() if k != other}, RAW
        yield "another id", {**good, "webhook-id": "msg_2"}, RAW
        yield "an id with a dot", {**good, "webhook-id": "msg_1.1"}, RAW
        later = str(int(good["webhook-timestamp"]) + 1)
        yield "another time", {**good, "webhook-timestamp": later}, RAW
        yield "no version", {**good, name: proof.removeprefix("v1,")}, RAW
        yield "another version", {**good, name: proof.replace("v1,", "v2,")}, RAW
        yield "the version of public keys", {**good, name: proof.replace("v1,", "v1a,")}, RAW
        yield "a stranger's secret", signing.sign("msg_1", RAW, [STRANGERS], clock.now()), RAW
        many = " ".join(["v1,AAAA"] * 20 + [proof])
        yield "behind twenty others", {**good, name: many}, RAW
    if kind == "stripe":
        stamp, digest = proof.removeprefix("t=").split(",v1=")
        old = str(int(stamp) - 10_000)
        yield "two times, the old one first", {name: f"t={old},t={stamp},v1={digest}"}, RAW
        yield "two times, the old one last", {name: f"t={stamp},t={old},v1={digest}"}, RAW
        yield "no time", {name: f"v1={digest}"}, RAW
        yield "an older version", {name: f"t={stamp},v0={digest}"}, RAW
        yield "a time in other digits", {name: proof.replace("1", "\u0661")}, RAW
        yield "a time with a sign", {name: f"t=+{stamp},v1={digest}"}, RAW
    if kind == "timed":
        yield "without its time", {k: v for k, v in good.items() if k != "x-time"}, RAW
        yield "a time that is not signed", {**good, "x-time": str(int(good["x-time"]) + 1)}, RAW


def proof_with(key, kind, proof, good):
    """The proof that somebody makes who hopes that the key is this one."""
    if kind == "standard_webhooks":
        signed = f"{good['webhook-id']}.{good['webhook-timestamp']}.".encode() + RAW
        return "v1," + base64.b64encode(hmac.digest(key.encode(), signed, "sha256")).decode()
    if kind == "stripe":
        stamp = proof.removeprefix("t=").partition(",")[0]
        return f"t={stamp},v1={hexed(stamp.encode() + b'.' + RAW, key)}"
    if kind == "timed":
        return hexed(good["x-time"].encode() + b"." + RAW, key)
    return f"sha256={hexed(RAW, key)}" if kind == "github" else hexed(RAW, key)


@pytest.mark.parametrize("kind", KINDS)
def test_no_trick_gets_past_the_signature(client, kind):
    source, door = open_source(**KINDS[kind])
    good = good_headers(kind, source)
    got, tried = [], 0
    for trick, headers, raw in tricks(kind, good, source):
        sent = {"content-type": "application/json", **headers}
        answer = client.post(door, data=raw, headers=sent)
        tried += 1
        if answer.status_code != 401:
            got.append((trick, answer.status_code))
    assert got == []
    assert tried >= 12
    assert make.rows(Event) == []
    # the honest one is let in: nothing else is wrong with these requests
    answer = client.post(door, data=RAW, headers={"content-type": "application/json", **good})
    assert answer.status_code == 202


def test_nobody_may_sign_for_another_source_or_tenant(client):
    doors = {name: open_source(name) for name in ("org_a", "org_b")}
    for one, other in itertools.permutations(doors):
        headers = make.signed(doors[one][0], RAW)
        assert client.post(doors[other][1], data=RAW, headers=headers).status_code == 401
    assert make.rows(Event) == []


EMPTY = [
    {"scheme": "standard_webhooks", "secret": "whsec_"},
    {"scheme": "standard_webhooks", "secret": "whpk_AAAA"},
    {"scheme": "hmac", "secret": "        ", "scheme_options": {"secret_encoding": "hex"}},
    {"scheme": "hmac", "secret": "xyz", "scheme_options": {"secret_encoding": "hex"}},
    {"scheme": "hmac", "secret": "????", "scheme_options": {"secret_encoding": "base64"}},
    {"scheme": "github", "secret": "   "},
    {"scheme": "token", "secret": "   "},
]


@pytest.mark.parametrize("over", EMPTY, ids=range(len(EMPTY)))
def test_an_empty_secret_is_refused_when_it_is_chosen_and_when_it_is_used(database, over):
    with pytest.raises(Invalid) as caught, transaction(EVERY) as session:
        make.make_source(session, "org_a", **over)
    assert caught.value.errors[0]["pointer"] == "/secret"
    source, _ = open_source(scheme=over["scheme"], scheme_options=over.get("scheme_options"))
    with pytest.raises(Invalid), transaction(EVERY) as session:
        sources.rotate_secret(session, "org_a", source.id, over["secret"])


@pytest.mark.parametrize("scheme", ["standard_webhooks", "github", "hmac", "token"])
@pytest.mark.parametrize("secret", ["", "whsec_"])
def test_an_empty_key_opens_nothing(scheme, secret):
    now = clock.now()
    headers = {
        **signing.sign("m", b"{}", [STRANGERS], now),
        "x-hub-signature-256": "sha256=" + hexed(b"{}", ""),
        "x-signature": hexed(b"{}", ""),
        "authorization": "",
    }
    stamp = headers["webhook-timestamp"]
    forged = hmac.digest(b"", f"m.{stamp}.{{}}".encode(), "sha256")
    headers["webhook-signature"] = "v1," + base64.b64encode(forged).decode()
    with pytest.raises(signing.BadSignature):
        signing.verify(scheme, b"{}", headers, [secret], {}, now)


@pytest.mark.parametrize("seconds", ["²", "1e3", "-5", "99999", "9" * 5000, "x", " 5"])
def test_an_odd_tolerance_is_refused_when_it_is_saved(database, seconds):
    with pytest.raises(Invalid), transaction(EVERY) as session:
        options = {"style": "stripe", "tolerance_seconds": seconds}
        make.make_source(session, "org_a", scheme="hmac", scheme_options=options)


def test_a_crash_in_front_of_the_framework_is_answered_like_any_other(client, monkeypatch):
    _, door = open_source(scheme="none")
    monkeypatch.setattr(signing, "verify", lambda *_: 1 / 0)
    answer = client.post(door, data=RAW, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json["code"]) == (500, "internal")
    assert answer.mimetype == "application/problem+json"
    assert "ZeroDivision" not in answer.get_data(as_text=True)


# --- replays -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["standard_webhooks", "github", "hmac"])
def test_a_recorded_message_makes_no_second_event(client, kind):
    source, door = open_source(**KINDS[kind])
    headers = {"content-type": "application/json", **good_headers(kind, source)}
    answers = [client.post(door, data=RAW, headers=headers) for _ in range(5)]
    assert {one.status_code for one in answers} == {202}
    assert sum(not one.json["accepted"][0]["duplicate"] for one in answers) == 1
    assert len(make.rows(Event)) == 1


def test_github_bodies_may_be_told_apart_by_what_is_signed(client):
    """GitHub does not sign its delivery id; whoever fears replays has bodies compared."""
    source, door = open_source(**KINDS["github"], scheme_options={"dedupe": "body"})
    headers = {"content-type": "application/json", **good_headers("github", source)}
    for number in range(3):
        more = {"x-github-delivery": f"forged-{number}"}
        assert client.post(door, data=RAW, headers={**headers, **more}).status_code == 202
    assert len(make.rows(Event)) == 1


# --- one id in another's way ---------------------------------------------------------------------


@pytest.fixture
def post(client):
    """Post signed bytes to a source; gives the answer."""
    numbers = itertools.count()

    def send(source, door, body, message_id=None):
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        message_id = message_id or f"m{next(numbers)}"
        return client.post(door, data=raw, headers=make.signed(source, raw, message_id))

    return send


def states():
    return sorted(event.state for event in make.rows(Event))


def test_a_rejected_event_does_not_block_the_good_one_nor_another_bad_one(post):
    source, door = open_source()
    bad = order()
    del bad["data"]["order_no"]
    envelope = {"specversion": "1.0", "id": "1", "source": "/s", "type": "order.paid"}
    for body in (bad, order()):
        post(source, door, {**envelope, "data": body["data"]})
    assert states() == ["new", "rejected"]
    # nor the other way round: a bad copy of a good event changes nothing about it
    post(source, door, {**envelope, "data": bad["data"]})
    post(source, door, {**envelope, "data": order()["data"]})
    assert states() == ["new", "rejected"]


@pytest.mark.parametrize("prefix", ["rejected:", "id:1:x:", "message:", "body:", "sha256:", "key:"])
def test_an_id_that_looks_like_a_key_of_ours_takes_nobodys_place(post, prefix):
    source, door = open_source()
    plain = {"specversion": "1.0", "source": "x", "type": "shop.opened", "data": 1}
    found = [
        post(source, door, {**plain, "id": one}).json["accepted"][0]["duplicate"]
        for one in ("1", f"{prefix}1", f"{prefix}id:1:x:1", f"{prefix}message:m0", "1#0")
    ]
    assert found == [False] * 5
    assert post(source, door, {**plain, "id": "1"}).json["accepted"][0]["duplicate"]


def test_source_and_id_are_not_glued_together(post):
    source, door = open_source()
    pairs = [("a", "bc"), ("ab", "c"), ("", "abc"), ("a:b", "c"), ("a", "b:c"), ("1:a", "bc")]
    for scope, own in pairs:
        body = {"specversion": "1.0", "source": scope or "/", "id": own, "type": "a.b", "data": 1}
        assert not post(source, door, body).json["accepted"][0]["duplicate"], (scope, own)


def test_the_same_ids_live_side_by_side_in_other_sources_and_tenants(post):
    body = {"specversion": "1.0", "source": "/s", "id": "1", "type": "a.b", "data": 1}
    for owner in ("org_a", "org_a", "org_b"):
        source, door = open_source(owner)
        assert not post(source, door, body, "msg_1").json["accepted"][0]["duplicate"]
    assert len(make.rows(Event)) == 3


def test_an_object_s_id_in_plain_json_does_not_swallow_what_happens_to_it_next(post):
    """`id` names the customer: two signed messages about one customer are two events."""
    source, door = open_source()
    for number in range(3):
        body = {"type": "customer.seen", "id": "cus_1", "data": {"n": number}}
        assert not post(source, door, body).json["accepted"][0]["duplicate"]
    again = {"type": "customer.seen", "id": "cus_1", "data": {"n": 2}}
    assert post(source, door, again, "m2").json["accepted"][0]["duplicate"]
    # an owner who points at the id means it
    source, door = open_source(rules={"from": "envelope", "id_pointer": "/id"})
    found = [post(source, door, again).json["accepted"][0]["duplicate"] for _ in range(2)]
    assert found == [False, True]


def test_items_of_a_list_under_one_message_id_are_all_kept(post):
    source, door = open_source()
    items = [{"type": "a.b", "data": {"n": n}} for n in range(5)]
    for message_id in ("msg_1", "m" * 500):
        answer = post(source, door, items, message_id)
        assert [one["duplicate"] for one in answer.json["accepted"]] == [False] * 5
        again = post(source, door, items, message_id)
        assert [one["duplicate"] for one in again.json["accepted"]] == [True] * 5


def test_an_idempotency_key_of_another_event_is_told_and_nothing_is_lost(client, database):
    with transaction(EVERY) as session:
        keys = [make_api_key(session, make_organization(session)) for _ in range(2)]
    data = event_types.find(None, None, "order.paid").sample

    def send(key, value, **body):
        headers = {**bearer(key), "Idempotency-Key": value} if value else bearer(key)
        sent = {"type": "order.paid", "data": data, **body}
        return client.post("/api/v1/events", json=sent, headers=headers)

    first = send(keys[0], "k")
    assert (first.status_code, first.json["duplicate"]) == (202, False)
    assert send(keys[0], "k").json == {"id": first.json["id"], "duplicate": True}
    other = send(keys[0], "k", data={**data, "order_no": "SO-2"})
    assert (other.status_code, other.json["code"]) == (409, "id_reused")
    assert first.json["id"] in other.json["detail"]
    assert send(keys[0], None, id="k", data={**data, "order_no": "SO-3"}).status_code == 409
    # another firm's key of the same name is its own
    assert send(keys[1], "k").json["duplicate"] is False
    for odd in ("k" * 5_000, "k\xe9", "%00", "a" * 200 + "b", "a" * 200 + "c"):
        assert send(keys[0], odd).json["duplicate"] is False, odd[:10]
    assert len(make.rows(Event)) == 7
