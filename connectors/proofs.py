"""Proofs: whether a flow template does what it says, on its own sample."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from catalog import event_types
from connectors import (
    approval_links,
    approvals,
    dry_runs,
    flow_checks,
    flow_documents,
    rehearsals,
)
from connectors.dry_runs import DryRun
from connectors.engine import fixtures, flow_steps, flow_templates, schemas
from connectors.engine.findings import Problem, say
from connectors.engine.flow_rests import Called, World
from connectors.engine.flow_templates import FlowTemplate, Trial
from connectors.engine.schemas import Schema
from connectors.resting import meeting
from connectors.resting.pretend import Stage
from kernel import documents


@dataclass(frozen=True, slots=True)
class Proof:
    """What is wrong with a template; nothing when it is proved."""

    key: str
    trials: int
    problems: tuple[Problem, ...]


def prove_all() -> list[Proof]:
    """Return the proof of every template, by key."""
    return [prove(one) for one in flow_templates.all().values()]


def prove(template: FlowTemplate) -> Proof:
    """Check a template as if it was published with a connection for each app, and rehearse it."""
    problems = list(_check(template))
    for trial in template.trials:
        problems += _try(template, trial)
    return Proof(template.key, len(template.trials), tuple(problems))


def event_of(template: FlowTemplate, trial: Trial) -> dict[str, Any]:
    """Return the event of a trial: the sample with its changes."""
    event: dict[str, Any] = copy.deepcopy(dict(template.sample))
    for pointer, value in trial.change.items():
        place, last = _place(event, pointer)
        place[last] = value
    for pointer in trial.without:
        place, last = _place(event, pointer)
        del place[last]
    return event


def _place(event: Any, pointer: str) -> tuple[Any, str | int]:
    """Return what holds the value a pointer leads to, and its name or number there."""
    *way, last = pointer.lstrip("/").split("/")
    place: Any = event
    for part in way:
        place = place[int(part)] if isinstance(place, list) else place[part]
    return place, int(last) if isinstance(place, list) else last


def rehearse(template: FlowTemplate, trial: Trial) -> DryRun:
    """Return how a trial goes."""
    event = event_of(template, trial)
    stage = Stage(
        trial.answers,
        trial.came,
        copy.deepcopy(dict(trial.stored)),
        dry_runs.sample_of,
        trial.fails,
    )
    return rehearsals.rehearse(template.document, event, trial.answers, trial.decision, stage)


def event_schema(document: Mapping[str, Any]) -> Schema | None:
    """Return the schema of a flow's event: its trigger's own, else the hub's, else None."""
    own = flow_templates.event_schema(document)
    if own is not None:
        return own
    trigger = document["trigger"]
    if "event" not in trigger:
        return None
    if trigger["event"] in approvals.NEWS:
        return approval_links.SCHEMA
    known = event_types.built_in().get((trigger["event"], trigger.get("version") or 1))
    return known.schema if known else None


def world() -> World:
    """Return what templates may call, the templates that start by being called, and await."""
    called = {
        one.key: Called(
            flow_id=one.key,
            name=str(one.title.get("zh")),
            version=1,
            input=one.document["trigger"].get("input"),
            output=one.document.get("output"),
        )
        for one in flow_templates.all().values()
        if flow_templates.is_called(one.document)
    }
    return World(called, _data_of)


def _data_of(name: str) -> Schema | None:
    known = event_types.lookup(None, None, name)
    return known.schema if known else None


def _check(template: FlowTemplate) -> Iterator[Problem]:
    schema: Any = event_schema(template.document)
    keys = {key: key for key in template.connectors}
    document = flow_documents.from_template(template.document, keys)
    for found in flow_checks.check(document, schema, keys, world=world()):
        yield Problem(found["pointer"], found["say"])
    sample = template.sample
    wanted = template.document["trigger"].get("event") or "flow.called"
    if sample["type"] != wanted:
        text = say(f"样例事件不是 {wanted}", f"The sample event is no {wanted}")
        yield Problem("/acceptance/event/type", text)
    if schema is None:
        text = say(f"不认识事件 {wanted}", f"The event {wanted} is not known")
        yield Problem("/trigger/event", text)
    else:
        for trial in template.trials:
            data = event_of(template, trial)["data"]
            yield from schemas.problems(schema, data, f"/{trial.key}/event/data")


def _try(template: FlowTemplate, trial: Trial) -> Iterator[Problem]:
    run, at = rehearse(template, trial), f"/{trial.key}"
    if run.state != trial.ends:
        sentence = run.say or say("走完了", "It went to its end")
        yield Problem(f"{at}/ends", say(
            f"应为 {trial.ends}，实为 {run.state}：{sentence['zh']}",
            f"It ends {run.state}, not {trial.ends}: {sentence['en']}",
        ))  # fmt: skip
    actions = {one.path: one for one in run.steps if one.request is not None}
    others = {one.path: one for one in run.steps if one.kind in meeting.KINDS and one.input}
    for path in sorted(trial.inputs.keys() & others.keys()):
        yield from _compare(f"{at}/{path}/input", trial.inputs[path], others[path].input)
    for path in sorted({*trial.inputs, *trial.requests} - actions.keys() - others.keys()):
        yield Problem(f"{at}/{path}", say("没有做这一步", "This step was not done"))
    for path in sorted(actions.keys() - {*trial.inputs, *trial.requests}):
        yield Problem(f"{at}/{path}", say("不该做这一步", "This step was not to be done"))
    steps = {one["key"]: one for one in _actions(template)}
    for path, shown in actions.items():
        step = steps[shown.key]
        _, action = flow_documents.action_of(step["connector"], step["action"])
        yield from schemas.problems(action.input, shown.input, f"{at}/{path}/input")
        if shown.key not in trial.fails:
            yield from schemas.problems(action.output, shown.output, f"{at}/{path}/output")
        if path in trial.inputs:
            yield from _compare(f"{at}/{path}/input", trial.inputs[path], shown.input)
        if path in trial.requests:
            yield from _compare_request(f"{at}/{path}", trial.requests[path], shown.request or {})


def _actions(template: FlowTemplate) -> Iterator[Mapping[str, Any]]:
    for step in flow_steps.all_steps(template.document["steps"]):
        if step["kind"] == "action":
            yield step


def _compare_request(
    at: str, wanted: Mapping[str, Any], made: Mapping[str, Any]
) -> Iterator[Problem]:
    yield from _compare(f"{at}/method", wanted["method"], made.get("method"))
    path = urlsplit(made.get("url", "")).path
    yield from _compare(f"{at}/path", wanted["path"], path)
    yield from _compare(f"{at}/json", wanted["json"], made.get("body"))


def _compare(at: str, wanted: Any, made: Any) -> Iterator[Problem]:
    if not fixtures.same(wanted, made):
        left, right = documents.dump(wanted).decode(), documents.dump(made).decode()
        text = say(f"应为 {left}，实为 {right}", f"It is {right}, not {left}")
        yield Problem(at, text)
