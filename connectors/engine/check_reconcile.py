"""Rules about a trigger's `reconcile`: what it asks with, and that it names events as hooks do."""

from collections.abc import Iterator, Mapping
from typing import Any

from connectors.engine import mapping, reconcile
from connectors.engine.check_manifest import (
    ANSWER,
    check_envelope,
    check_request,
    check_rules,
)
from connectors.engine.connector import Connector, Reconcile, Trigger
from connectors.engine.findings import Finding, Problem, say
from connectors.engine.schemas import Schema
from connectors.engine.yaml_lines import Lines
from kernel import documents

_TEXT = {"type": "string"}
_LIST: Schema = {"type": "object", "properties": {"since": _TEXT, "page": _TEXT}}
_POLL: Schema = {
    "type": "object",
    "properties": {"since": _TEXT, "until": _TEXT, "page": _TEXT, "token": _TEXT},
}
_AGAIN: Schema = {"type": "object", "properties": {"id": _TEXT}}


def findings(connector: Connector, manifest: Lines) -> list[Finding]:
    """Return every mistake in how missing events are looked for; what triggers share only once."""
    found: list[Finding] = []
    is_shared_done = False
    for key, trigger in connector.triggers.items():
        if trigger.reconcile is None:
            continue
        stated = manifest.value["triggers"][key]
        place = f"/triggers/{key}/{'poll' if 'poll' in stated else 'reconcile'}"
        if not {"poll", "reconcile"} & stated.keys():
            place = "/defaults/trigger/reconcile"
            if is_shared_done:
                continue
            is_shared_done = True
        for at, problem in _problems(place, connector, trigger, trigger.reconcile):
            line = manifest.line(at + problem.target)
            found.append(Finding("C01", problem.say, "manifest.yaml", line, at + problem.target))
    return found


def _problems(
    place: str, connector: Connector, trigger: Trigger, one: Reconcile
) -> Iterator[tuple[str, Problem]]:
    sources = {"settings": connector.settings, "input": one.input}
    looking = {**sources, "look": _POLL if one.every else _LIST}
    yield from check_request(f"{place}/list/request", one.request, looking, connector)
    for wrong in mapping.check_mapping(one.page, None, None, ANSWER | {"look"}):
        yield f"{place}/list", wrong
    part, target = ("delivery", reconcile.DELIVERY) if one.redeliver else ("event", None)
    for wrong in mapping.check_mapping(one.item, None, target, frozenset({"item", "index"})):
        yield f"{place}/{part}", wrong
    yield from check_envelope(f"{place}/envelope", one.envelope)
    yield from check_rules(f"{place}/errors", one.errors)
    if one.redeliver is not None:
        again = {**sources, "look": _AGAIN}
        yield from check_request(f"{place}/redeliver/request", one.redeliver, again, connector)
    yield from _paging(place, one)
    yield from _dedupe(place, trigger, one)


def _paging(place: str, one: Reconcile) -> Iterator[tuple[str, Problem]]:
    """Every page must be asked for by its name, and objects only since a time."""
    asked = str(one.request.path) + documents.dump(one.request.query).decode()
    asked += documents.dump(one.request.json).decode()
    asked += documents.dump(one.request.form).decode()
    if "next" in one.page["object"] and "look.page" not in asked:
        text = say(
            "写了 next，请求里就要用 ${look.page} 取下一页",
            "With next, the request must ask for the page ${look.page}",
        )
        yield f"{place}/list/next", Problem("", text)
    begins = "look.token" if one.has_token else "look.since"
    if one.kind == "objects" and begins not in asked:
        text = say(
            f"请求里要用 ${{{begins}}} 只列出上次之后的变化",
            f"The request must ask with ${{{begins}}} for what changed since then",
        )
        yield f"{place}/list/request", Problem("", text)
    every = one.every
    if every and every.window_seconds and every.window_seconds <= 2 * every.overlap_seconds:
        text = say(
            "window_seconds 要大于 overlap_seconds 的两倍，否则永远赶不上",
            "window_seconds must be over twice overlap_seconds, or it never catches up",
        )
        yield f"{place}/window_seconds", Problem("", text)
    if every and every.window_seconds and "look.until" not in asked:
        text = say(
            "写了 window_seconds，请求里就要用 ${look.until}",
            "With window_seconds, the request must ask with ${look.until}",
        )
        yield f"{place}/list/request", Problem("", text)


def _dedupe(place: str, trigger: Trigger, one: Reconcile) -> Iterator[tuple[str, Problem]]:
    """What was fetched must carry the id that the webhook would have carried."""
    header = str(trigger.dedupe.get("header", "")).lower()
    if one.kind == "deliveries" and not header:
        text = say(
            "deliveries 要求触发器用 dedupe.header 区分消息",
            "With deliveries, the trigger must tell messages apart by dedupe.header",
        )
        yield f"{place}/kind", Problem("", text)
    if one.kind == "objects" and header and header not in _headers(one.item):
        text = say(
            f"event.headers 里缺少 {header}，补回的事件会与回调重复",
            f"event.headers lacks {header}, so that what is fetched would double the webhook",
        )
        yield f"{place}/event", Problem("", text)


def _headers(item: Any) -> set[str]:
    stated: Mapping[str, Any] = item["object"].get("headers", {})
    return {name.lower() for name in stated}
