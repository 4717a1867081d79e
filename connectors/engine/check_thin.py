"""Rules about thin events and ready mappings: both ends are there, and samples go through."""

from collections.abc import Iterator, Mapping
from typing import Any

from catalog import event_types
from connectors.engine import deliveries, mapping, schemas, thin, triggers
from connectors.engine.check_manifest import schema_of
from connectors.engine.check_parts import check_template
from connectors.engine.connector import Connector, Trigger
from connectors.engine.declared import Fetch, ReadyMap
from connectors.engine.findings import EngineError, Finding, Problem, say
from connectors.engine.mapping_check import EVENT
from connectors.engine.schemas import Schema
from connectors.engine.yaml_lines import Lines

_ROOTS = frozenset({"event", "data", "item", "index"})


def findings(connector: Connector, manifest: Lines) -> list[Finding]:
    """Return every mistake in how a connector completes events and maps them."""
    return [
        Finding("C01", problem.say, "manifest.yaml", manifest.line(place + problem.target), place)
        for place, problem in _problems(connector)
    ]


def _problems(connector: Connector) -> Iterator[tuple[str, Problem]]:
    for key, trigger in connector.triggers.items():
        if trigger.fetch is not None:
            yield from _fetch(f"/triggers/{key}/fetch", connector, trigger, trigger.fetch)
    for key, one in connector.maps.items():
        if one.trigger is not None:
            yield from _told(f"/maps/{key}", connector, one)
        else:
            yield from _done(f"/maps/{key}", connector, one)


def _fetch(
    place: str, connector: Connector, trigger: Trigger, fetch: Fetch
) -> Iterator[tuple[str, Problem]]:
    if "*" in trigger.event:
        text = say(
            "fetch 只能用于有确定事件名的触发器",
            "fetch needs a trigger of one event type, not many",
        )
        yield place, Problem("", text)
    if any(fetch.event == one.event for one in connector.triggers.values()):
        text = say(
            f"{fetch.event} 已是某个触发器的事件，补全后的事件要另起名字",
            f"{fetch.event} is a trigger's own; the complete event takes another name",
        )
        yield f"{place}/event", Problem("", text)
    action = connector.actions.get(fetch.action or "")
    if action is None or action.effect != "read":
        text = say(
            f"fetch 要用一个读取动作，{fetch.action} 不是",
            f"fetch takes an action that reads; {fetch.action} is none",
        )
        yield f"{place}/action", Problem("", text)
        return
    sources = _sources(schema_of(trigger))
    for wrong in mapping.check_mapping(fetch.given, sources, action.input, _ROOTS - {"data"}):
        yield f"{place}/with", wrong
    whole = {**sources, "data": action.output}
    for wrong in mapping.check_mapping(fetch.data, whole, fetch.schema, _ROOTS):
        yield f"{place}/data", wrong
    yield from check_template(f"{place}/subject", fetch.subject, _ROOTS)
    yield from check_template(f"{place}/when", fetch.when, frozenset({"event"}))
    yield from _sampled(place, connector, trigger, fetch)


def _sources(schema: Schema | None) -> dict[str, Schema]:
    found: dict[str, Schema] = {"event": EVENT}
    return {**found, "event.data": schema} if schema is not None else found


def sample_of(connector: Connector, trigger: Trigger) -> dict[str, Any] | None:
    """Return a trigger's sample as an event; of one with `fetch` the thin one. None: unreadable."""
    if deliveries.uses_recipe(trigger):
        data: Any = trigger.sample.get("body")
        subject = None
    else:
        headers, raw = triggers.sample_delivery(connector, trigger.key)
        try:
            fired = triggers.read(trigger, headers, raw)
        except EngineError:
            return None
        if not fired:
            return None
        data, subject = fired[0].data, fired[0].subject
    event = {
        "id": "evt_sample",
        "type": trigger.event,
        "version": trigger.version,
        "subject": subject,
        "time": "2026-11-22T09:30:00+08:00",
        "source": "sample",
        "data": data,
    }
    return {"event": event}


def _sampled(
    place: str, connector: Connector, trigger: Trigger, fetch: Fetch
) -> Iterator[tuple[str, Problem]]:
    """The trigger's sample and what the action answers in its own must give a complete event."""
    seen = sample_of(connector, trigger)
    if seen is None:
        return
    action = connector.actions[fetch.action or ""]
    try:
        if not thin.wants(fetch, seen):
            text = say("触发器的样例不符合 when", "The trigger's sample does not meet `when`")
            yield f"{place}/when", Problem("", text)
        wrong = schemas.problems(action.input, thin.input_of(fetch, seen), "")
        yield from ((f"{place}/with", one) for one in wrong)
        thin.complete(fetch, seen, action.sample["output"])
    except EngineError as lost:
        yield f"{place}/data", Problem("", lost.say)


def _told(place: str, connector: Connector, one: ReadyMap) -> Iterator[tuple[str, Problem]]:
    """A map from a trigger's data to one of the hub's events."""
    trigger, known = connector.triggers.get(one.trigger or ""), _known(one)
    if trigger is None:
        text = say(f"没有触发器 {one.trigger}", f"There is no trigger {one.trigger}")
        yield f"{place}/from", Problem("", text)
        return
    if known is None:
        yield f"{place}/to", Problem("", _unknown(one))
        return
    if one.emits and "*" in trigger.event:
        text = say(
            "只有确定事件名的触发器能同时发出标准事件；请写 emit: none",
            "Only a trigger of one event type can tell it in the hub's words; say emit: none",
        )
        yield f"{place}/from", Problem("", text)
    schema = trigger.fetch.schema if trigger.fetch is not None else schema_of(trigger)
    roots = _ROOTS - {"data"}
    for wrong in mapping.check_mapping(one.rules, _sources(schema), known.schema, roots):
        yield f"{place}/rules", wrong
    yield from check_template(f"{place}/when", one.when, frozenset({"event"}))
    seen = sample_of(connector, trigger)
    if seen is None:
        return
    try:
        read = connector.actions.get(trigger.fetch.action or "") if trigger.fetch else None
        if trigger.fetch is not None and read is not None:
            whole = thin.complete(trigger.fetch, seen, read.sample["output"])
            seen = {"event": {**seen["event"], "type": whole.type, "data": whole.data}}
        thin.translate(one, seen)
    except EngineError as lost:
        yield f"{place}/rules", Problem("", lost.say)


def _done(place: str, connector: Connector, one: ReadyMap) -> Iterator[tuple[str, Problem]]:
    """A map from one of the hub's events to what an action takes."""
    action, known = connector.actions.get(one.action or ""), _known(one)
    if action is None:
        text = say(f"没有动作 {one.action}", f"There is no action {one.action}")
        yield f"{place}/to", Problem("", text)
        return
    if known is None:
        yield f"{place}/from", Problem("", _unknown(one))
        return
    sources = _sources(known.schema)
    for wrong in mapping.check_mapping(one.rules, sources, action.input, _ROOTS - {"data"}):
        yield f"{place}/rules", wrong
    seen = canonical_sample(one)
    try:
        value = mapping.prepare_once(one.rules).apply(seen)
    except mapping.MappingError as lost:
        yield f"{place}/rules", Problem(lost.problems[0].target, lost.say)
        return
    for wrong in schemas.problems(action.input, value):
        yield f"{place}/rules", wrong


def canonical_sample(one: ReadyMap) -> Mapping[str, Any]:
    """Return the hub's own sample of the event that a map reads."""
    known = _known(one)
    data = known.sample if known is not None else {}
    return {
        "event": {
            "id": "evt_sample",
            "type": one.event,
            "version": one.version,
            "subject": None,
            "time": "2026-11-22T09:30:00+08:00",
            "source": "sample",
            "data": data,
        }
    }


def _known(one: ReadyMap) -> event_types.EventType | None:
    return event_types.built_in().get((one.event, one.version))


def _unknown(one: ReadyMap) -> dict[str, str]:
    return say(
        f"{one.event} 第 {one.version} 版不是平台的标准事件",
        f"{one.event} version {one.version} is no event type of the hub",
    )
