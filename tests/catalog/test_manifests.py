import json

import pytest
from factories.catalog import manifest, manifest_text

from catalog import manifests, slots


def errors(text):
    return [(f.line, f.pointer) for f in manifests.check(text).errors]


def test_a_complete_manifest_passes_as_yaml_and_as_json():
    for text in (manifest_text(), json.dumps(manifest(), ensure_ascii=False)):
        checked = manifests.check(text)
        assert checked.errors == []
        assert checked.document == manifest()


def test_the_example_and_the_demo_manifests_pass():
    assert manifests.check(manifests.example()).errors == []
    for release in slots.read_data("demo_apps.yaml")["releases"]:
        assert manifests.check(json.dumps(release, ensure_ascii=False)).findings == []


def test_every_mistake_has_its_line_and_column():
    text = "\n".join(
        [
            "schema_version: 1",
            "id: My App",
            "version: 1.0",
            *manifest_text().splitlines()[3:],
        ]
    )
    found = manifests.check(text).errors
    assert [(f.line, f.pointer) for f in found] == [(2, "/id"), (3, "/version")]
    assert "text" in found[1].message  # 1.0 without quotes is a number


def test_a_missing_field_points_at_what_should_hold_it():
    text = manifest_text(support={"hours": {"zh": "全天", "en": "Always"}})
    line = next(i for i, row in enumerate(text.splitlines(), 1) if row.startswith("support:"))
    assert errors(text) == [(line, "/support/email")]


def test_json_errors_carry_places_too():
    text = json.dumps(manifest(layer="basement"), indent=1)
    line = next(i for i, row in enumerate(text.splitlines(), 1) if '"layer"' in row)
    assert errors(text) == [(line, "/layer")]


@pytest.mark.parametrize(
    ("over", "pointer"),
    [
        ({"sub_scenarios": ["marketing.dreams"]}, "/sub_scenarios/0"),
        ({"sub_scenarios": ["marketing.crm", "rnd.code"]}, "/sub_scenarios/1"),
        ({"slots": ["marketing", "rnd"]}, "/slots/1"),
        ({"plans": [dict(manifest()["plans"][0]) for _ in range(2)]}, "/plans/1/id"),
        ({"plans": [{**manifest()["plans"][0], "period": "none"}]}, "/plans/0/period"),
        ({"plans": [{**manifest()["plans"][0], "price_fen": 99.5}]}, "/plans/0/price_fen"),
        ({"scopes": [{"id": "everything", "reason": {}, "sensitivity": "low"}]}, "/scopes/0/id"),
        ({"version": "1.02.0"}, "/version"),
        ({"name": {"zh": "名" * 21, "en": "x"}}, "/name/zh"),
        ({"colour": "red"}, "/colour"),
        ({"homepage": "javascript:alert(1)"}, "/homepage"),
    ],
)
def test_what_a_schema_cannot_see_is_found_as_well(over, pointer):
    assert pointer in [found.pointer for found in manifests.check(manifest_text(**over)).errors]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- a list",
        "just words",
        "a: [1,\n b: }",
        "a: &x [1]\nb: *x",
        "a: !!python/object/apply:os.system ['true']",
        "[" * 100,
        "a: \x00",
        "{" * 5000,
        "x" * 300_000,
    ],
)
def test_what_cannot_be_read_is_said_with_a_line(text):
    checked = manifests.check(text)
    assert checked.document is None
    (finding,) = checked.errors
    assert finding.line >= 1
    assert finding.column >= 1
    assert finding.message


def test_a_name_written_twice_is_an_error_at_the_second_place():
    text = manifest_text() + "layer: cloud\n"
    assert errors(text) == [(len(text.splitlines()), "/layer")]


def test_plain_words_mean_what_json_means():
    text = manifest_text(exports=["csv"]).replace("- csv", "- no")
    assert manifests.check(text).document["exports"] == ["no"]


def test_hints_do_not_stop_a_submission():
    scopes = [{"id": "staff:read", "reason": {"zh": "名", "en": "x"}, "sensitivity": "high"}]
    checked = manifests.check(manifest_text(scopes=scopes))
    assert checked.errors == []
    assert {found.level for found in checked.findings} == {"warning"}
    assert "/scopes" in [found.pointer for found in checked.findings]
