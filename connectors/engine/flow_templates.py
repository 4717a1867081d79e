"""Flow templates: ready-made flows as data, their check, and a rehearsal that sends nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from connectors.engine import check_manifest, loader, mapping, requests, schemas
from connectors.engine.connector import ConnectionValues, Connector
from connectors.engine.expressions import BadExpression, compile_expression, condition
from connectors.engine.findings import EngineError, Problem, Say, say
from connectors.engine.fixtures import shown
from connectors.engine.mapping_check import check_condition
from connectors.engine.schemas import Schema
from connectors.engine.yaml_lines import read
from kernel.errors import N_, NotFound

FOLDER = loader.HERE / "flow_templates"
KINDS = {"filter": {"when"}, "map": {"mapping"}, "action": {"connector", "action", "input"}}
MAX_STEPS = 50
_KEY = r"^[a-z][a-z0-9_]{0,40}$"


@dataclass(frozen=True, slots=True)
class FlowTemplate:
    """A flow document with words about it, and the example that proves it."""

    key: str
    title: Say
    summary: Say
    document: Mapping[str, Any]
    sample: Mapping[str, Any]
    expected: Mapping[str, Any]

    @property
    def connectors(self) -> tuple[str, ...]:
        """Return the keys of the connectors it joins, the trigger's first."""
        keys = [self.document["trigger"].get("connector")]
        keys += [step.get("connector") for step in self.document["steps"]]
        return tuple(dict.fromkeys(key for key in keys if key))


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What one step would do: ran, filtered (the flow ends here) or failed."""

    key: str
    kind: str
    state: str
    input: Any = None
    output: Any = None
    request: Mapping[str, Any] | None = None
    say: Say | None = None


@cache
def all() -> Mapping[str, FlowTemplate]:  # noqa: A001 - read as flow_templates.all()
    """Return every template by key."""
    return MappingProxyType({path.stem: load(path) for path in sorted(FOLDER.glob("*.yaml"))})


def find(key: str) -> FlowTemplate:
    """Return one template; raises NotFound."""
    template = all().get(key)
    if template is None:
        raise NotFound(detail=N_("There is no flow template %(key)s"), key=key)
    return template


def load(path: Path) -> FlowTemplate:
    """Read one template file."""
    value = read(path).value
    acceptance = value["acceptance"]
    return FlowTemplate(
        key=value["key"],
        title=value["title"],
        summary=value["summary"],
        document={"trigger": value["trigger"], "steps": value["steps"]},
        sample=acceptance["event"],
        expected=acceptance["requests"],
    )


def event_schema(document: Mapping[str, Any]) -> Schema | None:
    """Return the schema of a flow's event: its trigger's own, else the hub's, else None."""
    trigger = document.get("trigger", {})
    connector = loader.library().get(trigger.get("connector", ""))
    found = connector.triggers.get(trigger.get("trigger", "")) if connector else None
    return check_manifest.schema_of(found) if found else None


def check_flow(document: Any, event_data_schema: Schema | None = None) -> list[Problem]:
    """Return everything wrong with a flow document; targets point into the document."""
    problems = schemas.problems(_SHAPE, document)
    if problems:
        return problems
    if event_data_schema is None:
        event_data_schema = event_schema(document)
    outputs: dict[str, Schema | None] = {}
    for position, step in enumerate(document["steps"]):
        at = f"/steps/{position}"
        if step["key"] in outputs:
            text = say(f"步骤名 {step['key']} 重复", f"The step key {step['key']} is used twice")
            problems.append(Problem(f"{at}/key", text))
        sources = mapping.source_schema(event_data_schema, outputs)
        outputs[step["key"]] = None
        found, output = _check_step(step, sources)
        problems += [Problem(at + one.target, one.say, one.source) for one in found]
        outputs[step["key"]] = output
    return problems


def _check_step(step: Mapping[str, Any], sources: Any) -> tuple[list[Problem], Schema | None]:
    if step["kind"] == "filter":
        return _check_filter(step["when"], sources), None
    if step["kind"] == "map":
        found = mapping.check_mapping(step["mapping"], sources)
        return [Problem("/mapping" + one.target, one.say, one.source) for one in found], None
    connector = loader.library().get(step["connector"])
    action = connector.actions.get(step["action"]) if connector else None
    if action is None:
        name = f"{step['connector']}.{step['action']}"
        text = say("请选择这一步做什么", "Choose what this step does")
        if step["action"]:
            text = say(f"没有动作 {name}", f"There is no action {name}")
        return [Problem("/action", text)], None
    found = mapping.check_mapping(step["input"], sources, action.input)
    return [Problem("/input" + one.target, one.say, one.source) for one in found], action.output


def _check_filter(when: Any, sources: Any) -> list[Problem]:
    if isinstance(when, bool):
        return []
    text = when.strip()
    if text.startswith("${") and text.endswith("}"):
        text = text[2:-1].strip()
    try:
        return check_condition(compile_expression(text), sources, "/when")
    except BadExpression as bad:
        return [Problem("/when", bad.say, text)]


def rehearse(
    document: Mapping[str, Any],
    event: Mapping[str, Any],
    connections: Mapping[str, ConnectionValues] | None = None,
) -> list[Rehearsed]:
    """Run a flow on an event without sending anything: actions answer with their samples."""
    steps: dict[str, Any] = {}
    done: list[Rehearsed] = []
    for step in document["steps"]:
        try:
            one = _rehearse(step, {"event": event, "steps": steps}, connections or {})
        except EngineError as no:
            one = Rehearsed(step["key"], step["kind"], "failed", say=no.say)
        done.append(one)
        if one.state != "ran":
            break
        steps[step["key"]] = {"input": one.input, "output": one.output}
    return done


def _rehearse(
    step: Mapping[str, Any],
    activation: Mapping[str, Any],
    connections: Mapping[str, ConnectionValues],
) -> Rehearsed:
    key, kind = step["key"], step["kind"]
    if kind == "filter":
        passes = condition(step["when"], activation)
        return Rehearsed(key, kind, "ran" if passes else "filtered", output=passes)
    if kind == "map":
        return Rehearsed(key, kind, "ran", output=mapping.apply(step["mapping"], activation))
    connector = loader.find(step["connector"])
    action = requests.action_of(connector, step["action"])
    values = mapping.apply(step["input"], activation)
    connection = connections.get(connector.key) or example_connection(connector)
    built = requests.build(connector, action.key, values, connection, f"rehearsal-{key}")
    request = shown(built)
    for name in request["headers"]:
        if name.lower() in ("authorization", "x-api-key"):
            request["headers"][name] = "•••"
    return Rehearsed(key, kind, "ran", values, action.sample["output"], request)


def example_connection(connector: Connector) -> ConnectionValues:
    """Return connection values good enough to build a request that is never sent."""
    properties = connector.settings.get("properties", {})
    settings = {
        name: one.get("default", "https://app.example.com" if name == "base_url" else None)
        for name, one in properties.items()
    }
    auth = connector.auth_by_id(None)
    fields = dict.fromkeys(auth.fields, "example") if auth else {}
    return ConnectionValues(settings, auth.id if auth else None, fields, {"access": "example"})


_STEP: dict[str, Any] = {
    "type": "object",
    "required": ["key", "kind"],
    "properties": {
        "key": {"type": "string", "pattern": _KEY},
        "kind": {"enum": sorted(KINDS)},
        "title": {},
        "when": {"type": ["string", "boolean"]},
        "connector": {"type": "string"},
        "action": {"type": "string"},
    },
    "allOf": [
        {
            "if": {"properties": {"kind": {"const": kind}}},
            "then": {"required": sorted(needed)},
        }
        for kind, needed in KINDS.items()
    ],
}
_SHAPE: dict[str, Any] = {
    "type": "object",
    "required": ["trigger", "steps"],
    "properties": {
        "trigger": {
            "type": "object",
            "required": ["event"],
            "properties": {"event": {"type": "string", "minLength": 1}},
        },
        "steps": {"type": "array", "minItems": 1, "maxItems": MAX_STEPS, "items": _STEP},
    },
}
