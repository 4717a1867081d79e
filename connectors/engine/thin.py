"""Thin events: what an event that says little is completed with, and what comes of it.

An event is seen as {"event": {id, type, version, subject, time, data}}; what was read is `data`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from catalog import event_types
from connectors.engine import mapping, schemas, templates
from connectors.engine.connector import Connector, Trigger
from connectors.engine.declared import Fetch, ReadyMap
from connectors.engine.expressions import EvaluationError
from connectors.engine.findings import EngineError, Problem, say


@dataclass(frozen=True, slots=True)
class Made:
    """An event that was made of another one."""

    type: str
    version: int
    subject: str | None
    data: Any


class Unmade(EngineError):  # noqa: N818 - it says what happened
    """No event can be made of what came; `problems` say what is missing or does not fit."""

    def __init__(self, problems: list[Problem]) -> None:
        """Keep the problems; the sentence names the first one's place."""
        first = problems[0]
        at = first.target or "/"
        super().__init__(say(f"{at}：{first.say['zh']}", f"{at}: {first.say['en']}"))
        self.problems = problems


def emitting(connector: Connector, trigger: Trigger) -> list[ReadyMap]:
    """Return the ready mappings by which a trigger's events are told in the hub's own words."""
    return [one for one in connector.maps.values() if one.emits and one.trigger == trigger.key]


def is_completed(connector: Connector, trigger: Trigger) -> bool:
    """Tell whether further events are made of a trigger's."""
    return trigger.fetch is not None or bool(emitting(connector, trigger))


def wants(fetch: Fetch, seen: Mapping[str, Any]) -> bool:
    """Tell whether a thin event is one that is completed."""
    return fetch.when is None or _holds(fetch.when, seen)


def input_of(fetch: Fetch, seen: Mapping[str, Any]) -> Any:
    """Return the input of the action that reads the whole; raises Unmade."""
    return _mapped(fetch.given, seen)


def complete(fetch: Fetch, seen: Mapping[str, Any], output: Any) -> Made:
    """Return the complete event; raises Unmade when it does not fit its schema."""
    known = {**seen, "data": output}
    data = _mapped(fetch.data, known)
    wrong = schemas.problems(fetch.schema, data) if fetch.schema is not None else []
    if wrong:
        raise Unmade(wrong)
    subject = None if fetch.subject is None else _text(fetch.subject, known)
    return Made(fetch.event, fetch.version, subject or seen["event"].get("subject"), data)


def translate(one: ReadyMap, seen: Mapping[str, Any]) -> Made | None:
    """Return the event in the hub's words, None when the map does not hold; raises Unmade."""
    if one.when is not None and not _holds(one.when, seen):
        return None
    data = _mapped(one.rules, seen)
    known = event_types.built_in().get((one.event, one.version))
    wrong = schemas.problems(known.schema, data) if known is not None else []
    if wrong:
        raise Unmade(wrong)
    return Made(one.event, one.version, _key_of(known, data) or seen["event"].get("subject"), data)


def _key_of(known: Any, data: Any) -> str | None:
    """Return what the hub's event is about: the first part of its natural key."""
    if known is None or not known.natural_key:
        return None
    value = data
    for part in known.natural_key[0].strip("/").split("/"):
        value = value.get(part) if isinstance(value, Mapping) else None
    return str(value) if isinstance(value, str | int) else None


def _mapped(document: Any, known: Mapping[str, Any]) -> Any:
    try:
        return mapping.prepare_once(document).apply(known)
    except mapping.MappingError as lost:
        raise Unmade(lost.problems) from lost


def _holds(text: str, known: Mapping[str, Any]) -> bool:
    try:
        return templates.parse(text).evaluate(known) is True
    except EvaluationError:
        return False


def _text(text: str, known: Mapping[str, Any]) -> str | None:
    try:
        value = templates.parse(text).evaluate(known)
    except EvaluationError:
        return None
    return None if value is None else str(value)
