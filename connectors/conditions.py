"""Conditions of endpoints, in the language that flows are written in."""

from collections.abc import Mapping
from typing import Any

from connectors.engine import expressions
from connectors.engine.findings import EngineError, say
from connectors.errors import Unfit
from webhooks.conditions import Language, NotComputable

_ROOTS = frozenset({"event"})
_MEMBERS = ("id", "type", "version", "source", "subject", "time", "data")


def check(text: str) -> None:
    """Refuse a condition that cannot be read, or reads what no event has; raises Unfit."""
    try:
        found = expressions.compile(_bare(text), _ROOTS)
    except EngineError as bad:
        raise Unfit([{"pointer": "/condition", "say": bad.say}]) from bad
    for path, _ in found.paths():
        if len(path.steps) > 1 and path.steps[1] not in _MEMBERS:
            known = ", ".join(f"event.{name}" for name in _MEMBERS)
            sentence = say(
                f"事件没有 {path.plain()}，可用的有：{known}",
                f"An event has no {path.plain()}; it has {known}",
            )
            raise Unfit([{"pointer": "/condition", "say": sentence}])


def holds(text: str, event: Mapping[str, Any]) -> bool:
    """Tell whether the condition is true for the event; raises NotComputable."""
    try:
        return expressions.condition(_bare(text), {"event": event}, _ROOTS)
    except EngineError as cannot:
        raise NotComputable(str(cannot)) from cannot


def _bare(text: str) -> str:
    is_wrapped = text.startswith("${") and text.endswith("}")
    return text[2:-1].strip() if is_wrapped else text


LANGUAGE = Language(check, holds)
