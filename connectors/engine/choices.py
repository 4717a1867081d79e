"""Choices: what an app lists for a drop-down, got with a reading action and read as options."""

from collections.abc import Mapping
from typing import Any

from connectors.engine import mapping, schemas, templates
from connectors.engine.connector import Connector
from connectors.engine.declared import Lookup
from connectors.engine.expressions import EvaluationError
from connectors.engine.findings import EngineError, Problem, say
from connectors.engine.functions import to_text

MAX_OPTIONS = 2_000
MAX_LABEL = 200


class Unasked(EngineError):  # noqa: N818 - it says what happened
    """The choices cannot be asked for with what was given; `problems` say what is wrong."""

    def __init__(self, problems: list[Problem]) -> None:
        """Keep the problems; the sentence is the first one's."""
        super().__init__(problems[0].say)
        self.problems = problems


def input_of(
    connector: Connector, lookup: Lookup, given: Mapping[str, Any], search: str, settings: Any
) -> Any:
    """Return the input of the action that lists the choices; raises Unasked."""
    wrong = schemas.problems(lookup.input, dict(given), "/input")
    if wrong:
        raise Unasked(wrong)
    known = {"input": given, "settings": settings, "look": {"search": search or None}}
    try:
        asked = mapping.prepare_once(lookup.given).apply(known)
    except mapping.MappingError as lost:
        raise Unasked(lost.problems) from lost
    wrong = schemas.problems(connector.actions[lookup.action].input, asked, "/input")
    if wrong:
        raise Unasked(wrong)
    return asked


def read(lookup: Lookup, output: Any) -> tuple[list[dict[str, Any]], bool]:
    """Return the options of an answer as [{value, label}], and whether there were more.

    Each value comes once; raises EngineError for an answer that is no list.
    """
    try:
        items = templates.parse(lookup.items).evaluate({"data": output})
    except EvaluationError as lost:
        raise EngineError(lost.say) from lost
    if not isinstance(items, list):
        raise EngineError(say("回应里没有可选项的列表", "The answer holds no list of choices"))
    value_of, label_of = templates.parse(lookup.value), templates.parse(lookup.label)
    found: dict[str, dict[str, Any]] = {}
    for item in items[:MAX_OPTIONS]:
        known = {"item": item}
        try:
            value = value_of.evaluate(known)
            label = to_text(label_of.evaluate(known))[:MAX_LABEL]
        except EngineError:
            continue  # one without a number or a name cannot be chosen
        if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
            found.setdefault(to_text(value), {"value": value, "label": label or to_text(value)})
    return list(found.values()), len(items) > MAX_OPTIONS


def of_field(schema: Any) -> tuple[str, Mapping[str, str]] | None:
    """Return the lookup that an input field names with `x-lookup`: its key, and which of its
    inputs come from which other fields; None for a field without.
    """
    stated = schema.get("x-lookup") if isinstance(schema, Mapping) else None
    if isinstance(stated, str):
        return stated, {}
    if isinstance(stated, Mapping) and isinstance(stated.get("key"), str):
        depends = stated.get("with")
        return stated["key"], depends if isinstance(depends, Mapping) else {}
    return None
