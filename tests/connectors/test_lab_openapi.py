"""Drafts from OpenAPI documents: of a small odd one in both versions, and of the hub's own."""

import json
import time

import pytest
import yaml
from click.testing import CliRunner

from connectors.cli import group
from connectors.engine import loader
from connectors.lab import offline, openapi, openapi_schemas, validate

SMALL = """
openapi: 3.0.3
info: {title: Acme, description: Sells anvils., version: "1"}
servers: [{url: "https://api.acme.example/v1"}]
components:
  securitySchemes:
    header: {type: apiKey, in: header, name: X-Acme-Key}
    user: {type: http, scheme: basic}
    app: {type: oauth2, flows: {clientCredentials: {tokenUrl: "https://acme.example/t"}}}
    odd: {type: mutualTLS}
  schemas:
    Node:
      type: object
      properties: {name: {type: string}, next: {$ref: "#/components/schemas/Node"}}
    Anvil:
      allOf:
        - {type: object, required: [id], properties: {id: {type: integer, readOnly: true}}}
        - type: object
          required: [name, weight]
          properties:
            name: {type: string, maxLength: 3, example: Big}
            weight: {type: number, minimum: 0, exclusiveMinimum: true}
            colour: {type: string, nullable: true, enum: [red, blue]}
            code: {type: string, pattern: "^[A-Z]{3}-[0-9]{9}$"}
            secret: {type: string, writeOnly: true}
            optional: {type: string}
            node: {$ref: "#/components/schemas/Node"}
paths:
  /anvils:
    parameters: [{name: X-Trace, in: header, schema: {type: string}}]
    get:
      operationId: listAnvils
      tags: [anvils]
      parameters:
        - {name: "filter[colour]", in: query, schema: {type: string}}
        - {name: tag, in: query, schema: {type: array, items: {type: string}}}
      responses:
        "200":
          description: ok
          content:
            application/json:
              schema: {type: array, items: {$ref: "#/components/schemas/Anvil"}}
    post:
      summary: Make an anvil
      tags: [anvils]
      requestBody:
        required: true
        content: {application/json: {schema: {$ref: "#/components/schemas/Anvil"}}}
      responses:
        "201":
          description: made
          content: {application/json: {schema: {$ref: "#/components/schemas/Anvil"}}}
  /anvils/{anvil-id}/drop:
    delete: {operationId: drop, responses: {"204": {description: gone}}}
  /refunds:
    post:
      operationId: refund
      requestBody:
        required: true
        content:
          application/x-www-form-urlencoded:
            schema:
              type: object
              required: [payment]
              properties:
                payment: {type: string}
                amount: {type: integer, minimum: 1}
                expand: {type: array, items: {type: string}}
      responses: {"200": {description: ok}}
  /picture:
    put:
      operationId: putPicture
      requestBody: {required: true, content: {image/png: {schema: {type: string, format: binary}}}}
      responses: {"200": {description: ok}}
"""


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "acme.yaml"
    path.write_text(SMALL)
    return path


def start(folder, document, *more):
    result = CliRunner().invoke(
        group, ["init", str(folder), "--from-openapi", str(document), "--language", "en", *more]
    )
    assert result.exit_code == 0, result.output
    return result.output


def finish(folder):
    for path in folder.rglob("*"):
        if path.is_file():
            path.write_text(path.read_text().replace("TODO", "done"))


def test_a_draft_keeps_every_rule_but_its_todos(small, tmp_path):
    folder = tmp_path / "acme"
    output = start(folder, small)
    assert "PUT /picture: its body is no JSON or form" in output
    assert {one.rule for one in validate.validate(folder)} == {"C13"}
    finish(folder)
    assert validate.validate(folder) == []
    assert [one for one in offline.run(folder) if not one.is_ok] == []


def test_actions_say_what_the_document_says(small, tmp_path):
    folder = tmp_path / "acme"
    start(folder, small)
    connector = loader.load(folder)
    assert connector.hosts == ("api.acme.example", "acme.example")  # the token's, too
    assert {one.id: one.kind for one in connector.auth} == {
        "header": "api_key", "user": "basic", "app": "oauth2_client",
    }  # fmt: skip
    assert set(connector.actions) == {"list_anvils", "post_anvils", "drop", "refund"}
    assert connector.actions["refund"].request.form == {
        "payment": "${input.payment}",
        "amount": {"optional": "${input.amount}"},
    }
    made = connector.actions["post_anvils"]
    assert made.effect == "create"
    assert set(made.input["required"]) == {"name", "weight"}
    assert "id" not in made.input["properties"]  # the app alone writes it
    assert "secret" not in made.output["properties"]  # the app never shows it
    assert made.input["properties"]["weight"]["exclusiveMinimum"] == 0
    assert made.input["properties"]["colour"]["type"] == ["string", "null"]
    assert made.sample["input"]["name"] == "Big"
    dropped = connector.actions["drop"]
    assert dropped.request.path == "/anvils/${input.anvil_id}/drop"
    assert dropped.result == {"status": "${status}"}
    listed = connector.actions["list_anvils"]
    assert listed.request.query == {
        "object": {
            "filter[colour]": {"optional": "${input.filter_colour}"},
            "tag": {"optional": "${input.tag}"},
        }
    }
    assert connector.lifecycle["test"].request.path == "/anvils"


def test_only_what_is_asked_for_is_taken(small, tmp_path):
    folder = tmp_path / "acme"
    start(folder, small, "--only", "drop", "--only", "listAnvils")
    assert set(loader.load(folder).actions) == {"list_anvils", "drop"}


def test_the_hubs_own_document_makes_a_connector(tmp_path):
    from marketplace.app import create_app

    document = tmp_path / "hub.json"
    document.write_bytes(create_app().test_client().get("/api/v1/openapi.json").data)
    folder = tmp_path / "the-hub"
    output = start(folder, document)
    assert "more operations are left out" in output
    finish(folder)
    assert validate.validate(folder) == []
    assert len(loader.load(folder).actions) == openapi.MAX_ACTIONS


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("swagger: '2.0'\npaths: {}", "is Swagger 2.0"),
        ("{", "cannot be read"),
        ("a: [", "cannot be read"),
        ("- 1", "not an OpenAPI 3"),
    ],
)
def test_what_is_not_openapi_is_said_plainly(tmp_path, text, word):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    result = CliRunner().invoke(
        group, ["init", str(tmp_path / "acme"), "--from-openapi", str(path), "--language", "en"]
    )
    assert result.exit_code == 1
    assert word in result.output
    assert not (tmp_path / "acme").exists()


def test_a_far_or_circular_reference_ends_open():
    book = openapi_schemas.Book(yaml.safe_load(SMALL))
    assert book.schema({"$ref": "https://evil.example/x.json"}, is_input=True) == {}
    assert book.schema({"$ref": "#/components/nothing"}, is_input=True) == {}
    node = book.schema({"$ref": "#/components/schemas/Node"}, is_input=True)
    assert json.dumps(node).count('"next"') <= openapi_schemas.MAX_DEPTH + 1


_BRANCHES = {
    f"A{depth}": {
        "type": "object",
        "properties": {name: {"$ref": f"#/components/schemas/A{depth + 1}"} for name in "abcdefgh"},
    }
    for depth in range(12)
}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "minLength": 10**10},
        {"type": "array", "minItems": 10**10, "items": {"type": "string"}},
        {"type": "array", "minItems": 999, "items": {"type": "array", "minItems": 999, "items": {
            "type": "array", "minItems": 999, "items": {"type": "string"}}}},
        {"$ref": "#/components/schemas/A0"},
        {"$ref": "#/components/schemas/All"},
    ],
    ids=["long", "many", "nested", "branches", "all_of"],
)  # fmt: skip
def test_a_hostile_document_costs_little(schema):
    everything = {"allOf": [{"$ref": "#/components/schemas/All"}] * 8}
    body = {"content": {"application/json": {
        "schema": {"type": "object", "properties": {"a": schema}}}}}  # fmt: skip
    document = {
        "openapi": "3.0.0",
        "info": {"title": "x"},
        "servers": [{"url": "https://app.example.com"}],
        "components": {"schemas": {**_BRANCHES, "All": everything}},
        "paths": {"/a": {"post": {"operationId": "../../a", "requestBody": body,
                                  "responses": {"200": {"description": "ok"}}}}},
    }  # fmt: skip
    started = time.process_time()
    made = openapi.draft(document, "evil")
    assert time.process_time() - started < 10
    assert list(made.manifest["actions"]) == ["a"]


def test_aliases_that_stand_for_too_much_are_refused(tmp_path):
    lines = ["openapi: 3.0.0", "x0: &x0 [1,1,1,1,1,1,1,1,1,1]"]
    lines += [f"x{n}: &x{n} [{','.join([f'*x{n - 1}'] * 10)}]" for n in range(1, 9)]
    path = tmp_path / "bomb.yaml"
    path.write_text("\n".join([*lines, "paths: {}"]))
    with pytest.raises(openapi.NotOpenApi):
        openapi.read(path)
