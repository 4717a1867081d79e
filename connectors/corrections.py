"""Corrections: what a person changes in the input of a step that stopped, looked at beforehand."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from connectors.engine import schemas
from connectors.engine.findings import Problem
from connectors.errors import Unfit, finding
from connectors.flow_documents import Planned, action_of
from kernel.errors import NotFound

MOST = 60  # changed values that are listed
_NOTHING = object()


@dataclass(frozen=True)
class Change:
    """A value that is another one now; `kind` is added, removed or changed."""

    pointer: str
    kind: str
    before: Any = None
    after: Any = None


@dataclass(frozen=True)
class Look:
    """What a correction would change, and what the app's description says against it."""

    problems: list[Problem]
    changes: list[Change]


def problems(step: Planned, value: Any) -> list[Problem]:
    """Return what is wrong with the input of an action; nothing when its description is gone."""
    try:
        _, action = action_of(step.connector or "", step.action or "")
    except NotFound:
        return []
    return list(schemas.problems(action.input, value, "/input"))


def check(step: Planned, value: Any) -> None:
    """Refuse an input that the action's description does not allow, before the app does."""
    found = problems(step, value)
    if found:
        raise Unfit([finding(one.target, one.say["zh"], one.say["en"]) for one in found[:20]])


def changes(before: Any, after: Any) -> list[Change]:
    """Return what differs between two values, by JSON pointers, the first of many."""
    return [one for _, one in zip(range(MOST), _changes(before, after, ""), strict=False)]


def _changes(before: Any, after: Any, at: str) -> Iterator[Change]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in dict.fromkeys([*before, *after]):
            part = str(name).replace("~", "~0").replace("/", "~1")
            yield from _changes(
                before.get(name, _NOTHING), after.get(name, _NOTHING), f"{at}/{part}"
            )
    elif isinstance(before, list) and isinstance(after, list):
        for number in range(max(len(before), len(after))):
            yield from _changes(_at(before, number), _at(after, number), f"{at}/{number}")
    elif before is _NOTHING:
        yield Change(at, "added", None, after)
    elif after is _NOTHING:
        yield Change(at, "removed", before, None)
    elif before != after or isinstance(before, bool) is not isinstance(after, bool):
        yield Change(at, "changed", before, after)


def _at(items: list[Any], number: int) -> Any:
    return items[number] if number < len(items) else _NOTHING
