"""Rehearsals: a flow taken the whole way on an event, without connections; nothing is sent.

The run is the real one. Actions answer with their samples or what they are told to, delays pass at
once, and approvals are decided as one says.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

from connectors import dry_runs, pauses, stepping
from connectors.dry_runs import DryRun, sample_of
from connectors.engine import answers as answers_read
from connectors.engine import fixtures, loader, requests
from connectors.engine.connector import ConnectionValues, Connector
from connectors.engine.fixtures import Fixture
from connectors.flow_documents import action_of
from connectors.resting import pretend
from connectors.resting.pretend import Stage
from connectors.stepping import Call
from kernel.errors import NotFound

_NO_ACTION = {"zh": "连接器里没有这个动作", "en": "The connector has no such action"}


def rehearse(
    document: Mapping[str, Any],
    event: Mapping[str, Any],
    answers: Mapping[str, Any] | None = None,
    decision: str = "approved",
    stage: Stage | None = None,
) -> DryRun:
    """Return how a flow goes on an event; `answers` gives outputs of actions by their step's key.

    `decision` (approved or refused) is what approvals get, `stage` what the run finds outside.
    Raises Unfit for a document that cannot be read.
    """
    stage = stage or Stage(answers or {}, sample_of=sample_of)
    moving = dry_runs.begin("org_sample", document, event)
    built: dict[int, dict[str, Any]] = {}
    while moving.state == "leased":
        call = stepping.work(moving)
        if call is not None:
            _answer(call, answers or {}, stage, built)
        pauses.pretend(moving, decision)
        pretend.act(moving, stage)
    return dry_runs.told(moving, built, [])


def _answer(
    call: Call, answers: Mapping[str, Any], stage: Stage, built: dict[int, dict[str, Any]]
) -> None:
    moving = call.moving
    try:
        connector, action = action_of(call.step.connector or "", call.step.action or "")
    except NotFound:
        moving.park("config", _NO_ACTION)
        return
    connection = example_connection(connector, action.key)
    try:
        request = requests.build(connector, action.key, call.input, connection, call.effect_key)
    except requests.CannotBuild as cannot:
        moving.park(cannot.cause, cannot.say, cannot.pointer or None)
        return
    secrets = tuple(str(one) for one in (connection.fields or {}).values())
    built[moving.position] = dry_runs.as_shown(request, secrets)
    cause = stage.fails.get(call.step.key)
    if cause is not None:
        moving.park(cause, answers_read.SENTENCES.get(cause, answers_read.SENTENCES["down"]))
        return
    output = answers.get(call.step.key, action.sample.get("output"))
    stepping.succeed(moving, call.note, output)


def example_connection(connector: Connector, action_key: str) -> ConnectionValues:
    """Return connection values good enough to build a request that is never sent.

    They are those of the action's fixture, so that keys have the form which its signature needs.
    """
    for fixture in _fixtures(connector.key):
        if fixture.key == action_key and "connection" in fixture.value:
            return fixtures.connection_of(fixture)
    properties = connector.settings.get("properties", {})
    settings = {name: _example_setting(one) for name, one in properties.items()}
    auth = connector.auth_by_id(None)
    fields = dict.fromkeys(auth.fields, "example") if auth else {}
    return ConnectionValues(settings, auth.id if auth else None, fields, {"access": "example"})


@cache
def _fixtures(connector_key: str) -> tuple[Fixture, ...]:
    return tuple(fixtures.load(loader.find(connector_key).folder)[0])


def _example_setting(schema: Mapping[str, Any]) -> Any:
    if "default" in schema:
        return schema["default"]
    return "https://app.example.com" if schema.get("format") == "uri" else "example"
