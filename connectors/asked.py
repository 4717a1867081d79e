"""Asking an app at once: one reading action to its end, by whoever waits for the answer."""

import time
from collections.abc import Mapping
from typing import Any

from connectors import masking, tokens
from connectors.connections import Open
from connectors.engine import answers, parts, requests
from connectors.engine.answers import Answer
from connectors.engine.findings import say
from connectors.transports import sending
from kernel import ids

MOST_SECONDS = 20.0  # for a list that is read page by page

TOO_MUCH = say(
    "列表太长，一次读不完；请缩小查询范围",
    "The list is too long to be read at once; ask for less",
)
UNUSABLE = say(
    "连接不可用，请先重新连接", "The connection cannot be used; please connect again first"
)


def ask(opened: Open, action_key: str, given: Any) -> Answer:
    """Carry a reading action out and return what came; call it outside of transactions.

    A token that the app refuses is renewed once. Nothing is raised for what the app answers.
    """
    if not opened.is_usable:
        return Answer("fail", cause="auth", say=UNUSABLE)
    ready = tokens.ensure(opened)
    if isinstance(ready, tokens.NoToken):
        return ready.answer
    try:
        answer = send(ready, action_key, given)
        if answer.kind == "reauth" and tokens.has_token(ready):
            renewed = tokens.ensure(ready, stale=True)
            if isinstance(renewed, tokens.NoToken):
                return renewed.answer
            answer = send(renewed, action_key, given)
    except requests.CannotBuild as cannot:
        return Answer("fail", cause=cannot.cause, say=cannot.say, detail=cannot.pointer)
    return answer


def send(ready: Open, action_key: str, given: Any) -> Answer:
    """Send an action's requests and return what they came to; raises CannotBuild."""
    connector = ready.connector
    key, action = ids.new_id("eff"), connector.actions[action_key]
    if not action.is_in_parts:
        request = requests.build(connector, action_key, given, ready.values, key)
        return answers.read(connector, action_key, sending.send(request))
    progress, until = parts.begin(action, given, key), time.monotonic() + MOST_SECONDS
    while True:
        look = parts.look(action, given, progress)
        request = requests.build(connector, action_key, given, ready.values, key, look)
        answer, progress = parts.take(connector, action, given, progress, sending.send(request))
        if answer.kind != parts.MORE:
            return answer
        if time.monotonic() > until:
            return Answer("fail", cause="data", say=TOO_MUCH)


def problem_of(opened: Open, answer: Answer) -> Mapping[str, Any]:
    """Return what went wrong as it may be kept: {cause, say, detail}, without secrets."""
    cause = "auth" if answer.kind == "reauth" else (answer.cause or "unknown")
    said = {"say": dict(answer.say or {}), "detail": answer.detail or None}
    kept: Mapping[str, Any] = {"cause": cause, **masking.keep(said, opened.secrets)}
    return kept
