"""Data above 256 kB goes out as an address, and the address gives it back byte for byte."""

import base64
import hashlib
import json
import secrets
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
from cloudevents.v1.http import from_http
from factories import identity
from factories import webhooks as make
from standardwebhooks import Webhook

from kernel import clock
from kernel.database import write
from kernel.settings import settings, settings_override
from webhooks import drain, endpoints, payloads, replay
from webhooks.tables import Delivery, Endpoint, Event

LARGE = b'{ "note" : "' + b"x" * payloads.LIMIT_BYTES + b'", "weight": 12.50}'
SMALL = b'{"note":"' + b"x" * (payloads.LIMIT_BYTES - 11) + b'"}'


@pytest.fixture
def organization_id(database):
    return make.in_transaction(lambda session: identity.make_organization(session).id)


@pytest.fixture
def target(database):
    with make.sink() as found:
        yield found


def send(organization_id, target, body=LARGE, content_type="application/json", **endpoint):
    """Let one event go out to a new endpoint; gives the endpoint and what arrived."""

    def setup(session):
        row = make.make_endpoint(session, organization_id, target.url, **endpoint)
        make.make_event(session, organization_id, body=body, content_type=content_type)
        return row

    row = make.in_transaction(setup)
    drain.drain("w1")
    return row, target.requests[-1]


def address_in(arrived) -> str:
    """The path of what an envelope refers to."""
    event = json.loads(arrived[2])
    assert event["dataref"].startswith(settings().base_url + "/payloads/")
    return urlsplit(event["dataref"]).path


def test_the_envelope_is_signed_and_refers_to_the_data(organization_id, target, client):
    endpoint, (_, headers, body) = send(organization_id, target)
    assert len(body) < 1000
    Webhook(endpoints.secret_of(endpoint)).verify(body, headers)
    event = from_http(headers, body)
    assert event.data is None
    assert event["datacontenttype"] == "application/json"
    assert event["datasha256"] == hashlib.sha256(LARGE).hexdigest()
    assert event["id"] == headers["webhook-id"]
    answer = client.get(urlsplit(event["dataref"]).path)
    assert (answer.status_code, answer.data) == (200, LARGE)
    assert answer.content_type == "application/json"


def test_data_up_to_the_limit_goes_along(organization_id, target):
    assert len(SMALL) == payloads.LIMIT_BYTES
    _, (_, _, body) = send(organization_id, target, SMALL)
    assert json.loads(body)["data"] == json.loads(SMALL)


def test_an_endpoint_may_ask_for_all_of_it(organization_id, target):
    _, (_, _, body) = send(organization_id, target, large_payloads="inline")
    assert json.loads(body)["data"]["weight"] == 12.50
    assert LARGE in body


def test_two_endpoints_of_one_event_each_get_their_own_way(organization_id, target):
    def setup(session):
        for way in ("reference", "inline", "reference"):
            make.make_endpoint(session, organization_id, target.url, large_payloads=way)
        make.make_event(session, organization_id, body=LARGE)

    make.in_transaction(setup)
    drain.drain("w1")
    found = [json.loads(body) for _, _, body in target.requests]
    references = {one["dataref"] for one in found if "dataref" in one}
    assert len(found) == 3
    assert len(references) == 2


def test_data_that_is_no_json_comes_with_its_own_type_and_is_no_page_of_ours(
    organization_id, target, client
):
    page = b"<script>alert(1)</script>" + b" " * payloads.LIMIT_BYTES
    _, arrived = send(organization_id, target, page, "text/html")
    answer = client.get(address_in(arrived))
    assert answer.data == page
    assert answer.content_type == "text/html"
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Content-Disposition"] == "attachment"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_head_ranges_and_etags(organization_id, target, client):
    _, arrived = send(organization_id, target)
    path = address_in(arrived)
    head = client.head(path)
    assert (head.status_code, head.data) == (200, b"")
    assert head.headers["Content-Length"] == str(len(LARGE))
    assert head.headers["Accept-Ranges"] == "bytes"
    part = client.get(path, headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.data) == (206, LARGE[100:200])
    assert part.headers["Content-Range"] == f"bytes 100-199/{len(LARGE)}"
    last = client.get(path, headers={"Range": "bytes=-10"})
    assert last.data == LARGE[-10:]
    beyond = client.get(path, headers={"Range": f"bytes={len(LARGE)}-"})
    assert beyond.status_code == 416
    assert beyond.headers["Content-Range"] == f"bytes */{len(LARGE)}"
    etag = head.headers["ETag"]
    assert client.get(path, headers={"If-None-Match": etag}).status_code == 304
    other = {"Range": "bytes=0-9", "If-Range": '"another"'}
    assert client.get(path, headers=other).status_code == 200


def test_fetches_are_counted_and_looks_are_not(organization_id, target, client):
    _, arrived = send(organization_id, target)
    path = address_in(arrived)
    assert make.rows(Delivery)[0].fetch_count is None
    client.head(path)
    etag = client.get(path).headers["ETag"]
    client.get(path, headers={"If-None-Match": etag})
    client.get(path, headers={"Range": "bytes=0-99"})
    client.get(path, headers={"Range": "bytes=100-199"})
    (found,) = make.rows(Delivery)
    assert found.fetch_count == 2
    assert found.fetched_at is not None


def test_every_try_has_the_same_body_also_after_a_new_key(organization_id, target, client):
    target.status = 500
    _, first = send(organization_id, target)
    fresh = "k2:" + base64.b64encode(secrets.token_bytes(32)).decode()
    held = [f"{name}:{base64.b64encode(key).decode()}" for name, key in settings().keys.items()]
    (delivery,) = make.rows(Delivery)
    with settings_override(secret_keys=(fresh, *held)):
        write(lambda session: replay.resend(session, organization_id, delivery.id))
        drain.drain("w1")
        assert len(target.requests) == 2
        assert target.requests[1][2] == first[2]
        assert target.requests[1][1]["webhook-id"] == first[1]["webhook-id"]
        assert client.get(address_in(first)).status_code == 200


def test_the_address_runs_out_and_a_resend_brings_it_back(organization_id, target, client):
    _, arrived = send(organization_id, target)
    path = address_in(arrived)
    hours = payloads.KEPT_FOR / timedelta(hours=1)
    assert hours > 75
    with clock.shifted(seconds=(hours - 1) * 3600):
        assert client.get(path).status_code == 200
    with clock.shifted(seconds=(hours + 1) * 3600):
        assert client.get(path).status_code == 404
        (delivery,) = make.rows(Delivery)
        write(lambda session: replay.resend(session, organization_id, delivery.id))
        assert client.get(path).status_code == 200  # the receiver may ask before it answers


def test_it_works_while_the_delivery_is_on_its_way(organization_id, target, client):
    target.status = 500
    _, arrived = send(organization_id, target)
    with clock.shifted(seconds=200 * 3600):
        assert client.get(address_in(arrived)).status_code == 200


def test_nobody_can_make_an_address_up(organization_id, target, client):
    endpoint, arrived = send(organization_id, target)
    path = address_in(arrived)
    (event,) = make.rows(Event)
    stranger = make.in_transaction(lambda session: identity.make_organization(session).id)
    made_up = payloads.token_of(payloads.Key(stranger, event.id, endpoint.id))
    forged = [
        path[:-1] + ("0" if path[-1] != "0" else "1"),
        path[:-64],
        path + "0",
        "/payloads/x",
        f"/payloads/{made_up}",
        path.replace("/payloads/", "/payloads/" + "A" * 26),
    ]
    for one in forged:
        answer = client.get(one)
        assert answer.status_code == 404, one
        assert b"xxxx" not in answer.data
    unsent = payloads.token_of(payloads.Key(organization_id, event.id, "ep_" + "0" * 26))
    assert client.get(f"/payloads/{unsent}").status_code == 404


def test_the_way_is_chosen_and_changed_over_json(client):
    def setup(session):
        organization = identity.make_organization(session)
        return identity.make_api_key(session, organization, role="integrator")

    bearer = {"Authorization": f"Bearer {make.in_transaction(setup)}"}
    body = {"url": "http://93.184.216.34/hook", "event_types": ["*"]}
    made = client.post("/api/v1/endpoints", json=body, headers=bearer).json
    assert made["large_payloads"] == "reference"
    path = f"/api/v1/endpoints/{made['id']}"
    changed = client.patch(path, json={"large_payloads": "inline"}, headers=bearer)
    assert changed.json["large_payloads"] == "inline"
    refused = client.patch(path, json={"large_payloads": "pigeon"}, headers=bearer)
    assert refused.status_code == 422
    assert make.row(Endpoint, made["id"]).large_payloads == "inline"
