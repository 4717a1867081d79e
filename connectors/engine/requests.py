"""Requests: an action and its input become one prepared HTTP request; nothing is sent here."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from connectors.engine import (
    auth,
    batches,
    keys,
    paging,
    schemas,
    signing,
    signing_in,
    templates,
    urls,
)
from connectors.engine.auth import CannotBuild
from connectors.engine.connector import (
    Action,
    Auth,
    ConnectionValues,
    Connector,
    KeyField,
    Reconcile,
    RequestTemplate,
    TokenStep,
)
from connectors.engine.drafts import Draft, fill, pairs
from connectors.engine.findings import EngineError, Problem, say
from connectors.engine.functions import EvaluationError
from kernel.http import Request

__all__ = [
    "CannotBuild",
    "action_of",
    "build",
    "build_hook",
    "build_lifecycle",
    "build_list",
    "build_redelivery",
    "build_token",
]

METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE"}
TOKEN_SECONDS = 15
# printable ASCII only: no line breaks that would start another header, no surprises on the wire
_HEADER_VALUE = re.compile(r"[\x20-\x7e]*")


def action_of(connector: Connector, action_key: str) -> Action:
    """Return one action; raises CannotBuild when the connector has none of that name."""
    action = connector.actions.get(action_key)
    if action is None:
        raise CannotBuild(
            "config",
            say(
                f"{connector.title['zh']}没有动作 {action_key}",
                f"{connector.title['en']} has no action {action_key}",
            ),
        )
    return action


def build(
    connector: Connector,
    action_key: str,
    input: Any,  # noqa: A002 - the word of the manifest
    connection: ConnectionValues,
    effect_key: str,
    look: Mapping[str, Any] | None = None,
) -> Request:
    """Return the request of an action; raises CannotBuild with cause data, auth or config.

    `look` is what an action in parts reads besides, as connectors.engine.parts gives it; without
    it the request is the first of them.
    """
    action = action_of(connector, action_key)
    wrong = schemas.problems(action.input, input, "/input")
    if wrong:
        raise CannotBuild("data", _first(wrong), wrong[0].target, wrong)
    activation = {"input": input, "settings": connection.settings, "effect_key": effect_key}
    if action.is_in_parts:
        activation["look"] = look or _first_look(action, input, effect_key)
    extra = {action.idempotency_header: effect_key} if action.idempotency_header else {}
    key = (action.key_field, effect_key) if action.key_field else None
    request = _request(connector, action.request, connection, activation, extra, key)
    return replace(request, may_repeat=action.may_repeat)


def _first_look(action: Action, given: Any, effect_key: str) -> Mapping[str, Any]:
    if action.batch is None:
        assert action.pages is not None
        found: Mapping[str, Any] = paging.begin(action.pages)["look"]
        return found
    try:
        progress = batches.begin(action.batch, given, effect_key, None)
    except EngineError as lost:
        raise CannotBuild("data", lost.say, f"/input/{action.batch.over}") from lost
    return batches.look(action.batch, given, progress)


def build_lifecycle(
    connector: Connector, step: str, connection: ConnectionValues, facts: Mapping[str, Any]
) -> Request:
    """Return the request of an install, subscribe, unsubscribe, uninstall or test step."""
    found = connector.lifecycle.get(step)
    if found is None:
        raise CannotBuild(
            "config", say(f"连接器没有 {step} 步骤", f"The connector has no step {step}")
        )
    effect_key = facts.get("effect_key")
    activation = {"effect_key": "", **facts, "settings": connection.settings}
    extra = {"Idempotency-Key": str(effect_key)} if effect_key else {}
    return _request(connector, found.request, connection, activation, extra)


def build_list(
    connector: Connector,
    reconcile: Reconcile,
    connection: ConnectionValues,
    input: Any,  # noqa: A002 - the word of the manifest
    look: Mapping[str, Any],
) -> Request:
    """Return the request for a page of what an app lists; `look` is {since, page}."""
    activation = {"input": input, "settings": connection.settings, "look": look}
    request = _request(connector, reconcile.request, connection, activation, {})
    return replace(request, may_repeat=True)


def build_redelivery(
    connector: Connector,
    reconcile: Reconcile,
    connection: ConnectionValues,
    input: Any,  # noqa: A002 - the word of the manifest
    delivery_id: Any,
) -> Request:
    """Return the request that asks an app to send one of its deliveries again."""
    if reconcile.redeliver is None:
        text = say("这个应用不能重发", "This app cannot send anything again")
        raise CannotBuild("config", text)
    look = {"id": delivery_id}
    activation = {"input": input, "settings": connection.settings, "look": look}
    return _request(connector, reconcile.redeliver, connection, activation, {})


def build_hook(
    connector: Connector,
    template: RequestTemplate,
    connection: ConnectionValues,
    input: Any,  # noqa: A002 - the word of the manifest
    hook: Mapping[str, Any],
) -> Request:
    """Return a request about a webhook that the hub orders; `hook` is {url, secret, id, …}."""
    activation = {"input": input, "settings": connection.settings, "hook": hook}
    request = _request(connector, template, connection, activation, {})
    return replace(request, may_repeat=template.method == "GET")


def build_token(
    connector: Connector,
    connection: ConnectionValues,
    step: TokenStep | None = None,
    kept: Mapping[str, Any] | None = None,
) -> Request | None:
    """Return the request of one step to a token (default: the first), None when there is none.

    `kept` is what earlier steps saved, or what a person's consent brought.
    """
    way = auth.chosen(connector, connection, None)
    steps = token_steps(way)
    if way is None or not steps:
        return None
    step = step or steps[0]
    auth.check_fields(way, connection)
    values = replace(connection, token=dict(kept or {}))
    activation = {
        "field": connection.fields,
        "settings": connection.settings,
        "token": values.token,
    }
    draft = _draft(connector, step.request, values, activation)
    if step.client_auth == "body":
        names = ("client_id", "client_secret")
        draft.put("form", {name: connection.fields.get(name, "") for name in names})
    elif step.client_auth == "basic":
        proof = auth.basic(connection.fields, "client_id", "client_secret")
        draft.headers["Authorization"] = proof
    if step.sign is not None:
        signing.sign(draft, step.sign, values)
    request = _written(connector, draft, {})
    return replace(request, may_repeat=False, timeout_seconds=TOKEN_SECONDS)


def token_steps(way: Auth | None) -> tuple[TokenStep, ...]:
    """Return the requests in which a token is had; none for ways that work without one."""
    if way is None:
        return ()
    if way.token is not None and not way.steps:
        return signing_in.client_steps(way.token)
    return way.steps


def build_identity(connector: Connector, connection: ConnectionValues) -> Request | None:
    """Return the request that asks whose account was connected, None when there is none."""
    way = auth.chosen(connector, connection, None)
    if way is None or way.identity is None or way.identity.request is None:
        return None
    activation = {"settings": connection.settings}
    return _request(connector, way.identity.request, connection, activation, {})


def _first(wrong: list[Problem]) -> dict[str, str]:
    at = wrong[0].target.removeprefix("/input") or "/"
    return say(f"{at}：{wrong[0].say['zh']}", f"{at}: {wrong[0].say['en']}")


def _request(
    connector: Connector,
    template: RequestTemplate,
    connection: ConnectionValues,
    activation: Mapping[str, Any],
    extra: Mapping[str, str],
    key: tuple[KeyField, str] | None = None,
) -> Request:
    draft = _draft(connector, template, connection, activation)
    if key is not None:
        keys.put(draft, *key)
    way = auth.chosen(connector, connection, template.auth)
    for part, values in auth.proof(way, connection, template.base).items():
        if part == "header":
            extra = {**extra, **values}  # last, so that nothing a template says replaces it
        else:
            draft.put(part, values)
    if way is not None and way.sign is not None:
        draft.put("header", extra)
        extra = {}
        signing.sign(draft, way.sign, connection)
    return _written(connector, draft, extra)


def _draft(
    connector: Connector,
    template: RequestTemplate,
    connection: ConnectionValues,
    activation: Mapping[str, Any],
) -> Draft:
    text = template.url or urls.base_text(connector, template.base)
    spoken = urls.HTTP if template.url else urls.transport_of(connector, template.base)
    draft = Draft(
        method=_method(template.method, activation),
        base=urls.base_of(connector, text, connection.settings, spoken),
        path=urls.path_of(template.path, activation) if template.path else "",
        query=[] if template.query is None else pairs(template.query, activation, "/query"),
        headers={},
    )
    draft.headers = _headers(template.headers, activation)
    fill(draft, template, activation)
    draft.default("Accept", "application/json")
    return draft


def _written(connector: Connector, draft: Draft, extra: Mapping[str, str]) -> Request:
    return Request(
        draft.method,
        draft.url(),
        _checked({**draft.headers, **extra}),
        draft.body(),
        timeout_seconds=connector.http.timeout_seconds,
        max_response_bytes=connector.http.max_response_bytes,
    )


def _method(text: str, activation: Mapping[str, Any]) -> str:
    method = text
    if text.startswith("${"):
        try:
            method = templates.parse(text).write(activation, str)
        except EvaluationError as lost:
            raise CannotBuild("data", lost.say, "/method") from lost
    if method not in METHODS:
        raise CannotBuild(
            "data", say("不支持这种请求方法", "This method is not used here"), "/method"
        )
    return method


def _headers(stated: Mapping[str, str], activation: Mapping[str, Any]) -> dict[str, str]:
    try:
        return {name: templates.parse(text).write(activation, str) for name, text in stated.items()}
    except EvaluationError as lost:
        raise CannotBuild("data", lost.say, "/headers") from lost


def _checked(headers: Mapping[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not _HEADER_VALUE.fullmatch(value) or len(value) > 8_000:
            raise CannotBuild(
                "config",
                say(f"请求头 {name} 含有不允许的字符", f"The header {name} holds bad characters"),
                "/headers",
            )
    return dict(headers)
