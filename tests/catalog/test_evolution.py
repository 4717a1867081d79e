"""What may change in a published event type, what needs a version, and that ours keep to it."""

import copy
import json
import shutil

import jsonschema_rs
import pytest
from click.testing import CliRunner

from catalog import cli, event_types, evolution, schema_changes

TEXT = {"type": "string", "maxLength": 9}
BASE = {
    "type": "object",
    "required": ["a"],
    "properties": {
        "a": TEXT,
        "b": {"enum": ["x", "y"]},
        "c": {"type": "array", "items": {"$ref": "#/$defs/inner"}, "minItems": 1},
        "d": {"type": "string", "pattern": "^x+$"},
    },
    "$defs": {"inner": {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0}}}},
}


def edit(*path, value=None, gone=False):
    """Return BASE with one thing changed."""
    found = copy.deepcopy(BASE)
    holder = found
    for name in path[:-1]:
        holder = holder[name]
    if gone:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    return found


COMPATIBLE = [
    ("added", "/e", edit("properties", "e", value=TEXT)),
    ("optional", "/a", edit("required", value=[])),
    ("widened", "/a", edit("properties", "a", "maxLength", value=20)),
    ("widened", "/a", edit("properties", "a", "maxLength", gone=True)),
    ("widened", "/a", edit("properties", "a", "type", value=["string", "null"])),
    ("widened", "/b", edit("properties", "b", "enum", value=["x", "y", "z"])),
    ("widened", "/c", edit("properties", "c", "minItems", gone=True)),
    ("widened", "/c/*/n", edit("$defs", "inner", "properties", "n", "type", value="number")),
    ("added", "/c/*/m", edit("$defs", "inner", "properties", "m", value=TEXT)),
    ("widened", "/d", edit("properties", "d", "pattern", gone=True)),
    ("widened", "/d", edit("properties", "d", "pattern", value="^x+$|^y+$")),
]
BREAKING = [
    ("removed", "/d", edit("properties", "d", gone=True)),
    ("needed", "/d", edit("required", value=["a", "d"])),
    ("needed", "/e", {**edit("properties", "e", value=TEXT), "required": ["a", "e"]}),
    ("narrowed", "/a", edit("properties", "a", "maxLength", value=5)),
    ("narrowed", "/a", edit("properties", "a", "minLength", value=1)),
    ("kind", "/a", edit("properties", "a", "type", value="integer")),
    ("narrowed", "/b", edit("properties", "b", "enum", value=["x"])),
    ("narrowed", "/b", edit("properties", "b", "enum", value=["x", "z"])),
    ("unclear", "/d", edit("properties", "d", "pattern", value="^[xy]+$")),
    ("narrowed", "", {**BASE, "additionalProperties": False}),
    ("narrowed", "", {**BASE, "anyOf": [{"required": ["b"]}, {"required": ["d"]}]}),
    ("narrowed", "/c/*/n", edit("$defs", "inner", "properties", "n", "minimum", value=1)),
    ("narrowed", "/c", edit("properties", "c", "uniqueItems", value=True)),
]
# values that BASE accepts and that a narrower schema of the above refuses
ACCEPTED = [
    {"a": "x" * 9, "b": "x", "c": [{"n": 0}, {"n": 0}], "d": "xx"},
    {"a": "", "b": "y"},
    {"a": "1", "more": True},
]


@pytest.mark.parametrize(("what", "path", "new"), COMPATIBLE)
def test_what_only_grows_is_compatible(what, path, new):
    (change,) = schema_changes.changes(BASE, new)
    assert (change.what, change.path) == (what, path)
    assert not change.needs_version
    judge = jsonschema_rs.Draft202012Validator(new)
    assert all(judge.is_valid(value) for value in ACCEPTED)


@pytest.mark.parametrize(("what", "path", "new"), BREAKING)
def test_everything_else_needs_a_version(what, path, new):
    found = schema_changes.changes(BASE, new)
    assert (what, path) in {(change.what, change.path) for change in found}
    assert schema_changes.needs_version(found)


NARROWER = [new for what, _, new in BREAKING if what in ("narrowed", "needed")]


@pytest.mark.parametrize("new", NARROWER)
def test_what_is_called_narrower_does_refuse_what_was_good(new):
    judge = jsonschema_rs.Draft202012Validator(new)
    assert not all(judge.is_valid(value) for value in ACCEPTED)


def test_a_field_under_another_name_is_one_change():
    new = edit("properties", "d", gone=True)
    new["properties"]["dd"] = BASE["properties"]["d"]
    (change,) = schema_changes.changes(BASE, new)
    assert (change.what, change.path, change.before, change.after) == ("renamed", "/dd", "d", "dd")
    assert change.needs_version


def test_one_of_several_needed_fields_is_wider_than_one_needed_field():
    one = {"type": "object", "properties": {"a": TEXT, "b": TEXT}, "required": ["a"]}
    either = {**one, "required": [], "anyOf": [{"required": ["a"]}, {"required": ["b"]}]}
    assert not schema_changes.needs_version(schema_changes.changes(one, either))
    assert schema_changes.needs_version(schema_changes.changes(either, one))


def test_words_and_ways_of_writing_are_no_change():
    said = edit("properties", "a", value={**TEXT, "x-about": {"en": "…"}, "title": "A"})
    written_out = edit("properties", "c", "items", value=BASE["$defs"]["inner"])
    assert schema_changes.changes(BASE, said) == []
    assert schema_changes.changes(BASE, written_out) == []
    for found in event_types.built_in().values():
        assert schema_changes.changes(found.schema, found.schema) == []


# --- our own vocabulary --------------------------------------------------------------------------


def test_the_vocabulary_keeps_what_it_published():
    found = evolution.findings(evolution.read(event_types.FOLDER), evolution.recorded())
    assert [one.plain("en") for one in found] == []
    assert len(evolution.recorded()["types"]) == len(event_types.built_in())


@pytest.fixture
def folder(tmp_path):
    """A copy of the vocabulary that a test may break."""
    return shutil.copytree(event_types.FOLDER, tmp_path / "event_types")


def rewrite(folder, change, name="order.paid", version=1, to=None):
    path = folder / f"{name}.v{version}.json"
    raw = json.loads(path.read_text("utf-8"))
    change(raw)
    (folder / f"{name}.v{to or version}.json").write_text(json.dumps(raw), "utf-8")


def whats(folder):
    before = json.loads((folder / evolution.PUBLISHED).read_text("utf-8"))
    return {
        (one.what, one.name, one.version)
        for one in evolution.findings(evolution.read(folder), before)
    }


def need_note(raw):
    raw["schema"]["required"].append("note")


def test_a_broken_promise_is_found_in_the_event_itself_and_in_a_shared_shape(folder):
    rewrite(folder, need_note)
    assert whats(folder) == {("changed", "order.paid", 1)}
    shapes = json.loads((folder / "shapes.json").read_text("utf-8"))
    shapes["$defs"]["currency"]["pattern"] = "^CNY$"
    (folder / "shapes.json").write_text(json.dumps(shapes), "utf-8")
    assert ("changed", "invoice.issued", 1) in whats(folder)


def test_a_new_key_a_lost_version_and_a_gap_are_found(folder):
    rewrite(folder, lambda raw: raw.update(natural_key=["/order_no"]))
    (folder / "lead.created.v1.json").unlink()
    rewrite(folder, lambda raw: raw.update(version=3), "lead.qualified", to=3)
    assert whats(folder) == {
        ("key", "order.paid", 1),
        ("withdrawn", "lead.created", 1),
        ("new", "lead.qualified", 3),
        ("gap", "lead.qualified", 3),
    }


def test_a_version_that_breaks_nothing_is_needless(folder):
    def grow(raw):
        raw["version"] = 2
        raw["schema"]["properties"]["surplus"] = {"type": "string"}

    rewrite(folder, grow, to=2)
    assert whats(folder) == {("new", "order.paid", 2), ("needless", "order.paid", 2)}
    rewrite(folder, need_note, version=2)
    assert whats(folder) == {("new", "order.paid", 2)}


def test_every_finding_and_change_is_said_in_both_languages():
    assert evolution.CHANGE_WORDS.keys() == schema_changes.COMPATIBLE | schema_changes.BREAKING
    for words in (*evolution.SAYINGS.values(), *evolution.CHANGE_WORDS.values()):
        assert words.keys() == {"zh", "en"}
    assert evolution.SAYINGS.keys() > evolution.BREAKING
    change = schema_changes.Change("needed", "/note")
    said = evolution.Finding("changed", "order.paid", 1, change).plain("zh")
    assert said == "order.paid v1: /note 变成必填：需要新版本，请另存为 v2"


# --- the command line ----------------------------------------------------------------------------


def run(*arguments):
    return CliRunner().invoke(cli.group, [str(one) for one in arguments])


def test_check_is_content_with_the_vocabulary_and_with_what_only_grew(folder):
    found = run("check", "--language", "en")
    assert (found.exit_code, found.output) == (
        0,
        f"{len(event_types.built_in())} versions, 0 incompatible, 0 not recorded\n",
    )
    rewrite(folder, lambda raw: raw["schema"]["properties"].pop("seller_note"))
    found = run("check", "--language", "en", "--against", folder)
    assert found.exit_code == 0
    assert "order.paid v1: /seller_note is a new optional field" in found.output


def test_check_against_a_folder_that_promised_more_fails(folder):
    rewrite(folder, lambda raw: raw["schema"]["properties"].update(more={"type": "string"}))
    found = run("check", "--language", "en", "--against", folder)
    assert found.exit_code == 1
    assert "order.paid v1: /more was removed: this needs a new version" in found.output


def test_record_writes_what_grew_and_refuses_what_breaks(folder):
    rewrite(folder, lambda raw: raw["schema"]["properties"].update(more={"type": "string"}))
    assert whats(folder) == {("grown", "order.paid", 1)}
    assert run("record", "--folder", folder).exit_code == 0
    assert whats(folder) == set()
    rewrite(folder, lambda raw: raw["schema"]["properties"].pop("more"))
    found = run("record", "--folder", folder, "--language", "en")
    assert found.exit_code == 1
    assert whats(folder) == {("changed", "order.paid", 1)}


def test_compare_judges_two_schemas_of_ones_own(tmp_path):
    for name, schema in (("old", BASE), ("wider", COMPATIBLE[0][2]), ("other", BREAKING[0][2])):
        (tmp_path / f"{name}.json").write_text(json.dumps(schema), "utf-8")
    old = tmp_path / "old.json"
    wider = run("compare", old, tmp_path / "wider.json", "--language", "en")
    assert (wider.exit_code, wider.output.splitlines()[-1]) == (0, "compatible: change it in place")
    other = run("compare", old, tmp_path / "other.json", "--language", "en")
    assert other.exit_code == 1
    assert "! /d was removed" in other.output
