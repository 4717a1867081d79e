"""The gate: whatever comes, the short way and the framework's way say the same."""

import io
import json

import pytest
from factories import webhooks as make

from webhooks import gate, intake, sources
from webhooks.tables import Event

pytestmark = pytest.mark.usefixtures("database")
DATA = {"number": "1"}


@pytest.fixture
def door(app):
    """The path of a source that takes unsigned calls, made for one test."""
    source = make.in_transaction(
        lambda session: make.make_source(session, "org_a", scheme="none", unknown_types="accept")
    )
    intake.forget()
    return "/in/" + sources.url_of(source).rsplit("/", 1)[1]


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


def test_what_is_accepted_never_meets_the_framework(client, door, asked):
    answer = client.post(door, json=event())
    assert (answer.status_code, asked) == (202, [])
    (row,) = make.rows(Event)
    assert answer.get_json() == {"accepted": [{"id": row.id, "duplicate": False}]}
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert client.post(door, json=event()).get_json()["accepted"] == [
        {"id": row.id, "duplicate": True}
    ]


def test_a_list_is_answered_in_order(client, door, asked):
    answer = client.post(door, json=[event(1), event(2)])
    assert [one["index"] for one in answer.get_json()["accepted"]] == [0, 1]
    assert (answer.get_json()["rejected"], asked) == ([], [])


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 400), (b"{", 400), (b"[]", 400), (b'"text"', 422), (b"x" * (1 << 20) + b"yz", 413)],
)
def test_a_refusal_is_explained_by_the_framework_and_taken_in_once(
    client, door, asked, body, status, monkeypatch
):
    calls = []
    real = intake.take_in
    monkeypatch.setattr(intake, "take_in", lambda *a: (calls.append(1), real(*a))[1])
    answer = client.post(door, data=body, content_type="application/json")
    assert answer.status_code == status, answer.data
    assert answer.mimetype == "application/problem+json"
    assert (asked, calls) == ([door], [1])


def test_an_unknown_address_and_other_methods_are_the_frameworks(client, asked):
    assert client.post("/in/nothing", json={}).status_code == 404
    assert client.get("/in/nothing").status_code == 405
    assert client.post("/in/a/b", json={}).status_code == 404
    assert len(asked) == 3


def test_a_body_without_an_announced_length_ends_where_the_server_says(app, door):
    raw = json.dumps(event()).encode()
    for announced in ({}, {"CONTENT_LENGTH": ""}):
        environ = {
            "REQUEST_METHOD": "POST", "PATH_INFO": door, "wsgi.input": io.BytesIO(raw),
            "CONTENT_TYPE": "application/json", "wsgi.input_terminated": True, **announced,
        }  # fmt: skip
        body = b"".join(app.wsgi_app(environ, lambda *_: None))
        assert body.startswith(b'{"accepted":['), body
    assert len(make.rows(Event)) == 1


def test_no_more_is_read_than_was_announced(app, door):
    raw = json.dumps(event()).encode()
    stream = io.BytesIO(raw + b"the next request")
    environ = {
        "REQUEST_METHOD": "POST", "PATH_INFO": door, "wsgi.input": stream,
        "CONTENT_TYPE": "application/json", "CONTENT_LENGTH": str(len(raw)),
    }  # fmt: skip
    b"".join(app.wsgi_app(environ, lambda *_: None))
    assert stream.read() == b"the next request"


def test_the_gate_leaves_alone_what_it_cannot_read():
    without_end = {"REQUEST_METHOD": "POST", "PATH_INFO": "/in/x", "CONTENT_LENGTH": "-5"}
    assert gate._token(without_end) is None
    assert gate._token({**without_end, "CONTENT_LENGTH": "5"}) == "x"
    assert gate._token({**without_end, "CONTENT_LENGTH": "5", "REQUEST_METHOD": "PUT"}) is None
