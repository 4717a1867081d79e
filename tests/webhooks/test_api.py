"""JSON: sources, events, endpoints and deliveries with an API key."""

import pytest
from factories import identity
from factories import webhooks as make

from catalog import event_types
from webhooks import drain
from webhooks.tables import Event


@pytest.fixture
def api(client):
    """JSON calls with an API key; `api.organization_id` is whose."""

    def setup(session):
        organization = identity.make_organization(session)
        return organization.id, identity.make_api_key(session, organization, role="integrator")

    organization_id, key = make.in_transaction(setup)

    def call(method, path, body=None, **headers):
        headers = {"Authorization": f"Bearer {key}", **headers}
        return client.open(f"/api/v1{path}", method=method, json=body, headers=headers)

    call.organization_id = organization_id
    return call


def test_an_event_is_sent_by_api_once_per_key(api):
    body = {"type": "order.paid", "data": event_types.find(None, None, "order.paid").sample}
    first = api("POST", "/events", body, **{"Idempotency-Key": "k1"})
    second = api("POST", "/events", body, **{"Idempotency-Key": "k1"})
    assert (first.status_code, second.status_code) == (202, 202)
    assert second.json == {"id": first.json["id"], "duplicate": True}
    shown = api("GET", f"/events/{first.json['id']}").json
    assert shown["data"] == body["data"]
    assert api("GET", "/events?type=order.*").json["items"][0]["id"] == first.json["id"]
    broken = api("POST", "/events", {"type": "order.paid", "data": {}})
    assert broken.status_code == 422
    assert all(error["pointer"].startswith("/data") for error in broken.json["errors"])
    assert api("POST", "/events", {"type": "no.such_type", "data": {}}).status_code == 422
    assert len(make.rows(Event)) == 1


def test_the_whole_api(api):
    rules = {"from": "fixed", "value": "a.b"}
    source = api("POST", "/sources", {"name": "ERP", "type_rules": rules})
    assert source.status_code == 201
    assert source.json["secret"].startswith("whsec_")
    source_id = source.json["id"]
    assert "secret" not in api("GET", f"/sources/{source_id}").json
    assert api("PATCH", f"/sources/{source_id}", {"name": "WMS"}).json["name"] == "WMS"
    assert api("POST", f"/sources/{source_id}/reveal").json["url"] == source.json["url"]
    assert api("POST", f"/sources/{source_id}/rotate-token").json["url"] != source.json["url"]
    rotated = api("POST", f"/sources/{source_id}/rotate-secret", {"secret": "my-own-secret"})
    assert rotated.json["secret"] == "my-own-secret"
    assert api("POST", f"/sources/{source_id}/pause").json["state"] == "paused"
    assert api("POST", f"/sources/{source_id}/resume").json["state"] == "active"
    assert api("POST", "/sources", {"name": "x", "scheme": "magic"}).status_code == 422
    assert api("POST", "/sources", {"name": "x", "state": "paused"}).status_code == 422

    inside = {"url": "http://169.254.169.254/", "event_types": ["*"]}
    assert api("POST", "/endpoints", inside).json["errors"][0]["pointer"] == "/url"
    with make.sink() as target:
        made = api("POST", "/endpoints", {"url": target.url, "event_types": ["test.*"]})
        assert made.status_code == 201, made.json
        endpoint_id = made.json["id"]
        assert api("POST", f"/endpoints/{endpoint_id}/test").json["status"] == 200
        event_id = make.in_transaction(lambda s: make.make_event(s, api.organization_id))
        target.status = 500
        drain.drain("w1")
        (delivery,) = api("GET", "/deliveries?state=waiting").json["items"]
        (attempt,) = api("GET", f"/deliveries/{delivery['id']}/attempts").json["items"]
        assert (attempt["status"], attempt["response_body"]) == (500, "ok")
        assert attempt["request_headers"]["webhook-id"] == event_id
        target.status = 200
        assert api("POST", f"/deliveries/{delivery['id']}/resend").json["state"] == "due"
        drain.drain("w1")
        assert api("GET", f"/deliveries/{delivery['id']}").json["state"] == "delivered"
        assert api("POST", f"/deliveries/{delivery['id']}/cancel").status_code == 409
        assert api("GET", f"/events/{event_id}/deliveries").json["items"][0]["id"] == delivery["id"]
        assert api("POST", f"/events/{event_id}/replay").json["state"] == "new"
        assert api("POST", f"/events/{event_id}/reconsider").status_code == 409
    for verb, state in (("pause", "paused"), ("resume", "active"), ("disable", "disabled")):
        assert api("POST", f"/endpoints/{endpoint_id}/{verb}").json["state"] == state
    since = {"since": "2026-01-01T00:00:00Z"}
    assert api("POST", f"/endpoints/{endpoint_id}/recover", since).status_code == 409
    api("POST", f"/endpoints/{endpoint_id}/resume")
    assert api("POST", f"/endpoints/{endpoint_id}/recover", since).status_code == 200
    future = {"since": "2999-01-01T00:00:00Z"}
    assert api("POST", f"/endpoints/{endpoint_id}/recover", future).status_code == 422
    assert api("PATCH", f"/endpoints/{endpoint_id}", {"event_types": ["a b"]}).status_code == 422
    assert "secret" not in api("GET", "/endpoints").json["items"][0]
