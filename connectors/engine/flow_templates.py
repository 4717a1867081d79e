"""Flow templates: ready-made flows as data, their check, and a rehearsal that sends nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from connectors.engine import check_manifest, flow_steps, loader, mapping, requests, schemas
from connectors.engine.connector import ConnectionValues, Connector
from connectors.engine.expressions import condition
from connectors.engine.findings import EngineError, Problem, Say
from connectors.engine.fixtures import shown
from connectors.engine.schemas import Schema
from connectors.engine.yaml_lines import read
from kernel.errors import N_, NotFound

FOLDER = loader.HERE / "flow_templates"


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
        keys += [step.get("connector") for step in flow_steps.all_steps(self.document["steps"])]
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
    return flow_steps.check_steps(document["steps"], "/steps", flow_steps.Known(event_data_schema))


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


_SHAPE: dict[str, Any] = {
    "type": "object",
    "required": ["trigger", "steps"],
    "properties": {
        "trigger": {
            "type": "object",
            "required": ["event"],
            "properties": {"event": {"type": "string", "minLength": 1}},
        },
        "steps": {**flow_steps.STEPS, "minItems": 1},
    },
    "$defs": {"step": flow_steps.STEP, "steps": flow_steps.STEPS},
}
