"""Fixtures: recorded examples that are a connector's tests, its documentation and its sandbox."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from connectors.engine import (
    deliveries,
    drafts,
    grants,
    listings,
    paging,
    reconcile,
    requests,
    triggers,
)
from connectors.engine.connector import Action, ConnectionValues, Connector, Reconcile, TokenStep
from connectors.engine.findings import EngineError, Finding, Say, say
from connectors.engine.yaml_lines import Lines, Unreadable, read
from kernel import documents
from kernel.http import Failure, Request, Response

EFFECT_KEY = "example-effect"
KINDS = ("action", "trigger", "lifecycle", "reconcile", "token")


@dataclass(frozen=True, slots=True)
class Fixture:
    """One example: of an action, a trigger, a lifecycle step or a look for missing events."""

    name: str
    kind: str
    key: str
    lines: Lines

    @property
    def value(self) -> Mapping[str, Any]:
        """Return the file's content."""
        value: Mapping[str, Any] = self.lines.value
        return value

    def finding(self, rule: str, sentence: Say, at: str = "") -> Finding:
        """Return a finding that points into this file."""
        return Finding(rule, sentence, f"fixtures/{self.name}", self.lines.line(at), at)


def load(folder: Path) -> tuple[list[Fixture], list[Finding]]:
    """Return a folder's fixtures and what is wrong with files that are none."""
    found: list[Fixture] = []
    wrong: list[Finding] = []
    # a pipe in the folder would keep whoever opens it waiting for ever
    for path in sorted(one for one in (folder / "fixtures").glob("*") if not one.is_fifo()):
        name = f"fixtures/{path.name}"
        try:
            lines = read(path)
        except Unreadable as bad:
            wrong.append(Finding("C04", bad.say, name, bad.line))
            continue
        value = lines.value if isinstance(lines.value, dict) else {}
        kinds = [kind for kind in KINDS if isinstance(value.get(kind), str)]
        if len(kinds) != 1 or path.suffix != ".yaml":
            text = say(
                "样例须是 .yaml，并写明 action、trigger、lifecycle、reconcile 或 token 之一",
                "A fixture is .yaml with one of: action, trigger, lifecycle, reconcile, token",
            )
            wrong.append(Finding("C04", text, name, 1))
            continue
        found.append(Fixture(path.name, kinds[0], value[kinds[0]], lines))
    return found, wrong


def connection_of(fixture: Fixture) -> ConnectionValues:
    """Return the connection a fixture calls with."""
    stated = fixture.value.get("connection", {})
    return ConnectionValues(
        settings=stated.get("settings", {}),
        auth=stated.get("auth"),
        fields=stated.get("fields", {}),
        token=stated.get("token"),
        moment=_moment(fixture.value.get("moment")),
        random=str(fixture.value["random"]).encode() if "random" in fixture.value else None,
    )


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def request_of(connector: Connector, fixture: Fixture) -> Request:
    """Return the request the engine builds for a fixture; raises CannotBuild."""
    value = fixture.value
    if fixture.kind == "lifecycle":
        return requests.build_lifecycle(
            connector, fixture.key, connection_of(fixture), value.get("facts", {})
        )
    if fixture.kind == "token":
        return token_request(connector, fixture)
    look = reconcile_of(connector, fixture)
    if look is not None:
        way, given = connection_of(fixture), value.get("input", {})
        if step_of(fixture) == "redeliver":
            return requests.build_redelivery(connector, look, way, given, value["look"]["id"])
        return requests.build_list(connector, look, way, given, asked_with(fixture, look))
    action = requests.action_of(connector, fixture.key)
    return requests.build(
        connector,
        fixture.key,
        value.get("input", action.sample.get("input")),
        connection_of(fixture),
        value.get("effect_key", EFFECT_KEY),
        look_of(action, fixture),
    )


def look_of(action: Action, fixture: Fixture) -> Mapping[str, Any] | None:
    """Return which page of a list a fixture shows; None for the first, and for other actions."""
    if action.pages is None or "look" not in fixture.value:
        return None
    return {**paging.begin(action.pages)["look"], **fixture.value["look"]}


def token_step(connector: Connector, fixture: Fixture) -> TokenStep:
    """Return the step to a token that a fixture shows: its number (from 1), or of a refresh."""
    way = connector.auth_by_id(fixture.key)
    steps = way.refresh if way and fixture.value.get("refresh") else requests.token_steps(way)
    number = int(fixture.value.get("step", 1))
    if not 1 <= number <= len(steps):
        text = say(f"没有第 {number} 步", f"There is no step {number}")
        raise requests.CannotBuild("config", text)
    return steps[number - 1]


def token_request(connector: Connector, fixture: Fixture) -> Request:
    """Return the request of a step to a token; raises CannotBuild."""
    values = replace(connection_of(fixture), auth=fixture.key)
    step = token_step(connector, fixture)
    request = requests.build_token(connector, values, step, fixture.value.get("kept"))
    assert request is not None
    return request


def check_token(connector: Connector, fixture: Fixture) -> list[Finding]:
    """Compare what the engine keeps of a token's answer with what is expected."""
    step = token_step(connector, fixture)
    is_refresh = bool(fixture.value.get("refresh"))
    answer = grants.read(connector, step, outcome_of(fixture), is_refresh=is_refresh)
    wanted = fixture.value.get("answer", {"kind": "ok"})
    found = {name: getattr(answer, name) for name in ("kind", "cause", "detail") if name in wanted}
    if not same(found, dict(wanted)):
        text = say(f"回应应读作 {as_json(found)}", f"The response reads as {as_json(found)}")
        return [fixture.finding("C05", text, "/answer")]
    if answer.kind == "ok" and not same(dict(answer.output.texts), fixture.value.get("token_kept")):
        kept = as_json(dict(answer.output.texts))
        text = say(f"保存的令牌应为 {kept}", f"The token that is kept should be {kept}")
        return [fixture.finding("C05", text, "/token_kept")]
    return []


def reconcile_of(connector: Connector, fixture: Fixture) -> Reconcile | None:
    """Return how the fixture's trigger looks for missing events; None when it is no such look."""
    trigger = connector.triggers.get(fixture.key) if fixture.kind == "reconcile" else None
    return trigger.reconcile if trigger else None


def asked_with(fixture: Fixture, look: Reconcile) -> Mapping[str, Any]:
    """Return what the request reads: what a fixture leaves out is null, as on a first page."""
    names = ("page", "token") if look.every else ("page",)
    return dict.fromkeys(names) | dict(fixture.value.get("look", {}))


def step_of(fixture: Fixture) -> str:
    """Return which call of a look the fixture shows: list or redeliver."""
    return str(fixture.value.get("step", "list"))


def outcome_of(fixture: Fixture) -> Response | Failure:
    """Return the recorded response, or the recorded failure."""
    failure = fixture.value.get("failure")
    if failure is not None:
        return Failure(failure["kind"], failure.get("detail", ""))
    stated = fixture.value.get("response", {})
    body = str(stated.get("body", "")).encode()
    if "json" in stated:
        body = documents.dump(stated["json"])
    headers = {name.lower(): value for name, value in stated.get("headers", {}).items()}
    return Response(stated.get("status", 200), headers, body, truncated=False, elapsed_ms=1)


def shown(request: Request) -> dict[str, Any]:
    """Return a request the way fixtures write it."""
    out: dict[str, Any] = {
        "method": request.method,
        "url": request.url,
        "headers": dict(request.headers),
    }
    if request.body:
        kind = {name.lower(): value for name, value in request.headers.items()}["content-type"]
        if kind == drafts.FORM:
            out["form"] = dict(parse_qsl(request.body.decode(), keep_blank_values=True))
        elif kind.partition(";")[0].endswith(("/json", "+json")):
            out["json"] = documents.parse(request.body)
        else:
            out["raw"] = request.body.decode("utf-8", "replace")
    return out


def check_request(connector: Connector, fixture: Fixture) -> list[Finding]:
    """Compare the request the engine builds with the one that is recorded."""
    refused = fixture.value.get("refused")
    try:
        built = shown(request_of(connector, fixture))
    except requests.CannotBuild as no:
        if refused == no.cause:
            return []
        return [fixture.finding("C04", no.say, "/input")]
    if refused is not None:
        text = say("引擎没有拒绝这个输入", "The engine does not refuse this input")
        return [fixture.finding("C04", text, "/refused")]
    wanted = fixture.value.get("request", {})
    return [
        fixture.finding(
            "C04",
            say(
                f"请求的 {part} 应为 {as_json(built.get(part))}",
                f"The request's {part} should be {as_json(built.get(part))}",
            ),
            f"/request/{part}",
        )
        for part in ("method", "url", "headers", "json", "form", "raw")
        if not same(built.get(part), wanted.get(part))
    ]


def check_look(connector: Connector, fixture: Fixture) -> list[Finding]:
    """Compare what the engine reads from a recorded list with what is expected."""
    look = reconcile_of(connector, fixture)
    assert look is not None
    if step_of(fixture) == "list":
        asked = asked_with(fixture, look)
        answer = listings.read_list(connector, look, asked, outcome_of(fixture))
    else:
        answer = listings.read_redelivery(connector, look, outcome_of(fixture))
    wanted = fixture.value.get("answer", {"kind": "ok"})
    if any(getattr(answer, name) != wanted[name] for name in ("kind", "cause") if name in wanted):
        text = say(
            f"回应应读作 {answer.kind} {answer.cause}：{answer.detail}",
            f"The response reads as {answer.kind} {answer.cause}: {answer.detail}",
        )
        return [fixture.finding("C05", text, "/answer")]
    if answer.kind != "ok" or step_of(fixture) != "list":
        return []
    try:
        page = {
            "items": [_listed(connector, fixture, look, one) for one in answer.output["items"]],
            "next": reconcile.next_page(look, answer.output),
        }
        if look.has_token:
            page["token"] = reconcile.token_of(answer.output)
    except EngineError as no:
        return [fixture.finding("C05", no.say, "/response")]
    if same(page, fixture.value.get("page")):
        return []
    text = say(f"读出的一页应为 {as_json(page)}", f"The page should be {as_json(page)}")
    return [fixture.finding("C05", text, "/page")]


def _listed(connector: Connector, fixture: Fixture, look: Reconcile, item: Any) -> Any:
    """Return an item the way fixtures write it: a delivery's facts, or the events it becomes."""
    if look.redeliver is not None:
        one = reconcile.delivery(look, item)
        facts = {"id": one.id, "message_id": one.message_id, "type": one.type}
        return {**facts, "at": one.at.isoformat(), "is_failed": one.is_failed}
    made = reconcile.rebuilt(look, item)
    fired = triggers.read(connector.triggers[fixture.key], made.headers, made.raw)
    return [told(one) for one in fired]


def told(one: triggers.Fired) -> dict[str, Any]:
    """Return an event the way fixtures write it."""
    return {
        "type": one.type,
        "dedupe_key": one.dedupe_key,
        "subject": one.subject,
        "occurred_at": one.occurred_at.isoformat() if one.occurred_at else None,
        "data": one.data,
    }


def check_delivery(connector: Connector, fixture: Fixture) -> list[Finding]:
    """Compare the events the engine reads from the recorded delivery with what is expected."""
    trigger = connector.triggers[fixture.key]
    if deliveries.uses_recipe(trigger):
        return deliveries.check(connector, fixture, told, same)
    delivery = fixture.value.get("delivery", {})
    raw = documents.dump(delivery.get("json"))
    try:
        fired = triggers.read(trigger, delivery.get("headers", {}), raw)
    except EngineError as no:
        return [fixture.finding("C05", no.say, "/delivery")]
    built = [told(one) for one in fired]
    if not same(built, fixture.value.get("events")):
        text = say(f"事件应为 {as_json(built)}", f"The events should be {as_json(built)}")
        return [fixture.finding("C05", text, "/events")]
    return [
        fixture.finding(
            "C05",
            say(
                f"{one.type} 不属于触发器 {trigger.key}",
                f"{one.type} does not belong to the trigger {trigger.key}",
            ),
            "/events",
        )
        for one in fired
        if not triggers.matches(trigger, one.type)
    ]


def same(left: Any, right: Any) -> bool:
    """Tell whether two JSON values are the same to the last digit and key order aside."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return type(left) is type(right) and str(left) == str(right)


def as_json(value: Any) -> str:
    text = documents.dump(value).decode("utf-8", "replace")
    return text if len(text) <= 600 else text[:597] + "…"
