"""Dry runs: a flow tried on a sample event; requests are built and shown, nothing is sent."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sqlmodel import Session

from catalog import event_types
from connectors import (
    connections,
    flow_documents,
    flow_paths,
    flow_shapes,
    masking,
    pauses,
    stepping,
)
from connectors.connections import Open
from connectors.engine import requests
from connectors.engine.connector import ConnectionValues
from connectors.errors import Unfit
from connectors.flow_documents import action_of
from connectors.resting import pretend
from connectors.resting.pretend import Stage
from connectors.stepping import Call, Moving, Say
from kernel import clock, documents
from kernel.errors import NotFound
from kernel.http import Request

_BODY_SHOWN = 16 * 1024
_SHOWN = 200  # steps, those inside loops once for each item


@dataclass(frozen=True)
class Shown:
    """One step of a dry run: what went in, what would come out, the request it would send."""

    position: int
    key: str
    path: str  # "lines[0]/erp": inside a loop, of its first item
    kind: str
    title: Any
    state: str  # succeeded | skipped | failed | not_reached
    input: Any = None
    output: Any = None
    request: dict[str, Any] | None = None
    problem: dict[str, Any] | None = None


@dataclass(frozen=True)
class DryRun:
    """How a flow would run: ok, or stopped at a step for a reason."""

    ok: bool
    state: str  # succeeded | skipped | parked
    say: Say | None
    steps: list[Shown] = field(default_factory=list)


def dry_run(
    session: Session, organization_id: str, document: Any, event: Mapping[str, Any]
) -> DryRun:
    """Try a flow document on a sample event {type, data, …}; an action answers with its sample.

    Raises Unfit for a document that cannot be read.
    """
    moving = begin(organization_id, document, event)
    keys = [(organization_id, one) for one in flow_documents.connections_in(document)]
    opened = connections.open_many(session, keys) if keys else {}
    built: dict[int, dict[str, Any]] = {}
    stage = Stage(sample_of=lambda name: sample_of(name, session, organization_id))
    while moving.state == "leased":
        call = stepping.work(moving)
        if call is not None:
            _pretend(call, opened.get((organization_id, call.step.connection or "")), built)
        pauses.pretend(moving)
        pretend.act(moving, stage)
    return told(moving, built, [text for one in opened.values() for text in one.secrets])


def sample_of(name: str, session: Session | None = None, organization_id: str | None = None) -> Any:
    """Return sample data of an event type; {} when nobody has one."""
    known = event_types.lookup(session, organization_id, name)
    return known.sample if known and known.sample else {}


def begin(organization_id: str, document: Any, event: Mapping[str, Any]) -> Moving:
    """Return a run of a flow document that stands at its first step; raises Unfit."""
    findings = flow_shapes.check_shape(document)
    if findings:
        raise Unfit(findings)
    moving = Moving(
        organization_id=organization_id,
        id="run_sample",
        flow_id="flw_sample",
        event_id=str(event.get("id") or "evt_sample"),
        replay_nonce="",
        effect_nonce="",
        lease_epoch=0,
        recipe=flow_documents.recipe(document),
        activation=stepping.start_activation(_sample_event(document, event)),
    )
    moving.until = float("inf")
    return moving


def told(moving: Moving, built: Mapping[int, dict[str, Any]], secrets: list[str]) -> DryRun:
    """Return how a run went that has come to its end, with the requests it would have sent."""
    return DryRun(
        ok=moving.state in ("succeeded", "skipped"),
        state=moving.state,
        say=moving.say,
        steps=[_shown(moving, place, built, secrets) for place in _places(moving)],
    )


def _sample_event(document: Mapping[str, Any], event: Mapping[str, Any]) -> dict[str, Any]:
    trigger = document["trigger"]
    sample = {
        "id": "evt_sample",
        "type": trigger.get("event"),
        "version": trigger.get("version"),
        "subject": None,
        "time": clock.now().isoformat(),
        "source": "sample",
        "data": {},
    }
    given = event if "data" in event else {"data": dict(event)}
    return {**sample, **{name: value for name, value in given.items() if name in sample}}


def _pretend(call: Call, opened: Open | None, built: dict[int, dict[str, Any]]) -> None:
    moving = call.moving
    try:
        connector, action = action_of(call.step.connector or "", call.step.action or "")
    except NotFound:
        moving.park("config", _NO_ACTION)
        return
    if opened is None:
        moving.park("config", _NO_CONNECTION)
        return
    try:
        values = without_token(opened)
        request = requests.build(
            connector, call.step.action or "", call.input, values, call.effect_key
        )
    except requests.CannotBuild as cannot:
        moving.park(cannot.cause, cannot.say, cannot.pointer or None)
        return
    built[moving.position] = as_shown(request, opened.secrets)
    stepping.succeed(moving, call.note, action.sample.get("output"))


def without_token(opened: Open) -> ConnectionValues:
    """Return a connection's values for a request that is only shown: no token is fetched for it."""
    if opened.values.token is not None:
        return opened.values
    return replace(opened.values, token=_stand_in(opened))


def _stand_in(opened: Open) -> dict[str, str]:
    """Return something for each text that a token would bring."""
    steps = requests.token_steps(opened.connector.auth_by_id(opened.values.auth))
    names = [name for step in steps for name in step.save["object"]["save"]["object"]]
    return dict.fromkeys(["access", *names], "token")


def as_shown(request: Request, secrets: tuple[str, ...]) -> dict[str, Any]:
    """Describe a request without what proves who calls."""
    headers = {
        name: masking.HIDDEN if name.lower() in _PROOFS else value
        for name, value in request.headers.items()
    }
    body: Any = None
    if request.body:
        if len(request.body) <= _BODY_SHOWN and request.body[:1] in (b"{", b"["):
            body = documents.parse(request.body)
        else:
            body = request.body[:_BODY_SHOWN].decode(errors="replace")
    shown: dict[str, Any] = masking.keep(
        {"method": request.method, "url": request.url, "headers": headers, "body": body}, secrets
    )
    return shown


def _places(moving: Moving) -> list[int]:
    """List what to show in the order of the steps, item by item; what was not reached, too."""
    reached: dict[int, list[int]] = {}
    for position in sorted(moving.notes):
        reached.setdefault(flow_paths.step_of(position), []).append(position)
    found: list[int] = []
    for step in moving.recipe.steps:
        found += reached.get(step.position, [step.position])
    return found[:_SHOWN]


def _shown(
    moving: Moving, position: int, built: Mapping[int, dict[str, Any]], secrets: list[str]
) -> Shown:
    step = moving.recipe.step_at(position)
    note = moving.notes.get(position)
    return Shown(
        position=position,
        key=step.key,
        path=moving.recipe.path_of(position),
        kind=step.kind,
        title=step.title,
        state=note.state if note else "not_reached",
        input=masking.show(masking.keep(note.input, secrets)) if note else None,
        output=masking.show(masking.keep(note.output, secrets)) if note else None,
        request=built.get(position),
        problem=note.problem if note else None,
    )


_PROOFS = {"authorization", "x-api-key", "api-key", "x-auth-token", "cookie"}
_NO_ACTION = {"zh": "连接器里没有这个动作", "en": "The connector has no such action"}
_NO_CONNECTION = {
    "zh": "这一步还没有可用的连接",
    "en": "This step has no connection that can be used yet",
}
