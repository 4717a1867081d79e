"""The loader: plain YAML only, frozen connectors, and messages with a line."""

import shutil
from decimal import Decimal

import pytest

from connectors.engine import loader, schemas, yaml_lines
from kernel.errors import NotFound


def test_yaml_values_are_what_they_look_like():
    read = yaml_lines.parse(
        b"a: 2.50\nb: 0012\nc: yes\nd: 2026-01-01\ne: ~\nf: 12345678901234567890\ng: 1e5\n"
    )
    assert read.value == {
        "a": Decimal("2.50"),
        "b": "0012",
        "c": "yes",
        "d": "2026-01-01",
        "e": None,
        "f": 12345678901234567890,
        "g": "1e5",
    }
    assert read.line("/d") == 4
    assert read.line("/d/deeper") == 4


@pytest.mark.parametrize(
    "raw",
    [
        b"a: &x [1]\nb: *x\n",
        b"a: &a [x]\nb: &b [*a,*a]\nc: [*b,*b]\n",
        b"a: 1\na: 2\n",
        b"a: !!python/name:os.system\n",
        b"? [a]\n: 1\n",
        b"a: [1\n",
        b"\xff\xfe",
        b"[" * 60 + b"]" * 60,
        b"a: 1\n---\nb: 2\n",
    ],
)
def test_yaml_that_hides_something_is_refused(raw):
    with pytest.raises(yaml_lines.Unreadable) as refused:
        yaml_lines.parse(raw)
    assert refused.value.say["zh"]


def test_a_file_over_the_limit_is_refused(tmp_path):
    (tmp_path / "x.yaml").write_bytes(b"a: " + b"x" * yaml_lines.MAX_FILE_BYTES)
    with pytest.raises(yaml_lines.Unreadable):
        yaml_lines.read(tmp_path / "x.yaml")


def test_the_library_is_read_once_and_cannot_be_changed():
    assert loader.library() is loader.library()
    with pytest.raises(TypeError):
        loader.library()["x"] = None
    with pytest.raises(AttributeError):
        loader.find("github").key = "x"
    with pytest.raises(NotFound):
        loader.find("no-such")


def test_the_digest_covers_names_and_bytes(tmp_path):
    copy = tmp_path / "demo-erp"
    shutil.copytree(loader.LIBRARY / "demo-erp", copy)
    assert loader.load(copy).digest == loader.find("demo-erp").digest
    before = loader.digest(copy)
    (copy / "README.md").rename(copy / "readme.md")
    renamed = loader.digest(copy)
    (copy / "readme.md").write_text("x")
    assert len({before, renamed, loader.digest(copy)}) == 3


def test_defaults_reach_every_action_and_trigger():
    github = loader.find("github")
    for action in github.actions.values():
        assert action.request.headers["X-GitHub-Api-Version"] == "2022-11-28"
    for trigger in github.triggers.values():
        assert trigger.verify == {"scheme": "github"}
    erp = loader.find("demo-erp")
    assert erp.actions["create_sales_order"].idempotency_header == "Idempotency-Key"
    assert erp.actions["get_stock"].idempotency_header is None


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "http://127.0.0.1:9/x.json"},
        {"$ref": "file:///etc/passwd"},
        {"$ref": "#"},
        {"properties": {"a": {"$dynamicRef": "https://x"}}},
        {"properties": {"a": {"$id": "https://x", "type": "string"}}},
        {"type": "nonsense"},
        {"pattern": "(?<=x)y"},
        {"pattern": "(a)\\1"},
    ],
)
def test_schemas_that_reach_out_or_run_away_are_refused(schema):
    with pytest.raises(schemas.BadSchema):
        schemas.problems(schema, {})


def test_schema_problems_speak_plainly_with_their_limits():
    schema = {
        "type": "object",
        "required": ["no"],
        "additionalProperties": False,
        "properties": {
            "no": {"type": "string", "maxLength": 3},
            "kind": {"enum": ["a", "b"]},
            "at": {"type": "string", "format": "date-time"},
            "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
        },
        "$defs": {"line": {"type": "object", "properties": {"n": {"type": "integer"}}}},
    }
    value = {"no": "1234", "kind": "c", "at": "now", "lines": [{"n": "1"}], "x": 1}
    found = {one.target: one.say for one in schemas.problems(schema, value)}
    assert "3" in found["/no"]["zh"]
    assert "a、b" in found["/kind"]["zh"]
    assert "时间" in found["/at"]["zh"]
    assert "整数" in found["/lines/0/n"]["zh"]
    assert "x" in found[""]["en"]


def test_an_empty_text_and_a_torn_one_are_called_by_their_names():
    schema = {"type": "object", "properties": {"q": {"type": "string", "minLength": 1}}}
    (found,) = schemas.problems(schema, {"q": ""})
    assert found.say["en"] == "This is still empty; please fill it in"
    named = {**schema, "additionalProperties": False}
    (found,) = schemas.problems(named, {"q": "x", "and tells when.": None})
    assert "needs quotes" in found.say["en"]
    (found,) = schemas.problems(named, {"q": "x", "extra": 1})
    assert "needs quotes" not in found.say["en"]
