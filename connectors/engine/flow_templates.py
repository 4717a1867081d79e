"""Flow templates: ready-made flows as data, and their check; connectors.proofs rehearses them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from connectors.engine import check_manifest, flow_steps, loader, mapping, schemas
from connectors.engine.findings import Problem, Say
from connectors.engine.flow_rests import World
from connectors.engine.schemas import Schema
from connectors.engine.yaml_lines import read
from kernel.errors import N_, NotFound

FOLDER = loader.HERE / "flow_templates"
CALLED = "called"  # the kind of a trigger that other flows pull
_DOCUMENT = ("trigger", "steps", "on_error", "output")


@dataclass(frozen=True, slots=True)
class Trial:
    """A rehearsal on the sample event, and what it must give."""

    key: str
    change: Mapping[str, Any]  # pointers into the event and the values they get
    without: tuple[str, ...]  # pointers to what the event lacks
    answers: Mapping[str, Any]  # what actions answer instead of their samples, by step
    decision: str  # how approvals are decided: approved or refused
    ends: str  # succeeded, or skipped when a condition or a refusal ends the flow
    fails: Mapping[str, Any]  # why actions and calls fail (a cause), by step
    came: Mapping[str, Any]  # the data of the events that waits get, by step; null: none in time
    stored: Mapping[str, Any]  # what the store holds at first: collection → key → value
    inputs: Mapping[str, Any]  # every action it takes, by path (`lines[0]/erp`), with its input
    requests: Mapping[str, Any]  # of some of them also the request: method, path, json


@dataclass(frozen=True, slots=True)
class FlowTemplate:
    """A flow document with words about it, and the example that proves it."""

    key: str
    title: Say
    summary: Say
    stated: str  # what the template says of its own fields and codes: documented or unverified
    source: str | None  # who says so
    document: Mapping[str, Any]
    sample: Mapping[str, Any]
    trials: tuple["Trial", ...]  # the first one on the sample as it stands

    @property
    def confidence(self) -> str:
        """Say `unverified` when anything it uses is not yet checked with its vendor."""
        found = {self.stated, *_confidences(self.document)}
        return "unverified" if "unverified" in found else "documented"

    @property
    def connectors(self) -> tuple[str, ...]:
        """Return the keys of the connectors it joins, the trigger's first."""
        keys = [self.document["trigger"].get("connector")]
        keys += [step.get("connector") for step in flow_steps.all_steps(every(self.document))]
        return tuple(dict.fromkeys(key for key in keys if key))


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
        stated=value.get("confidence", "documented"),
        source=value.get("source"),
        document={name: value[name] for name in _DOCUMENT if name in value},
        sample=acceptance["event"],
        trials=tuple(
            _trial(one, acceptance.get("answers") or {})
            for one in ({**acceptance, "key": "sample"}, *acceptance.get("also", ()))
        ),
    )


def _trial(value: Mapping[str, Any], answers: Mapping[str, Any]) -> Trial:
    return Trial(
        key=value["key"],
        change=value.get("change") or {},
        without=tuple(value.get("without") or ()),
        answers={**answers, **(value.get("answers") or {})},
        decision=value.get("decision", "approved"),
        ends=value.get("ends", "succeeded"),
        fails=value.get("fails") or {},
        came=value.get("came") or {},
        stored=value.get("stored") or {},
        inputs=value.get("inputs") or {},
        requests=value.get("requests") or {},
    )


def _confidences(document: Mapping[str, Any]) -> Iterator[str]:
    trigger = document["trigger"]
    connector = loader.known(trigger.get("connector", ""))
    if connector is not None:
        yield connector.triggers[trigger["trigger"]].confidence
    for step in flow_steps.all_steps(every(document)):
        if step["kind"] == "action":
            yield loader.find(step["connector"]).actions[step["action"]].confidence


def every(document: Mapping[str, Any]) -> list[Any]:
    """Return the flow's own steps and those of its error path."""
    return [*document["steps"], *((document.get("on_error") or {}).get("steps") or ())]


def is_called(document: Mapping[str, Any]) -> bool:
    """Tell whether a flow starts by being called from another one."""
    return bool(document["trigger"].get("kind") == CALLED)


def event_schema(document: Mapping[str, Any]) -> Schema | None:
    """Return the schema of a flow's event: its trigger's own, else the hub's, else None."""
    trigger = document.get("trigger", {})
    if is_called(document):
        found_input: Schema = trigger.get("input") or {"type": "object"}
        return found_input
    connector = loader.known(trigger.get("connector", ""))
    found = connector.triggers.get(trigger.get("trigger", "")) if connector else None
    return check_manifest.schema_of(found) if found else None


def check_flow(
    document: Any, event_data_schema: Schema | None = None, world: World | None = None
) -> list[Problem]:
    """Return everything wrong with a flow document; targets point into the document."""
    problems = schemas.problems(_SHAPE, document)
    if problems:
        return problems
    if event_data_schema is None:
        event_data_schema = event_schema(document)
    known = flow_steps.Known(event_data_schema, world=world or World())
    caught = flow_steps.Known(event_data_schema, world=known.world)
    found = flow_steps.check_steps(document["steps"], "/steps", known)
    # whatever failed, the flow's own error path may read what went before; nobody knows how much
    caught.outputs = dict.fromkeys(known.outputs)
    found += flow_steps.check_error_path(document, caught)
    if document.get("output") is not None:
        for one in mapping.check_mapping(document["output"], known.sources()):
            found.append(Problem(f"/output{one.target}", one.say, one.source))
    return found


_SHAPE: dict[str, Any] = {
    "type": "object",
    "required": ["trigger", "steps"],
    "properties": {
        "trigger": {
            "type": "object",
            "anyOf": [{"required": ["event"]}, {"required": ["kind"]}],
            "properties": {"event": {"type": "string", "minLength": 1}, "kind": {"const": CALLED}},
        },
        "on_error": {
            "type": "object",
            "properties": {"steps": {"$ref": "#/$defs/steps"}},
        },
        "steps": {**flow_steps.STEPS, "minItems": 1},
    },
    "$defs": {"step": flow_steps.STEP, "steps": flow_steps.STEPS},
}
