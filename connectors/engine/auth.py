"""Credentials: which way to sign in a request uses, and where its proof goes."""

import base64
from collections.abc import Mapping
from typing import Any

from connectors.engine import templates
from connectors.engine.connector import Auth, ConnectionValues, Connector, Placement
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


def proof(
    auth: Auth | None, connection: ConnectionValues, base: str | None = None
) -> dict[str, dict[str, str]]:
    """Return what proves who calls, by part: header, query, form, json; raises CannotBuild.

    `base` is the named address that is called; some take the proof elsewhere.
    """
    if auth is None:
        return {}
    check_fields(auth, connection)
    if auth.kind == "basic":
        return {"header": {"Authorization": basic(connection.fields, "username", "password")}}
    place = auth.at.get(base or "") or Placement(auth.headers, auth.query, auth.form, auth.json)
    headers = place.headers
    if auth.kind == "oauth2_client" and not (headers or place.query or place.form or place.json):
        headers = BEARER
    if auth.has_token and not connection.token:
        raise CannotBuild("auth", say("还没有取得访问令牌", "There is no access token yet"))
    activation = {
        "field": connection.fields,
        "token": connection.token or {},
        "settings": connection.settings,
    }
    parts = {"header": headers, "query": place.query, "form": place.form, "json": place.json}
    return {part: _write(texts, activation) for part, texts in parts.items() if texts}


def check_fields(auth: Auth, connection: ConnectionValues) -> None:
    """Refuse (CannotBuild) a connection that lacks one of the fields of its way to sign in."""
    for name, field in auth.fields.items():
        if not field.is_optional and not connection.fields.get(name):
            raise CannotBuild(
                "auth",
                say(
                    f"连接缺少“{field.title['zh']}”，请重新连接",
                    f"The connection lacks “{field.title['en']}”; please connect again",
                ),
            )


def _write(texts: Mapping[str, str], activation: Mapping[str, Any]) -> dict[str, str]:
    try:
        return {
            name: templates.parse(text, AUTH_ROOTS).write(activation, str)
            for name, text in texts.items()
        }
    except EvaluationError as lost:
        # The sentence names the field, never its value.
        raise CannotBuild("auth", lost.say) from lost


def basic(fields: Mapping[str, str], name: str, secret: str) -> str:
    """Return the header value of HTTP Basic for two of the connection's fields."""
    pair = f"{fields.get(name, '')}:{fields.get(secret, '')}".encode()
    return "Basic " + base64.b64encode(pair).decode()
