"""The beginning of a connector: a folder that keeps every rule once its TODOs are written."""

import copy
import re
import shutil
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml

from connectors.engine import contract, fixtures, loader, requests, triggers
from connectors.engine.connector import ConnectionValues, Connector
from connectors.engine.findings import EngineError, say
from connectors.lab import openapi, vendor_signing
from kernel import documents

STARTER = Path(__file__).parent / "starter"
MAX_LINE = 100
MAX_KEY = 60
_KEY = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
MAX_INLINE = 4  # fields of an object that is written on one line
EXAMPLE_URL = "https://app.example.com"


class NotBegun(EngineError):  # noqa: N818 - it says what happened
    """The folder is there already, or its name is no key."""


def begin(folder: Path, document: Path | None = None, only: tuple[str, ...] = ()) -> openapi.Draft:
    """Write a new connector into a folder named after its key; returns what it was made from.

    Raises NotBegun, openapi.NotOpenApi, and loader.Unfit when the draft cannot be loaded.
    """
    if folder.exists():
        raise NotBegun(say(f"{folder} 已经存在", f"{folder} is there already"))
    if not _KEY.fullmatch(folder.name) or len(folder.name) > MAX_KEY:
        raise NotBegun(
            say(
                f"“{folder.name}”不能作标识：小写字母开头，只用小写字母、数字、连字符，"
                f"最多 {MAX_KEY} 个字符",
                f"“{folder.name}” is no key: take small letters, digits and hyphens, a letter "
                f"first, {MAX_KEY} characters at most",
            )
        )
    if document is None:
        draft = _starter(folder.name)
    else:
        draft = openapi.draft(openapi.read(document), folder.name, only)
    try:
        _write_texts(folder, draft)
        write_fixtures(folder, draft.answers)
        contract.write(folder, loader.load(folder))
    except (loader.Unfit, EngineError):
        shutil.rmtree(folder)  # nothing half done is left behind
        raise
    return draft


def _starter(key: str) -> openapi.Draft:
    raw = (STARTER / "manifest.yaml").read_text("utf-8").replace("KEY", key)
    manifest = yaml.safe_load(raw)
    made = openapi.Draft(manifest)
    for path in sorted((STARTER / "schemas").glob("*.json")):
        made.schemas[path.name] = documents.parse(path.read_bytes())
    return made


def _write_texts(folder: Path, draft: openapi.Draft) -> None:
    (folder / "schemas").mkdir(parents=True)
    (folder / "fixtures").mkdir()
    about = draft.manifest["connector"]
    for name in ("README.md", "icon.svg"):
        text = (STARTER / name).read_text("utf-8")
        title = about["title"]["en"]
        text = text.replace("KEY", about["key"] if name == "icon.svg" else title)
        (folder / name).write_text(text, "utf-8")
    (folder / "manifest.yaml").write_text(to_yaml(draft.manifest), "utf-8")
    for name, schema in draft.schemas.items():
        words = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
        (folder / "schemas" / name).write_bytes(documents.dump(words) + b"\n")


def write_fixtures(folder: Path, answers: Mapping[str, tuple[int, Any]]) -> list[str]:
    """Write the fixtures a folder lacks, from its samples; returns the names of the new files."""
    connector = loader.load(folder)
    made: dict[str, dict[str, Any]] = {}
    for key in connector.actions:
        made[f"{key}.ok.yaml"] = _action(connector, key, answers.get(key))
    for key in list(connector.actions)[:1]:
        if any(one.kind != "none" for one in connector.auth):
            made[f"{key}.unauthorized.yaml"] = _refused(connector, key, 401)
        made[f"{key}.rate_limited.yaml"] = _refused(connector, key, 429)
    for key, trigger in connector.triggers.items():
        if trigger.verify["scheme"] in vendor_signing.PLAIN:  # others need what only an app has
            made[f"{key}.ok.yaml"] = _trigger(connector, key)
    if "test" in connector.lifecycle:
        made["test.ok.yaml"] = _test(connector)
    (folder / "fixtures").mkdir(exist_ok=True)
    new = [name for name in made if not (folder / "fixtures" / name).exists()]
    for name in new:
        (folder / "fixtures" / name).write_text(to_yaml(made[name]), "utf-8")
    return new


def rewrite_requests(folder: Path) -> list[str]:
    """Bring the requests of fixtures up to what the engine sends; returns what was rewritten.

    For after a change that one wanted: read the difference before it is kept.
    """
    connector = loader.load(folder)
    changed: list[str] = []
    for one in fixtures.load(folder)[0]:
        if one.kind == "trigger" or "request" not in one.value:
            continue
        built = fixtures.shown(fixtures.request_of(connector, one))
        if not fixtures.same(built, one.value["request"]):
            whole = {**one.value, "request": built}
            (folder / "fixtures" / one.name).write_text(to_yaml(whole), "utf-8")
            changed.append(one.name)
    return changed


def example_connection(connector: Connector) -> dict[str, Any]:
    """Return a connection as fixtures write it, every secret of it `example`."""
    way = connector.auth_by_id(None)
    found: dict[str, Any] = {}
    properties = connector.settings.get("properties", {})
    settings = {
        name: one.get("default", EXAMPLE_URL if name in connector.settings_hosts else "example")
        for name, one in properties.items()
        if name in connector.settings.get("required", []) or "default" in one
    }
    if settings:
        found["settings"] = settings
    if way is not None:
        found["auth"] = way.id
        if way.fields:
            found["fields"] = dict.fromkeys(way.fields, "example")
        if way.token is not None:
            found["token"] = {"access": "example"}
    return found


def _values(stated: Mapping[str, Any]) -> ConnectionValues:
    return ConnectionValues(
        stated.get("settings", {}),
        stated.get("auth"),
        stated.get("fields", {}),
        stated.get("token"),
    )


def _action(connector: Connector, key: str, answer: tuple[int, Any] | None) -> dict[str, Any]:
    action, stated = connector.actions[key], example_connection(connector)
    sample = action.sample["input"]
    built = requests.build(connector, key, sample, _values(stated), "example-effect")
    status, body = answer or (200, action.sample["output"])
    response: dict[str, Any] = {"status": status}
    if body is not None:
        response["json"] = body
    return {
        "action": key,
        "title": say("正常", "It works"),
        "connection": stated,
        "effect_key": "example-effect",
        "input": sample,
        "request": fixtures.shown(built),
        "response": response,
        "output": action.sample["output"],
    }


def _refused(connector: Connector, key: str, status: int) -> dict[str, Any]:
    whole = _action(connector, key, None)
    whole.pop("output")
    if status == 401:
        whole["title"] = say("密钥不被认可", "The key is refused")
        whole["answer"] = {"kind": "reauth", "cause": "auth"}
        whole["response"] = {"status": 401, "json": {"message": "Unauthorized"}}
    else:
        whole["title"] = say("调用太频繁", "Too many calls")
        whole["answer"] = {"kind": "retry", "cause": "limit"}
        whole["response"] = {"status": 429, "headers": {"Retry-After": "30"}}
    return whole


def _trigger(connector: Connector, key: str) -> dict[str, Any]:
    trigger = connector.triggers[key]
    headers, raw = triggers.sample_delivery(connector, key)
    fired = triggers.read(trigger, headers, raw)
    return {
        "trigger": key,
        "title": say("收到一条", "One came in"),
        "delivery": {"headers": headers, "json": trigger.sample["body"]},
        "events": [fixtures.told(one) for one in fired],
    }


def _test(connector: Connector) -> dict[str, Any]:
    stated = example_connection(connector)
    built = requests.build_lifecycle(connector, "test", _values(stated), {})
    return {
        "lifecycle": "test",
        "title": say("检查连接", "Test the connection"),
        "connection": stated,
        "request": fixtures.shown(built),
        "response": {"status": 200, "json": {}},
        "output": {},
    }


_PLAIN = (str, int, bool, Decimal, type(None))


class _Dumper(yaml.SafeDumper):
    """Plain YAML: no anchors, exact decimals, lists set in."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the dumper's own signature
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002, FBT001 - the dumper's own signature
        super().increase_indent(flow, False)

    def represent_mapping(
        self,
        tag: str,
        mapping: Any,
        flow_style: bool | None = None,  # noqa: FBT001 - the dumper's own signature
    ) -> yaml.MappingNode:
        """Write a short object of plain values on one line, as people do."""
        values = list(mapping.values()) if isinstance(mapping, dict) else [[]]
        is_plain = all(isinstance(one, _PLAIN) for one in values)
        size = sum(len(str(name)) + len(str(one)) + 4 for name, one in mapping.items())
        if is_plain and 0 < len(values) <= MAX_INLINE and size <= MAX_LINE - 20:
            flow_style = True
        return super().represent_mapping(tag, mapping, flow_style)

    def represent_sequence(
        self,
        tag: str,
        sequence: Any,
        flow_style: bool | None = None,  # noqa: FBT001 - the dumper's own signature
    ) -> yaml.SequenceNode:
        """Write a short list of plain values on one line."""
        is_plain = all(isinstance(one, _PLAIN) for one in sequence)
        if is_plain and sum(len(str(one)) + 2 for one in sequence) <= MAX_LINE - 40:
            flow_style = True
        return super().represent_sequence(tag, sequence, flow_style)


def _decimal(dumper: yaml.SafeDumper, value: Decimal) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:float", format(value, "f"))


_Dumper.add_representer(Decimal, _decimal)


def to_yaml(value: Any) -> str:
    """Return a value as YAML that the loader reads back the same."""
    text: str = yaml.dump(
        copy.deepcopy(value), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=MAX_LINE
    )
    return text
