import pytest
from factories.catalog import make_app, manifest_text, publish
from factories.identity import bearer, make_api_key, make_organization

from catalog import seed, vendors
from kernel.database import EVERY, transaction


@pytest.fixture
def hub(database):
    """The catalogue with its demo apps."""
    with transaction(EVERY) as session:
        seed.seed(session, include_demo=True)
    return database


def key_of(**over):
    with transaction(EVERY) as session:
        organization = make_organization(session, **over)
        return organization.id, bearer(make_api_key(session, organization))


def test_public_reading(hub, client):
    slots = client.get("/api/v1/slots").json["items"]
    assert len(slots) == 6
    assert sum(len(slot["sub_scenarios"]) for slot in slots) == 24
    found = client.get("/api/v1/apps?q=gitea").json
    assert found["items"][0]["key"] == "gitea"
    assert client.get("/api/v1/apps?slot=production&slot=rnd").json["total"] > 20
    app = client.get("/api/v1/apps/gitea").json
    assert app["facts"]["licence"] == {
        "value": {"spdx": "MIT", "kind": "open-source"},
        "confidence": "confirmed",
    }
    assert app["facts"]["data_export"]["confidence"] == "likely"
    assert client.get("/api/v1/apps/nothing").status_code == 404
    assert len(client.get("/api/v1/bundles").json["items"]) == 17
    assert client.get("/api/v1/bundles/order-to-chat").json["flow_template"] == (
        "order-to-erp-to-chat"
    )
    assert client.get("/api/v1/apps?cursor=!").status_code == 400


def test_the_vocabulary_is_public_with_schema_and_sample(hub, client):
    items = client.get("/api/v1/event-types").json["items"]
    assert len([item for item in items if item["origin"] == "canonical"]) == 139
    only = client.get("/api/v1/event-types?sub_scenario=marketing.store").json["items"]
    assert {item["sub_scenario"] for item in only} == {"marketing.store"}
    paid = client.get("/api/v1/event-types/order.paid").json
    assert paid["schema"]["required"]
    assert paid["sample"]["order_no"]
    assert client.get("/api/v1/event-types/order.eaten").status_code == 404


def test_own_event_types_belong_to_one_organization(database, client):
    _, mine = key_of()
    _, theirs = key_of()
    body = {
        "name": "visitor.arrived",
        "title": {"zh": "到访", "en": "Visitor arrived"},
        "schema": {"type": "object", "required": ["visitor"]},
        "sample": {"visitor": "李雯"},
        "natural_key": ["/visitor"],
    }
    made = client.post("/api/v1/custom-event-types", json=body, headers=mine)
    assert made.status_code == 201, made.json
    assert client.get("/api/v1/event-types/visitor.arrived", headers=mine).status_code == 200
    assert client.get("/api/v1/event-types/visitor.arrived", headers=theirs).status_code == 404
    assert client.get("/api/v1/event-types/visitor.arrived").status_code == 404
    assert client.get("/api/v1/custom-event-types", headers=theirs).json["items"] == []
    path = f"/api/v1/custom-event-types/{made.json['id']}"
    assert client.delete(path, headers=theirs).status_code == 404
    assert client.delete(path, headers=mine).status_code == 204
    assert client.get("/api/v1/event-types/visitor.arrived", headers=mine).status_code == 404
    bad = client.post(
        "/api/v1/custom-event-types", json={**body, "schema": {"$ref": "http://x"}}, headers=mine
    )
    assert bad.status_code == 422
    assert bad.json["errors"][0]["pointer"] == "/$ref"
    assert client.post("/api/v1/custom-event-types", json=body).status_code == 401


def test_from_application_to_shelf_over_json(database, client):
    _, vendor = key_of()
    _, operator = key_of(is_operator=True)
    application = {"name": {"zh": "艾克美", "en": "Acme"}, "contact_email": "a@example.com"}
    assert (
        client.post("/api/v1/releases", json={"manifest": "x"}, headers=vendor).status_code == 403
    )
    applied = client.post("/api/v1/vendor", json=application, headers=vendor).json
    assert client.get("/api/v1/vendor-applications", headers=vendor).status_code == 403
    waiting = client.get("/api/v1/vendor-applications", headers=operator).json["items"]
    assert [row["id"] for row in waiting] == [applied["id"]]
    decided = client.post(
        f"/api/v1/vendor-applications/{applied['id']}",
        json={"decision": "approve"},
        headers=operator,
    )
    assert decided.json["state"] == "verified"
    wrong = {"manifest": manifest_text(layer="attic")}
    checked = client.post("/api/v1/releases/check", json=wrong, headers=vendor).json
    assert checked["is_valid"] is False
    assert checked["findings"][0]["pointer"] == "/layer"
    refused = client.post("/api/v1/releases", json=wrong, headers=vendor)
    assert refused.status_code == 422
    assert str(checked["findings"][0]["line"]) in refused.json["errors"][0]["message"]
    sent = client.post("/api/v1/releases", json={"manifest": manifest_text()}, headers=vendor)
    assert sent.status_code == 201, sent.json
    release = sent.json
    assert client.get("/api/v1/reviews", headers=vendor).status_code == 403
    (queued,) = client.get("/api/v1/reviews", headers=operator).json["items"]
    assert queued["id"] == release["id"]
    path = f"/api/v1/reviews/{release['id']}"
    assert client.post(path, json={"decision": "reject"}, headers=operator).status_code == 422
    assert client.post(path, json={"decision": "approve"}, headers=operator).status_code == 200
    _, stranger = key_of(is_vendor=True)
    publish_path = f"/api/v1/releases/{release['id']}/publish"
    assert client.post(publish_path, headers=stranger).status_code == 404
    assert client.post(publish_path, headers=vendor).json["state"] == "published"
    app = client.get("/api/v1/apps/acme-desk").json
    assert (app["version"], app["plans"][0]["price_fen"]) == ("1.0.0", 9900)
    assert app["facts"]["licence"]["confidence"] == "vendor"


def test_errors_speak_the_reader_s_language(database, client):
    _, vendor = key_of(is_vendor=True)
    body = {"manifest": manifest_text(layer="attic")}
    zh = client.post("/api/v1/releases?lang=zh", json=body, headers=vendor).json
    en = client.post("/api/v1/releases?lang=en", json=body, headers=vendor).json
    assert en["errors"][0]["message"].startswith("Line ")
    assert zh["errors"][0]["message"].startswith("第 ")


def test_factories_stand_on_their_own(session):
    app = make_app(session, key="one")
    vendor = vendors.find(session, app.vendor_id)
    assert publish(session, vendor).state == "published"
