"""Looking before creating: an action that is asked whether another one's work was done already."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from connectors.engine import answers, drafts, keys, mapping, requests, schemas
from connectors.engine.answers import SENTENCES, Answer
from connectors.engine.auth import CannotBuild
from connectors.engine.connector import Action, ConnectionValues, Connector, Find
from kernel.http import Failure, Request, Response

_NOT_THERE: tuple[Any, ...] = (None, False, "", [], {})


def build(
    connector: Connector,
    action: Action,
    given: Any,
    connection: ConnectionValues,
    effect_key: str,
) -> Request:
    """Return the request that asks whether an action's work was done; raises CannotBuild."""
    find = _of(action)
    wrong = schemas.problems(action.input, given, "/input")
    if wrong:
        raise CannotBuild("data", wrong[0].say, wrong[0].target, wrong)
    activation = _activation(action, given, connection, effect_key)
    try:
        asked = mapping.prepare_once(find.given).apply(activation)
    except mapping.MappingError as lost:
        raise CannotBuild("data", lost.say, lost.problems[0].target, lost.problems) from lost
    request = requests.build(connector, find.action, asked, connection, effect_key)
    return replace(request, may_repeat=True)


def read(
    connector: Connector,
    action: Action,
    given: Any,
    connection: ConnectionValues,
    effect_key: str,
    outcome: Response | Failure,
    attempt_no: int = 1,
) -> Answer | None:
    """Return what is known already: None when the app has nothing, so that it has to be created.

    Found: an `ok` whose output is the action's. Anything else is the look's own trouble, and
    nothing was created.
    """
    find = _of(action)
    looked = answers.read(connector, find.action, outcome, attempt_no)
    if looked.kind != "ok":
        return looked
    activation = {
        **_activation(action, given, connection, effect_key),
        "data": looked.output,
    }
    try:
        there = mapping.prepare_once(find.then).apply(activation)
    except mapping.MappingError as lost:
        if all(problem.is_missing for problem in lost.problems):
            return None
        return Answer("fail", cause="config", say=lost.say, detail=lost.problems[0].plain())
    if any(there is one or there == one for one in _NOT_THERE):
        return None
    wrong = schemas.problems(action.output, there)
    if wrong:
        detail = f"what was found does not fit: {wrong[0].plain()}"
        return Answer("fail", cause="config", say=SENTENCES["config"], detail=detail)
    return Answer("ok", output=there, is_duplicate=True)


def key_of(action: Action, given: Any, connection: ConnectionValues, effect_key: str) -> str:
    """Return the number that stands in the request's body, or the effect key itself."""
    if action.key_field is None:
        return effect_key
    activation = {"input": given, "settings": connection.settings, "effect_key": effect_key}
    draft = drafts.blank()
    drafts.fill(draft, action.request, activation)
    return keys.put(draft, action.key_field, effect_key)


def _of(action: Action) -> Find:
    assert action.find is not None
    return action.find


def _activation(
    action: Action, given: Any, connection: ConnectionValues, effect_key: str
) -> Mapping[str, Any]:
    return {
        "input": given,
        "settings": connection.settings,
        "effect_key": key_of(action, given, connection, effect_key),
    }
