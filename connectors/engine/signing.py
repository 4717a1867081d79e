"""Signing: a draft gets what proves who calls, over its parts exactly as they will be sent."""

from collections.abc import Mapping
from typing import Any

from connectors.engine.auth import CannotBuild
from connectors.engine.connector import ConnectionValues, Placement, Sign
from connectors.engine.drafts import Draft
from connectors.engine.findings import say
from kernel import clock
from webhooks import recipes
from webhooks.recipes import Pairs, Refused, Surroundings

# What the steps of a signature may read, and what stands in `request`.
ROOTS = frozenset({"request", "field", "settings", "token"})
REQUEST = (
    "method",
    "path",
    "target",
    "url",
    "host",
    "query",
    "form",
    "header",
    "headers",
    "body",
)
_PORTS = {"http": 80, "https": 443}


def sign(draft: Draft, how: Sign, connection: ConnectionValues) -> None:
    """Put a signature, and what takes part in it, into a draft; raises CannotBuild."""
    around = surroundings(connection)
    values: dict[str, Any] = {
        "field": connection.fields,
        "settings": connection.settings,
        "token": connection.token or {},
    }
    values = _run(how.first, values, around)
    _put(draft, how.before, values)
    values = _run(how.then, {**values, "request": facts(draft)}, around)
    _put(draft, how.put, values)


def surroundings(connection: ConnectionValues) -> Surroundings:
    """Return the clock and the random bytes of a signature; a fixture brings its own."""
    now = connection.moment or clock.now()
    given = connection.random
    if given is None:
        return Surroundings(now)
    return Surroundings(now, lambda size: (given * (size // len(given) + 1))[:size])


def facts(draft: Draft) -> dict[str, Any]:
    """Return the parts of a request as they are sent."""
    target = draft.target()
    port = "" if draft.base.port == _PORTS[draft.base.scheme] else f":{draft.base.port}"
    return {
        "method": draft.method,
        "path": target.partition("?")[0],
        "target": target,
        "url": draft.url(),
        "host": draft.base.host + port,
        "query": Pairs(draft.query),
        "form": Pairs(draft.form or ()),
        "header": Pairs((name.lower(), value) for name, value in draft.headers.items()),
        "headers": Pairs(draft.headers.items()),  # their names as they are sent
        "body": draft.body(),
    }


def _put(draft: Draft, placement: Placement, values: Mapping[str, Any]) -> None:
    parts = (
        ("header", placement.headers),
        ("query", placement.query),
        ("form", placement.form),
        ("json", placement.json),
    )
    for part, texts in parts:
        draft.put(part, {name: _text(text, values) for name, text in texts.items()})


def _text(template: str, values: Mapping[str, Any]) -> str:
    try:
        return recipes.text(template, values).decode()
    except (Refused, UnicodeDecodeError) as lost:
        raise _unfit(lost) from lost


def _run(steps: Any, values: Mapping[str, Any], around: Surroundings) -> dict[str, Any]:
    try:
        return recipes.run(steps, values, around)
    except Refused as lost:
        raise _unfit(lost) from lost


def _unfit(lost: Refused | UnicodeDecodeError) -> CannotBuild:
    why = lost.say if isinstance(lost, Refused) else {"zh": "", "en": ""}
    return CannotBuild(
        "auth",
        say(
            f"请求没有签成，请检查连接里的密钥：{why['zh']}",
            f"The request could not be signed; check the connection's keys: {why['en']}",
        ),
        "/sign",
    )
