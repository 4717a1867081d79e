"""Flow templates: ready-made flows as data, and their check; connectors.proofs rehearses them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from connectors.engine import check_manifest, flow_steps, loader, schemas
from connectors.engine.findings import Problem, Say
from connectors.engine.schemas import Schema
from connectors.engine.yaml_lines import read
from kernel.errors import N_, NotFound

FOLDER = loader.HERE / "flow_templates"


@dataclass(frozen=True, slots=True)
class Trial:
    """A rehearsal on the sample event, and what it must give."""

    key: str
    change: Mapping[str, Any]  # pointers into the event and the values they get
    without: tuple[str, ...]  # pointers to what the event lacks
    answers: Mapping[str, Any]  # what actions answer instead of their samples, by step
    decision: str  # how approvals are decided: approved or refused
    ends: str  # succeeded, or skipped when a condition or a refusal ends the flow
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
        keys += [step.get("connector") for step in flow_steps.all_steps(self.document["steps"])]
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
        document={"trigger": value["trigger"], "steps": value["steps"]},
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
        inputs=value.get("inputs") or {},
        requests=value.get("requests") or {},
    )


def _confidences(document: Mapping[str, Any]) -> Iterator[str]:
    trigger = document["trigger"]
    connector = loader.known(trigger.get("connector", ""))
    if connector is not None:
        yield connector.triggers[trigger["trigger"]].confidence
    for step in flow_steps.all_steps(document["steps"]):
        if step["kind"] == "action":
            yield loader.find(step["connector"]).actions[step["action"]].confidence


def event_schema(document: Mapping[str, Any]) -> Schema | None:
    """Return the schema of a flow's event: its trigger's own, else the hub's, else None."""
    trigger = document.get("trigger", {})
    connector = loader.known(trigger.get("connector", ""))
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
