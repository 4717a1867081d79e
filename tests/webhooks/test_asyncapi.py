"""The AsyncAPI and OpenAPI documents hold against the official schemas and stand on their own."""

import json
from pathlib import Path

import pytest
import yaml
from factories import identity
from factories import webhooks as make
from jsonschema import Draft7Validator, Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from catalog import event_types
from webhooks import asyncapi

ROOT = Path(__file__).parents[2]
OFFICIAL = ROOT / "node_modules/@asyncapi/specs/schemas/3.0.0-without-$id.json"


@pytest.fixture
def ask(client):
    """GET with an organization's API key; `ask.organization_id` is whose."""

    def setup(session):
        organization = identity.make_organization(session)
        return organization.id, identity.make_api_key(session, organization, role="integrator")

    organization_id, key = make.in_transaction(setup)

    def get(path):
        return client.get(path, headers={"Authorization": f"Bearer {key}"})

    get.organization_id = organization_id
    return get


def findings(document):
    official = json.loads(OFFICIAL.read_text())
    return [
        f"{e.json_path}: {e.message[:200]}" for e in Draft7Validator(official).iter_errors(document)
    ]


def references(value):
    if isinstance(value, dict):
        for name, item in value.items():
            if name == "$ref" and isinstance(item, str):
                yield item
            else:
                yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def followed(document, reference):
    """What a reference inside the document leads to."""
    found = document
    assert reference.startswith("#/"), reference
    for part in reference[2:].split("/"):
        found = found[part.replace("~1", "/").replace("~0", "~")]
    return found


def payload_errors(document, key, event):
    """What is wrong with an event by the document's own words."""
    schema = {
        **document["components"]["messages"][key]["payload"],
        "components": document["components"],
    }
    return [e.message for e in Draft202012Validator(schema).iter_errors(event)]


def own_type(session, organization_id, name="visitor.arrived", required=("badge",)):
    return event_types.define(
        session,
        organization_id,
        name=name,
        title={"zh": "访客到了", "en": "Visitor arrived"},
        schema={
            "type": "object",
            "required": list(required),
            "properties": {
                "badge": {"$ref": "#/$defs/badge"},
                "fee": {"$ref": "shapes.json#/$defs/money"},
                "weight": {"type": "number", "multipleOf": 0.01},
            },
            "$defs": {"badge": {"type": "string", "maxLength": 9}},
        },
        sample={"badge": "B-1", "fee": {"value": "1.50", "currency": "CNY"}, "weight": 0.25},
    )


def test_the_vocabulary_is_open_to_everybody_and_holds_against_the_official_schema(client):
    answer = client.get("/api/v1/asyncapi.json")
    document = answer.json
    assert answer.status_code == 200
    assert answer.content_type == "application/vnd.aai.asyncapi+json;version=3.0.0"
    assert findings(document) == []
    assert len(document["channels"]) == len(event_types.built_in()) == len(document["operations"])
    for reference in references(document):
        followed(document, reference)


def test_a_broken_document_would_be_found(client):
    document = client.get("/api/v1/asyncapi.json").json
    document["operations"]["send.order.paid"]["action"] = "shout"
    assert findings(document)


def test_every_sample_fits_its_message(client):
    document = client.get("/api/v1/asyncapi.json").json
    for key, message in document["components"]["messages"].items():
        (example,) = message["examples"]
        assert payload_errors(document, key, example["payload"]) == [], key
        refused = payload_errors(document, key, {**example["payload"], "type": "other.happened"})
        assert refused, key


def test_an_organization_sees_its_own_types_with_every_version_and_nobody_elses(ask, client):
    def setup(session):
        own_type(session, ask.organization_id)
        own_type(session, ask.organization_id, required=())
        stranger = identity.make_organization(session, name="别家")
        own_type(session, stranger.id, name="secret.happened")

    make.in_transaction(setup)
    document = ask("/api/v1/asyncapi.json").json
    assert findings(document) == []
    for reference in references(document):
        followed(document, reference)
    channel = document["channels"]["visitor.arrived"]
    assert set(channel["messages"]) == {"visitor.arrived.v1", "visitor.arrived.v2"}
    message = document["components"]["messages"]["visitor.arrived.v1"]
    event = message["examples"][0]["payload"]
    assert payload_errors(document, "visitor.arrived.v1", event) == []
    long = {**event, "data": {"badge": "far too long a badge"}}
    assert payload_errors(document, "visitor.arrived.v1", long)
    assert "secret.happened" not in document["channels"]
    assert "demo-shop.order" not in client.get("/api/v1/asyncapi.json").text
    assert "visitor.arrived" not in client.get("/api/v1/asyncapi.json").text


def test_the_yaml_says_the_same_and_both_may_be_kept(ask):
    make.in_transaction(lambda session: own_type(session, ask.organization_id))
    written = ask("/api/v1/asyncapi.yaml")
    assert written.content_type == "application/vnd.aai.asyncapi+yaml;version=3.0.0"
    found = yaml.safe_load(written.text)
    assert findings(found) == []
    assert found == ask("/api/v1/asyncapi.json").json
    assert written.headers["ETag"]
    assert "no-cache" in written.headers["Cache-Control"]


def test_a_name_that_no_key_may_have_is_written_otherwise():
    odd = event_types.EventType(
        name="git/push:main", version=1, title={}, schema={"type": "object"}, sample={}
    )
    document = asyncapi.document([odd], "en", "about")
    assert findings(document) == []
    assert document["channels"]["git-push-main"]["messages"]
    assert document["components"]["messages"]["git-push-main.v1"]["name"] == "git/push:main"


def test_the_openapi_document_is_valid(client):
    document = client.get("/api/v1/openapi.json").json
    errors = [
        f"{e.json_path}: {e.message[:300]}" for e in OpenAPIV31SpecValidator(document).iter_errors()
    ]
    assert errors == []
