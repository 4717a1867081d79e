"""Requests: an action and its input become one prepared HTTP request; nothing is sent here."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from connectors.engine import auth, mapping, schemas, templates, urls
from connectors.engine.auth import CannotBuild
from connectors.engine.connector import (
    Action,
    ConnectionValues,
    Connector,
    Reconcile,
    RequestTemplate,
)
from connectors.engine.findings import Problem, say
from connectors.engine.functions import EvaluationError
from kernel import documents
from kernel.http import Request

__all__ = [
    "CannotBuild",
    "action_of",
    "build",
    "build_lifecycle",
    "build_list",
    "build_redelivery",
    "build_token",
]

METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE"}
MAX_BODY_BYTES = 1 << 20
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
) -> Request:
    """Return the request of an action; raises CannotBuild with cause data, auth or config."""
    action = action_of(connector, action_key)
    wrong = schemas.problems(action.input, input, "/input")
    if wrong:
        raise CannotBuild("data", _first(wrong), wrong[0].target, wrong)
    activation = {"input": input, "settings": connection.settings, "effect_key": effect_key}
    extra = {action.idempotency_header: effect_key} if action.idempotency_header else {}
    request = _request(connector, action.request, connection, activation, extra)
    return replace(request, may_repeat=action.is_idempotent)


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


def build_token(connector: Connector, connection: ConnectionValues) -> Request | None:
    """Return the request for a client token, or None when the auth has no token step."""
    way = auth.chosen(connector, connection, None)
    if way is None or way.token is None:
        return None
    base = urls.base_of(connector, way.token["url"], connection.settings)
    headers, body = auth.token_form(way, connection)
    return Request("POST", base.text, headers, body, timeout_seconds=15)


def _first(wrong: list[Problem]) -> dict[str, str]:
    at = wrong[0].target.removeprefix("/input") or "/"
    return say(f"{at}：{wrong[0].say['zh']}", f"{at}: {wrong[0].say['en']}")


def _request(
    connector: Connector,
    template: RequestTemplate,
    connection: ConnectionValues,
    activation: Mapping[str, Any],
    extra: Mapping[str, str],
) -> Request:
    base = urls.base_of(connector, connector.http.base, connection.settings)
    path = urls.path_of(template.path, activation)
    query = urls.query_of(template.query, activation)
    way = auth.chosen(connector, connection, template.auth)
    proof_headers, proof_query = auth.proof(way, connection)
    body = _body(template.json, activation)
    headers = _headers(template.headers, activation)
    if body:
        headers.setdefault("Content-Type", "application/json")
    headers.setdefault("Accept", "application/json")
    return Request(
        _method(template.method, activation),
        urls.join(base, path, query + list(proof_query.items())),
        _checked({**headers, **extra, **proof_headers}),
        body,
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


def _body(document: Any, activation: Mapping[str, Any]) -> bytes:
    if document is None:
        return b""
    try:
        value = mapping.prepare_once(document).apply(activation)
        body = b"" if value is None else documents.dump(value)
    except mapping.MappingError as lost:
        raise CannotBuild("data", lost.say, lost.problems[0].target, lost.problems) from lost
    if len(body) > MAX_BODY_BYTES:
        raise CannotBuild("data", say("请求内容超过 1 MiB", "The request is over 1 MiB"))
    return body
