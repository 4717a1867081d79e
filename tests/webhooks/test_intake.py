"""Intake: through the front door, from bytes to rows."""

import gzip
import json
import random
import threading

import pytest
from factories import webhooks as make

from catalog import event_types
from kernel import clock
from kernel.database import StoreUnavailable
from webhooks import drain, events, inbox, intake, signing, sources
from webhooks.letters import Letter
from webhooks.tables import Event, Source

LIMIT = 1 << 20


@pytest.fixture(autouse=True)
def _fresh_memory():
    intake.forget()


@pytest.fixture
def post(client):
    """Post signed bytes to a new source; `post.source` is the source."""

    def send(raw, message_id="msg_1", token=None, **headers):
        token = token or sources.url_of(send.source).rsplit("/", 1)[1]
        signed = make.signed(send.source, raw, message_id)
        signed.update({k.replace("_", "-"): v for k, v in headers.items()})
        return client.post(f"/in/{token}", data=raw, headers=signed)

    send.source = make.in_transaction(lambda s: make.make_source(s, "org_a"))
    return send


def change(post, **values):
    def work(session):
        return sources.change(session, "org_a", post.source.id, **values)

    post.source = make.in_transaction(work)
    intake.forget()


def order(**over):
    sample = dict(event_types.find(None, None, "order.paid").sample)
    return {"type": "order.paid", "data": {**sample, **over}}


def test_a_good_event_is_stored_before_the_answer(post, nudges):
    raw = json.dumps({**order(), "timestamp": "2026-11-22T08:00:00Z"}).encode()
    answer = post(raw)
    assert answer.status_code == 202
    (event,) = make.rows(Event)
    assert answer.json == {"accepted": [{"id": event.id, "duplicate": False}]}
    assert (event.type, event.state, event.origin) == ("order.paid", "new", post.source.id)
    assert json.loads(event.body) == order()["data"]
    assert event.occurred_at.isoformat() == "2026-11-22T08:00:00+00:00"
    assert nudges == ["webhooks.drain"]


def test_the_same_message_is_stored_once(post):
    raw = b'{"type":"shop.opened","data":{"n":1}}'
    first, second = post(raw), post(raw)
    assert first.json["accepted"][0]["id"] == second.json["accepted"][0]["id"]
    assert second.json["accepted"][0]["duplicate"]
    assert len(make.rows(Event)) == 1


def test_a_hundred_at_once_make_one_row(post):
    raw = b'{"type":"shop.opened","data":{"n":1}}'
    token = sources.url_of(post.source).rsplit("/", 1)[1]
    headers = {**make.signed(post.source, raw), "content-length": str(len(raw))}
    found, start = [], threading.Barrier(100)

    def run():
        start.wait()
        found.append(intake.take_in(token, headers, lambda most: raw).accepted[0][1])

    threads = [threading.Thread(target=run) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 100
    assert len({one.id for one in found}) == len(make.rows(Event)) == 1
    assert sum(not one.is_duplicate for one in found) == 1


def test_exact_bytes_stay_exact(post):
    change(post, rules={"from": "fixed", "value": "measure.taken"})
    raw = b' {"n": 12345678901234567890, "m": 0.10, "s": "\\u00e9"} '
    assert post(raw).status_code == 202
    assert make.rows(Event)[0].body == raw.strip()


@pytest.mark.parametrize(
    ("headers", "code"),
    [({"webhook_signature": "v1,AAAA"}, "signature_mismatch"),
     ({"webhook_signature": ""}, "signature_missing"),
     ({"webhook_timestamp": "1000000000"}, "signature_stale")],
)  # fmt: skip
def test_a_bad_signature_is_401(post, headers, code):
    answer = post(b"{}", **headers)
    assert (answer.status_code, answer.json["code"]) == (401, code)
    assert make.rows(Event) == []


def test_unknown_and_paused_sources(post):
    assert post(b"{}", token="nobody-knows-this").status_code == 404
    make.in_transaction(lambda s: sources.set_state(s, "org_a", post.source.id, "paused"))
    intake.forget()
    assert post(b"{}").status_code == 409


@pytest.mark.parametrize(
    ("raw", "headers", "status"),
    [(b"", {}, 400), (b"{", {}, 400), (b"[]", {}, 400), (b"\xff\xfe{}", {}, 400),
     (b'{"a":1}{"b":2}', {}, 400), (b'{"a":NaN}', {}, 400), (b'{"a":1,"a":2}', {}, 400),
     (b"[" * 100_000, {}, 400), (b"x" * (LIMIT + 1), {}, 413),
     (b"{}", {"content_type": "application/json; charset=gbk"}, 415),
     (b"<a/>", {"content_type": "text/xml"}, 415), (b"{}", {"content_encoding": "br"}, 415),
     (b"{}", {"content_encoding": "gzip"}, 400),
     (gzip.compress(b"[" + b" " * 2_000_000), {"content_encoding": "gzip"}, 413),
     (b"[" + b"1," * 1001 + b"1]", {}, 413)],
)  # fmt: skip
def test_what_cannot_be_read_is_4xx_and_stored_nowhere(post, raw, headers, status):
    answer = post(raw, **headers)
    assert answer.status_code == status, answer.json
    assert answer.json["detail"]
    assert make.rows(Event) == []


def test_limits_are_named(post):
    answer = post(b"x" * (LIMIT + 1))
    assert "1048576" in answer.json["detail"]
    assert "65" in post(b"[" * 100_000).json["detail"]


def test_gzip_is_signed_packed_and_read_unpacked(post):
    packed = gzip.compress(b'{"type":"shop.opened","data":{"n":1}}')
    assert post(packed, content_encoding="gzip").status_code == 202
    assert make.rows(Event)[0].body == b'{"n":1}'


def test_a_body_without_a_length_is_read_and_capped(client, post):
    raw = b'{"type":"shop.opened","data":{"n":1}}'
    token = sources.url_of(post.source).rsplit("/", 1)[1]

    def chunked(body):
        from io import BytesIO

        return client.post(
            f"/in/{token}", input_stream=BytesIO(body), headers=make.signed(post.source, body),
            environ_overrides={"wsgi.input_terminated": True, "CONTENT_LENGTH": ""},
        )  # fmt: skip

    assert chunked(raw).status_code == 202
    assert chunked(b"x" * (LIMIT + 1)).status_code == 413


def test_a_schema_breach_is_422_with_pointers_and_kept(post):
    broken = order()
    del broken["data"]["order_no"]
    answer = post(json.dumps(broken).encode())
    assert answer.status_code == 422
    assert answer.json["code"] == "events_rejected"
    assert answer.json["errors"]
    assert all(error["message"] for error in answer.json["errors"])
    (event,) = make.rows(Event)
    assert event.state == "rejected"
    assert event.problem["errors"]
    assert answer.json["rejected"][0]["id"] == event.id
    again = post(json.dumps(broken).encode())
    assert again.json["rejected"][0]["id"] == event.id, "the same breach is kept once"


def test_a_repaired_event_under_the_same_id_gets_in(post):
    broken = order()
    del broken["data"]["order_no"]
    post(json.dumps(broken).encode())
    assert post(json.dumps(order()).encode()).status_code == 202
    assert sorted(e.state for e in make.rows(Event)) == ["new", "rejected"]


def test_an_array_is_judged_item_by_item(post):
    broken = order()
    del broken["data"]["order_no"]
    raw = json.dumps([order(), broken, order()]).encode()
    answer = post(raw)
    assert answer.status_code == 202
    assert [one["index"] for one in answer.json["accepted"]] == [0, 2]
    assert [one["index"] for one in answer.json["rejected"]] == [1]
    assert sorted(e.state for e in make.rows(Event)) == ["new", "new", "rejected"]
    assert all(one["duplicate"] for one in post(raw).json["accepted"])
    assert (
        post(json.dumps([broken, broken]).encode(), "msg_2")
        .json["errors"][0]["pointer"]
        .startswith("/0")
    )


def test_unknown_types_are_taken_or_rejected_as_the_owner_wants(post):
    raw = b'{"type":"shop.never_heard_of","data":{}}'
    assert post(raw).status_code == 202
    change(post, unknown_types="reject")
    assert post(raw, "msg_2").json["errors"][0]["pointer"] == "/type"


def test_cloud_events_of_the_public_sdk(post):
    from cloudevents.v1.conversion import to_binary, to_structured
    from cloudevents.v1.http import CloudEvent

    attributes = {
        "type": "shop.opened", "source": "/shops/1", "id": "A234",
        "subject": "店铺 1", "time": "2026-11-22T08:00:00+08:00",
    }  # fmt: skip
    sdk = CloudEvent(attributes, {"n": 1})
    for number, write in enumerate((to_structured, to_binary)):
        headers, raw = write(sdk)
        if write is to_binary:
            headers["ce-subject"] = "%E5%BA%97%E9%93%BA%201"
            headers["content-type"] = "application/json"
        answer = post(raw, f"msg_{number}", **headers)
        assert answer.status_code == 202, answer.json
        assert answer.json["accepted"][0]["duplicate"] is (number == 1), "same source and id"
    (event,) = make.rows(Event)
    assert (event.type, event.subject) == ("shop.opened", "店铺 1")
    assert json.loads(event.body) == {"n": 1}
    assert event.occurred_at.isoformat() == "2026-11-22T00:00:00+00:00"


def test_a_cloud_events_batch(post):
    item = {"specversion": "1.0", "type": "shop.opened", "source": "/s", "data": {"n": 1}}
    raw = json.dumps([{**item, "id": "1"}, item, {**item, "id": "2"}]).encode()
    answer = post(raw, content_type="application/cloudevents-batch+json")
    assert [one["index"] for one in answer.json["accepted"]] == [0, 2]
    assert answer.json["rejected"][0]["errors"] == [
        {"pointer": "/id", "message": answer.json["rejected"][0]["errors"][0]["message"]}
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [("ce-id", "%C0%A0"), ("ce-id", "%ED%A0%80"), ("ce-id", "%4"), ("ce-id", "a\xe9"),
     ("ce-datacontenttype", "application/json")],
)  # fmt: skip
def test_bad_cloud_event_headers_are_refused(post, name, value):
    headers = {"ce-specversion": "1.0", "ce-type": "a.b", "ce-source": "/", "ce-id": "1"}
    answer = post(b"{}", **{**headers, name: value})
    assert (answer.status_code, answer.json["code"]) == (400, "cloudevents_header")


def test_the_cloud_events_handshake(client, post):
    token = sources.url_of(post.source).rsplit("/", 1)[1]
    answer = client.options(f"/in/{token}", headers={"WebHook-Request-Origin": "erp.example"})
    assert answer.status_code == 204
    assert answer.headers["WebHook-Allowed-Origin"] == "erp.example"
    assert client.options("/in/nobody").status_code == 404


def test_github_types_and_ids(client, database):
    import hashlib
    import hmac

    secret = "a-github-secret"
    source = make.in_transaction(
        lambda s: make.make_source(
            s, "org_a", scheme="github", secret=secret,
            rules={"from": "header", "value": "X-GitHub-Event", "prefix": "code."},
        )
    )  # fmt: skip
    raw = b'{"zen":"Design for failure."}'
    digest = hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()
    headers = {
        "x-hub-signature-256": f"sha256={digest}", "x-github-event": "ping",
        "x-github-delivery": "72d3162e", "content-type": "application/json",
    }  # fmt: skip
    for _ in range(2):
        token = sources.url_of(source).rsplit("/", 1)[1]
        assert client.post(f"/in/{token}", data=raw, headers=headers).status_code == 202
    (event,) = make.rows(Event)
    assert (event.type, event.body) == ("code.ping", raw)


def test_a_form_and_rules_by_pointer(post):
    rules = {"from": "pointer", "value": "/kind", "id_pointer": "/no", "subject_pointer": "/no"}
    change(post, rules=rules)
    answer = post(b"kind=form.sent&no=7&x=1&x=2", content_type="application/x-www-form-urlencoded")
    assert answer.status_code == 202
    (event,) = make.rows(Event)
    assert (event.type, event.subject) == ("form.sent", "7")
    assert json.loads(event.body) == {"kind": "form.sent", "no": "7", "x": ["1", "2"]}


def test_replays_of_a_scheme_without_time_or_id_are_caught_by_their_bytes(client, database):
    import hashlib
    import hmac

    source = make.in_transaction(
        lambda s: make.make_source(
            s, "org_a", scheme="hmac", secret="12345678", rules={"from": "fixed", "value": "a.b"}
        )
    )
    token = sources.url_of(source).rsplit("/", 1)[1]
    headers = {"x-signature": hmac.new(b"12345678", b"{}", hashlib.sha256).hexdigest()}
    found = [client.post(f"/in/{token}", data=b"{}", headers=headers).json for _ in range(2)]
    assert [one["accepted"][0]["duplicate"] for one in found] == [False, True]


def test_text_no_database_holds_is_no_crash(post):
    raw = b'{"type":"shop.opened","id":"a\\u0000b","subject":"\\ud800x\\u0000","data":"\\u0000"}'
    assert post(raw).status_code == 202
    assert make.rows(Event)[0].subject == "?x"


def test_a_store_that_is_away_is_503(post, monkeypatch):
    def away(*_):
        raise StoreUnavailable

    monkeypatch.setattr(inbox, "write", away)
    answer = post(b'{"type":"shop.opened","data":{}}')
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0


def test_one_requests_trouble_costs_the_others_nothing(database):
    """Letters that share a commit fail alone: the second names a source that does not exist."""
    good = events.NewEvent(type="a.b", body=b"{}")
    arrivals = [("org_a", None), ("org_a", "src_nowhere"), ("org_b", None)]
    letters = [Letter(events.Arrival(org, source, [good]), print) for org, source in arrivals]
    answers = inbox._store(letters)
    assert [isinstance(answer, Exception) for answer in answers] == [False, True, False]
    assert len(make.rows(Event)) == 2


def test_a_rejected_event_is_let_in_when_it_fits(post):
    broken = order()
    del broken["data"]["order_no"]
    post(json.dumps(broken).encode())
    (event,) = make.rows(Event)
    assert intake.reconsider("org_a", event.id).state == "rejected"

    def repair(session):
        row = events.get(session, "org_a", event.id)
        row.body = json.dumps(order()["data"]).encode()

    make.in_transaction(repair)
    assert intake.reconsider("org_a", event.id).state == "new"
    drain.drain("w1")
    assert make.rows(Event)[0].state == "routed"


def test_a_rotated_secret_works_for_a_day(post):
    old = sources.secret_of(post.source)
    post.source = make.in_transaction(lambda s: sources.rotate_secret(s, "org_a", post.source.id))
    raw = b'{"type":"shop.opened","data":{}}'
    for days, status in ((0, 202), (2, 401)):
        intake.forget()
        with clock.shifted(seconds=86_400 * days):
            headers = signing.sign(f"m{days}", raw, [old], clock.now())
            assert post(raw, **headers).status_code == status


def mangled(chance, number):
    """One generated bad or odd body with its headers."""
    base = json.dumps(order()).encode()
    kinds = [
        lambda: base[: chance.randrange(len(base))],
        lambda: bytes(chance.randrange(256) for _ in range(chance.randrange(1, 300))),
        lambda: base.replace(b'"', b"'", chance.randrange(1, 9)),
        lambda: b"[" * chance.randrange(1, 5000),
        lambda: json.dumps({"type": chance.choice(["", "order.paid", "\u0000", 7, None, "x" * 999]),
                            "data": chance.choice([None, 1, [], {}, "\ud800", 10**400])}).encode(),
        lambda: b'{"type":"order.paid","data":' + chance.choice(
            [b"1e99999", b"-", b"\xc0\x80", b'"\\ud800"', b"9" * 5000, b'{"a":1,"a":2}']) + b"}",
        lambda: gzip.compress(base)[: chance.randrange(5, 200)],
        lambda: json.dumps([order(), 5, None, [[]], {"specversion": "1.0", "type": 3}]).encode(),
        lambda: json.dumps({"specversion": chance.choice(["1.0", "9", 1]), "type": "a.b",
                            "source": "/", "id": chance.choice(["", "\u0000", "1"]),
                            "time": chance.choice(["soon", 1, "9999-12-31T23:59:59Z"]),
                            "data_base64": chance.choice(["%%", "AAAA", 5])}).encode(),
    ]  # fmt: skip
    headers = chance.choice(
        [{}, {}, {"content_type": "application/cloudevents+json"},
         {"content_type": "application/cloudevents-batch+json"}, {"content_type": "a/b; charset=x"},
         {"content_type": "application/x-www-form-urlencoded"}, {"content_encoding": "gzip"},
         {"ce_specversion": "1.0", "ce_id": "%FF", "ce_type": "a.b"},
         {"ce_specversion": "x", "ce_time": "%41"}]
    )  # fmt: skip
    return chance.choice(kinds)(), headers


@pytest.mark.slow
def test_a_thousand_bad_bodies_give_no_5xx_and_leave_no_half_row(post):
    chance = random.Random(20261122)
    counts: dict[int, int] = {}
    told = set()
    for number in range(1000):
        raw, headers = mangled(chance, number)
        answer = post(raw, f"msg_{number}", **headers)
        counts[answer.status_code] = counts.get(answer.status_code, 0) + 1
        body = answer.json
        told |= {one["id"] for key in ("accepted", "rejected") for one in body.get(key, ())}
    assert max(counts) < 500, counts
    assert len(counts) >= 4, counts
    stored = make.rows(Event)
    assert {event.id for event in stored} == told
    assert all(event.state == "new" or event.problem for event in stored)
    assert drain.drain("w1") >= sum(event.state == "new" for event in stored)


def test_a_closed_source_is_gone_for_senders(post):
    raw = b'{"type":"shop.opened","data":{}}'
    assert post(raw).status_code == 202
    make.in_transaction(lambda s: sources.close(s, "org_a", post.source.id))
    make.in_transaction(lambda s: sources.close(s, "org_a", post.source.id))
    intake.forget()
    assert post(raw).status_code == 404
    assert len(make.rows(Event)) == 1
    unused = make.in_transaction(lambda s: make.make_source(s, "org_a"))
    make.in_transaction(lambda s: sources.close(s, "org_a", unused.id))
    assert [source.id for source in make.rows(Source)] == [post.source.id]
