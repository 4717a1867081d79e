"""Deliveries of triggers that prove with a recipe: read, checked and shown as fixtures."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from connectors.engine import schemas, triggers
from connectors.engine.connector import Connector, Trigger
from connectors.engine.findings import Finding, Problem, Say, say
from connectors.engine.schemas import Schema
from connectors.engine.triggers import Fired, Unread
from kernel import documents
from kernel import errors as kernel_errors
from webhooks import openings
from webhooks.recipes import Refused, Surroundings, options, reading
from webhooks.recipes.reading import Delivery, Given, Reply

RECIPE = openings.RECIPE


def uses_recipe(trigger: Trigger) -> bool:
    """Tell whether a trigger's deliveries are proved by a recipe."""
    return bool(trigger.verify.get("scheme") == RECIPE)


def read(
    trigger: Trigger, delivery: Delivery, given: Given, around: Surroundings
) -> tuple[list[Fired], Reply | None]:
    """Return what a delivery says and what its sender hears; raises Refused and Unread."""
    stated = trigger.verify.get("options", {})
    found = reading.read(stated, delivery, given, around)
    if found.is_handshake:
        return [], found.reply
    try:
        opened = openings.open_read(
            triggers.rules_of(trigger), found, delivery.header, delivery.body
        )
    except kernel_errors.Problem as broken:
        raise Unread(say("送来的内容无法读取", broken.plain())) from broken
    fired = [
        triggers.fired_of(trigger, envelope, found.message_id) for envelope in opened.envelopes
    ]
    return fired, found.reply


def findings(connector: Connector, manifest: Mapping[str, Any]) -> Iterator[tuple[str, Say]]:
    """Yield what is wrong with recipes, those that triggers share only once: place and words."""
    shared = "/defaults/trigger/verify/options"
    seen_shared = False
    for key, trigger in connector.triggers.items():
        if not uses_recipe(trigger):
            continue
        is_own = "verify" in manifest["triggers"][key]
        if not is_own and seen_shared:
            continue
        seen_shared |= not is_own
        place = f"/triggers/{key}/verify/options" if is_own else shared
        yield from options.check_options(trigger.verify.get("options", {}), place)


def sample_problems(trigger: Trigger, schema: Schema | None) -> list[Problem]:
    """Return what is wrong with a sample: it is the event as it stands after opening."""
    data = trigger.sample.get("body")
    return schemas.problems(schema, data, "/body") if schema is not None else []


def of_fixture(value: Mapping[str, Any]) -> Delivery:
    """Return the request that a fixture shows: method, path, query, headers and one body."""
    stated = value.get("delivery", {})
    headers = {str(name).lower(): str(one) for name, one in stated.get("headers", {}).items()}
    body = str(stated.get("text", "")).encode()
    if "json" in stated:
        body = documents.dump(stated["json"])
        headers.setdefault("content-type", "application/json")
    elif "form" in stated:
        body = urlencode(stated["form"]).encode()
        headers.setdefault("content-type", "application/x-www-form-urlencoded")
    query = urlencode({name: str(one) for name, one in stated.get("query", {}).items()})
    method, path = stated.get("method", "POST"), stated.get("path", "/in/example")
    return Delivery(method, path, query.encode(), headers, body)


def around_of(value: Mapping[str, Any]) -> Surroundings:
    """Return the moment of a fixture, and bytes that are no accident."""
    stated = value.get("moment")
    now = datetime.fromisoformat(str(stated)) if stated else datetime.fromtimestamp(0, UTC)
    return Surroundings(now, lambda count: bytes(range(count)))


def check(connector: Connector, fixture: Any, told: Any, same: Any) -> list[Finding]:
    """Compare a fixture's events, answer or refusal with what the engine makes of it."""
    trigger, value = connector.triggers[fixture.key], fixture.value
    given = Given({name: str(one) for name, one in value.get("filled", {}).items()})
    try:
        fired, reply = read(trigger, of_fixture(value), given, around_of(value))
    except Refused as refused:
        if value.get("refused") == refused.code:
            return []
        return [fixture.finding("C05", refused.say, "/refused")]
    except Unread as no:
        return [fixture.finding("C05", no.say, "/delivery")]
    if "refused" in value:
        text = say("这个样例应被拒绝，却被接受了", "This should be refused, and was taken")
        return [fixture.finding("C05", text, "/refused")]
    found: list[Finding] = []
    built = [told(one) for one in fired]
    if not same(built, value.get("events", [])):
        shown = documents.dump(built).decode("utf-8", "replace")[:800]
        text = say(f"事件应为 {shown}", f"The events should be {shown}")
        found.append(fixture.finding("C05", text, "/events"))
    answer = _shown(reply)
    if not same(answer, value.get("reply")):
        shown = documents.dump(answer).decode("utf-8", "replace")[:800]
        text = say(f"回应应为 {shown}", f"The reply should be {shown}")
        found.append(fixture.finding("C05", text, "/reply"))
    for one in fired:
        if not triggers.matches(trigger, one.type):
            text = say(
                f"{one.type} 不属于触发器 {trigger.key}",
                f"{one.type} does not belong to the trigger {trigger.key}",
            )
            found.append(fixture.finding("C05", text, "/events"))
    return found


def _shown(reply: Reply | None) -> dict[str, Any] | None:
    if reply is None:
        return None
    if reply.content_type == reading.JSON:
        return {"status": reply.status, "json": documents.parse(reply.body)}
    return {"status": reply.status, "text": reply.body.decode("utf-8", "replace")}
