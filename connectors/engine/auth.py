"""Credentials: where an auth's proof goes in a request, and how a client token is asked for."""

import base64
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from connectors.engine import templates
from connectors.engine.connector import Auth, ConnectionValues, Connector
from connectors.engine.findings import EngineError, Problem, Say, say
from connectors.engine.functions import EvaluationError

AUTH_ROOTS = frozenset({"field", "token", "settings"})
BEARER = {"Authorization": "Bearer ${token.access}"}


class CannotBuild(EngineError):  # noqa: N818 - it says what happened
    """A request cannot be made; `cause` is data, auth or config, `pointer` says where."""

    def __init__(
        self, cause: str, sentence: Say, pointer: str = "", problems: list[Problem] | None = None
    ) -> None:
        """Keep the cause, the place and, for data, every single problem."""
        super().__init__(sentence)
        self.cause, self.pointer = cause, pointer
        self.problems = problems or []


def chosen(connector: Connector, connection: ConnectionValues, wanted: str | None) -> Auth | None:
    """Return the auth a request uses; "none" and an unauthenticated connector give None."""
    if wanted == "none":
        return None
    found = connector.auth_by_id(wanted or connection.auth)
    if found is None and (wanted or connection.auth):
        name = wanted or connection.auth
        raise CannotBuild(
            "config", say(f"没有名为 {name} 的登录方式", f"There is no way to sign in named {name}")
        )
    return None if found is None or found.kind == "none" else found


def proof(auth: Auth | None, connection: ConnectionValues) -> tuple[dict[str, str], dict[str, str]]:
    """Return the (headers, query) that prove who calls; raises CannotBuild without credentials."""
    if auth is None:
        return {}, {}
    for name, field in auth.fields.items():
        if not field.is_optional and not connection.fields.get(name):
            raise CannotBuild(
                "auth",
                say(
                    f"连接缺少“{field.title['zh']}”，请重新连接",
                    f"The connection lacks “{field.title['en']}”; please connect again",
                ),
            )
    if auth.kind == "basic":
        return {"Authorization": _basic(connection.fields, "username", "password")}, {}
    headers = auth.headers
    if auth.kind == "oauth2_client":
        headers = headers or ({} if auth.query else BEARER)
        if not (connection.token or {}).get("access"):
            raise CannotBuild("auth", say("还没有取得访问令牌", "There is no access token yet"))
    activation = {
        "field": connection.fields,
        "token": connection.token or {},
        "settings": connection.settings,
    }
    return _write(headers, activation), _write(auth.query, activation)


def _write(texts: Mapping[str, str], activation: Mapping[str, Any]) -> dict[str, str]:
    try:
        return {
            name: templates.parse(text, AUTH_ROOTS).write(activation, str)
            for name, text in texts.items()
        }
    except EvaluationError as lost:
        # The sentence names the field, never its value.
        raise CannotBuild("auth", lost.say) from lost


def _basic(fields: Mapping[str, str], name: str, secret: str) -> str:
    pair = f"{fields.get(name, '')}:{fields.get(secret, '')}".encode()
    return "Basic " + base64.b64encode(pair).decode()


def token_form(auth: Auth, connection: ConnectionValues) -> tuple[dict[str, str], bytes]:
    """Return the (headers, form body) of a client credentials request (RFC 6749, 4.4)."""
    stated = auth.token or {}
    form = {"grant_type": "client_credentials"}
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    if "scope" in stated:
        form["scope"] = _write({"scope": stated["scope"]}, {"settings": connection.settings})[
            "scope"
        ]
    if stated.get("client_auth", "basic") == "body":
        form["client_id"] = connection.fields.get("client_id", "")
        form["client_secret"] = connection.fields.get("client_secret", "")
    else:
        headers["Authorization"] = _basic(connection.fields, "client_id", "client_secret")
    return headers, urlencode(form).encode()
