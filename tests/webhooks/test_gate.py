"""The gate: whatever comes, the short way and the framework's way say the same."""

import json
import threading

import pytest
from factories import webhooks as make
from factories.asgi import ask

from kernel.database import StoreUnavailable
from webhooks import events, gate, inbox, intake, signing, sources
from webhooks.errors import OverQuota
from webhooks.letters import Letter
from webhooks.tables import Event

pytestmark = pytest.mark.usefixtures("database")
DATA = {"number": "1"}
JSON = ("content-type", "application/json")


@pytest.fixture
def door(app):
    """The path of a source that takes unsigned calls, made for one test."""
    source = make.in_transaction(
        lambda session: make.make_source(session, "org_a", scheme="none", unknown_types="accept")
    )
    intake.forget()
    return "/in/" + sources.url_of(source).rsplit("/", 1)[1]


@pytest.fixture
def front(app):
    from marketplace.front import Front

    return Front(app)


@pytest.fixture
def asked(app, monkeypatch):
    """Which paths the framework was asked for."""
    seen = []
    dispatch = app.full_dispatch_request
    from flask import request

    monkeypatch.setattr(
        app, "full_dispatch_request", lambda: (seen.append(request.path), dispatch())[1]
    )
    return seen


def event(number=1):
    return {"type": "test.happened", "id": f"e{number}", "data": DATA}


def post(front, door, value, **options):
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    headers = [JSON, ("content-length", str(len(raw)))]
    return ask(front, door, [raw], headers=headers, **options)


def test_what_is_accepted_never_meets_the_framework(front, door, asked):
    answer = post(front, door, event())
    assert (answer.status_code, asked) == (202, [])
    (row,) = make.rows(Event)
    assert answer.get_json() == {"accepted": [{"id": row.id, "duplicate": False}]}
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert int(answer.headers["content-length"]) == len(answer.data)
    assert post(front, door, event()).get_json()["accepted"] == [{"id": row.id, "duplicate": True}]


def test_both_ways_say_the_same(client, front, door):
    short = post(front, door, [event(1), event(2)]).get_json()
    long = client.post(door, json=[event(1), event(2)]).get_json()
    assert [one["index"] for one in short["accepted"]] == [0, 1]
    assert short["rejected"] == long["rejected"] == []
    assert [one["id"] for one in short["accepted"]] == [one["id"] for one in long["accepted"]]


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 400), (b"{", 400), (b"[]", 400), (b'"text"', 422), (b"x" * (1 << 20) + b"yz", 413)],
)
def test_a_refusal_is_explained_by_the_framework_and_stored_once(front, door, asked, body, status):
    answer = post(front, door, body)
    assert answer.status_code == status, answer.data
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert asked == [door]
    assert len(make.rows(Event)) == (1 if status == 422 else 0)


@pytest.mark.parametrize("body", [b"{", b"[]", b'"text"', b'{"type":"order.paid","data":{}}'])
def test_what_is_refused_is_verified_and_read_once(front, door, monkeypatch, body):
    real, count = signing.verify, []
    first = post(front, door, body)  # the source and its types are remembered from here on
    stored = len(make.rows(Event))
    monkeypatch.setattr(signing, "verify", lambda *given: (count.append(1), real(*given))[1])
    again = post(front, door, body)
    assert len(count) == 1
    assert first.status_code == again.status_code in (400, 422)
    assert first.get_json()["code"] == again.get_json()["code"]
    assert len(make.rows(Event)) == 2 * stored == 2 * (again.status_code == 422)


def test_who_is_over_its_quota_is_counted_once(front, door, monkeypatch):
    noted = []
    monkeypatch.setattr(intake.refusals, "note", lambda *given: noted.append(given[1].code))
    monkeypatch.setattr(gate.quotas, "admit", over)
    assert post(front, door, event()).status_code == 429
    assert noted == ["over_quota"]


def over(*_):
    raise OverQuota


def test_an_unknown_address_and_other_methods_are_the_frameworks(front, asked):
    assert post(front, "/in/nothing", {}).status_code == 404
    assert post(front, "/in/nothing", {}, method="PUT").status_code == 405
    assert post(front, "/in/a/b", {}).status_code == 404
    assert len(asked) == 3


def test_a_body_in_chunks_is_read_to_its_end(front, door, asked):
    raw = json.dumps(event()).encode()
    headers = [JSON, ("transfer-encoding", "chunked")]
    answer = ask(front, door, [raw[:5], raw[5:9], raw[9:]], headers=headers)
    assert (answer.status_code, asked, len(make.rows(Event))) == (202, [], 1)


def test_an_endless_body_is_refused_before_its_end(front, door):
    answer = ask(front, door, [b"[" * 65536] * 100, headers=[JSON])
    assert answer.status_code == 413


def test_a_sender_that_hangs_up_leaves_nothing_behind(front, door, asked):
    raw = json.dumps(event()).encode()
    assert ask(front, door, [raw[:9]], headers=[JSON], hangs_up=True) is None
    assert (asked, make.rows(Event)) == ([], [])


def test_a_store_that_is_away_is_said_by_the_framework(front, door, monkeypatch):
    def away(*_):
        raise StoreUnavailable

    monkeypatch.setattr(inbox, "write", away)
    answer = post(front, door, event())
    assert answer.status_code == 503
    assert "retry-after" in answer.headers


def test_one_requests_mistake_costs_the_others_nothing(door, monkeypatch):
    """Letters that wait together are stored together, and each alone when that fails."""
    source = make.rows(sources.Source)[0]
    real, gate = events.accept_all, threading.Event()

    def accept_all(session, arrivals):
        gate.wait(5)
        if any(one.events[0].subject == "bad" for one in arrivals):
            raise ValueError("bad")
        return real(session, arrivals)

    monkeypatch.setattr(events, "accept_all", accept_all)
    told = {}
    for name in ("first", "bad", "good"):
        new = events.NewEvent(type="test.happened", body=b"{}", subject=name)
        arrival = events.Arrival("org_a", source.id, [new])
        inbox.post(Letter(arrival, lambda answer, name=name: told.update({name: answer})))
    gate.set()
    for _ in range(500):
        if len(told) == 3:
            break
        threading.Event().wait(0.01)
    assert isinstance(told["bad"], ValueError)
    assert [type(told[name]) for name in ("first", "good")] == [list, list]
    assert len(make.rows(Event)) == 2
