"""OpenAPI documents as the world has them: ill-typed, circular, huge, of other versions.

Whatever is in the file, what comes is a draft with notes, or words; never a traceback.
"""

import copy
import json
import time

import pytest
import yaml
from click.testing import CliRunner

from connectors.cli import group
from connectors.engine.findings import EngineError
from connectors.lab import openapi
from tests.connectors.test_lab_openapi import SMALL

DOCUMENT = yaml.safe_load(SMALL)
WRONG = [None, 7, "x", [], {}, True, [None], [7], {"a": None}, {"$ref": 7}, {"$ref": "#/paths"}]


def drafted(path):
    """What is said about a document: the notes of its draft, or why there is none."""
    try:
        return openapi.draft(openapi.read(path), "my-app").left_out
    except EngineError as told:
        return [told.say]


def places(value, at=()):
    yield at
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, list) else items
    for name, one in items:
        yield from places(one, (*at, name))


def with_wrong(at, wrong):
    document = copy.deepcopy(DOCUMENT)
    node = document
    for name in at[:-1]:
        node = node[name]
    node[at[-1]] = copy.deepcopy(wrong)
    return document


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_a_part_of_another_kind_anywhere_gives_notes_or_words(number, tmp_path):
    path = tmp_path / "odd.json"
    for at in list(places(DOCUMENT))[1:]:
        path.write_text(json.dumps(with_wrong(at, WRONG[number])))
        said = drafted(path)
        assert all(one["zh"] and one["en"] for one in said), at


def test_what_is_left_out_is_named_with_its_pointer():
    made = openapi.draft(with_wrong(("paths", "/anvils", "post", "requestBody"), 7), "my-app")
    assert "post_anvils" not in made.manifest["actions"]
    assert "list_anvils" in made.manifest["actions"]
    assert any("/paths/~1anvils/post" in note["en"] for note in made.left_out)
    made = openapi.draft(with_wrong(("components", "securitySchemes", "app"), 7), "my-app")
    assert any("/components/securitySchemes/app" in note["en"] for note in made.left_out)
    made = openapi.draft(with_wrong(("paths", "/anvils"), "x"), "my-app")
    assert any("/paths/~1anvils" in note["en"] for note in made.left_out)


def begin(tmp_path, text):
    path = tmp_path / "document.yaml"
    path.write_text(text)
    arguments = ["init", str(tmp_path / "my-app"), "--from-openapi", str(path)]
    return CliRunner().invoke(group, [*arguments, "--language", "en"])


def test_dates_sets_bytes_and_odd_keys_of_yaml_are_read(tmp_path):
    text = SMALL.replace(
        "name: {type: string, maxLength: 3, example: Big}",
        "day: {type: string, example: 2026-11-22}\n            at: {type: string, example: "
        "2026-11-22T09:30:00Z}\n            raw: {type: string, example: !!binary aGk=}\n"
        "            some: {type: array, example: !!set {a, b}}\n            "
        "name: {type: string, maxLength: 3, example: Big}\n            no: {type: number, "
        "example: .nan}",
    ).replace('"200":', "200:")
    result = begin(tmp_path, text)
    assert result.exit_code == 0, result.output
    assert result.exception is None


def test_swagger_2_is_said_to_be_that(tmp_path):
    result = begin(tmp_path, 'swagger: "2.0"\ninfo: {title: x}\npaths: {}\n')
    assert result.exit_code != 0
    assert "Swagger 2.0" in result.output
    assert "Traceback" not in result.output


def test_what_version_3_1_has_of_its_own_is_read(tmp_path):
    text = SMALL.replace("openapi: 3.0.3", "openapi: 3.1.0").replace(
        "weight: {type: number, minimum: 0, exclusiveMinimum: true}",
        "weight: {type: [number, 'null'], exclusiveMinimum: 0}\n            any: true\n"
        "            never: false\n            pair: {type: array, prefixItems: [{type: string}]}\n"
        "            fixed: {const: 7}",
    )
    result = begin(tmp_path, text + "webhooks: {made: {post: {}}}\n")
    assert result.exit_code == 0, result.output
    assert isinstance(result.exception, SystemExit | None)


def test_a_document_nested_too_deep_is_refused_in_words(tmp_path):
    deep = "{a: " * 300 + "1" + "}" * 300
    result = begin(tmp_path, SMALL + f"x-deep: {deep}\n")
    assert result.exit_code != 0
    assert isinstance(result.exception, SystemExit)
    assert result.output.strip()


def test_references_in_circles_and_crowds_cost_little():
    document = copy.deepcopy(DOCUMENT)
    made = document["components"]["schemas"]
    made["Loop"] = {"allOf": [{"$ref": "#/components/schemas/Loop"}]}
    made["A"], made["B"] = {"$ref": "#/components/schemas/B"}, {"$ref": "#/components/schemas/A"}
    made["Wide"] = {
        "type": "object",
        "properties": {f"p{n}": {"$ref": "#/components/schemas/Wide"} for n in range(60)},
    }
    anvil = made["Anvil"]["allOf"][1]["properties"]
    anvil |= {name: {"$ref": f"#/components/schemas/{name}"} for name in ("Loop", "A", "Wide")}
    started = time.process_time()
    draft = openapi.draft(document, "my-app")
    assert "list_anvils" in draft.manifest["actions"]
    assert time.process_time() - started < 20


def test_many_operations_are_counted_and_not_all_taken():
    document = copy.deepcopy(DOCUMENT)
    document["paths"] = {
        f"/things{n}": {"get": {"operationId": "same", "responses": {}}} for n in range(3_000)
    }
    made = openapi.draft(document, "my-app")
    assert len(made.manifest["actions"]) == openapi.MAX_ACTIONS
    assert "2950" in made.left_out[0]["en"]
