"""Rules about a manifest's ways to sign in: token steps, signatures, consent, placements."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from connectors.engine import mapping, signing, templates
from connectors.engine.auth import AUTH_ROOTS
from connectors.engine.check_manifest import (
    ANSWER,
    check_envelope,
    check_request,
    check_rules,
    check_text,
)
from connectors.engine.connector import Auth, Connector, Placement, Sign, TokenStep
from connectors.engine.findings import Finding, Problem, say
from connectors.engine.schemas import Schema
from connectors.engine.tokens import BadExpression
from connectors.engine.yaml_lines import Lines
from webhooks import recipes

CONSENT = ("code", "redirect_uri", "verifier")
Found = Iterator[tuple[str, Problem]]


def findings(connector: Connector, manifest: Lines) -> list[Finding]:
    """Return every mistake in how an app lets its callers in."""
    return [
        Finding("C01", problem.say, "manifest.yaml", manifest.line(place + problem.target), place)
        for position, way in enumerate(connector.auth)
        for place, problem in _problems(f"/auth/{position}", way, connector)
    ] + [
        Finding("C01", problem.say, "manifest.yaml", manifest.line(place), place)
        for place, problem in stream(connector)
    ]


def stream(connector: Connector) -> Found:
    """Return what is wrong with how an app is listened to."""
    if connector.stream is None:
        return
    step, way = connector.stream.open, connector.auth_by_id(None)
    if way is None or {"endpoint", "ticket"} - _saved(step):
        text = say(
            "stream.open 要保存 endpoint 和 ticket，且应用要有登录方式",
            "stream.open must save endpoint and ticket, of an app with a way to sign in",
        )
        yield "/stream/open", Problem("", text)
        return
    yield from _step("/stream/open", step, way, connector, set())


def _problems(place: str, way: Auth, connector: Connector) -> Found:
    if way.kind == "api_key" and not _texts(way):
        yield place, Problem("", say("api_key 需要 apply", "api_key needs apply"))
    if way.kind == "oauth2_client" and way.token is None:
        yield place, Problem("", say("oauth2_client 需要 token", "oauth2_client needs token"))
    for text in _texts(way):
        yield from check_text(f"{place}/apply", text, AUTH_ROOTS)
        yield from _fields_read(f"{place}/apply", text, way)
    for name in way.at:
        if name not in connector.http.bases:
            words = say(f"没有名为 {name} 的地址", f"There is no base {name}")
            yield f"{place}/apply/at", Problem("", words)
    names = set(CONSENT if way.kind == "oauth2_code" else ())
    for number, step in enumerate(way.steps):
        yield from _step(f"{place}/token/steps/{number}", step, way, connector, names)
        names |= _saved(step)
    if way.has_token and way.steps and not names - set(CONSENT):
        yield f"{place}/token", Problem("", say("没有保存任何令牌", "No step saves a token"))
    for number, step in enumerate(way.refresh):
        yield from _step(f"{place}/refresh/steps/{number}", step, way, connector, names)
    if way.sign is not None:
        yield from _sign(place, way.sign, way, connector, names)
    if way.authorize is not None:
        yield from _consent(place, way)
    if way.identity is not None:
        for said in (way.identity.account, way.identity.label):
            yield from check_text(f"{place}/identity", said, ANSWER | {"token"})
    if way.identity is not None and way.identity.request is not None:
        sources = {"settings": connector.settings}
        request = way.identity.request
        yield from check_request(f"{place}/identity/request", request, sources, connector)
        yield from check_envelope(f"{place}/identity/envelope", way.identity.envelope)


def _texts(way: Auth) -> list[str]:
    places = (Placement(way.headers, way.query, way.form, way.json), *way.at.values())
    return [text for place in places for text in _of(place)]


def _of(place: Placement) -> list[str]:
    parts = (place.headers, place.query, place.form, place.json)
    return [text for part in parts for text in part.values()]


def _fields_read(at: str, text: str, way: Auth) -> Found:
    try:
        expressions = templates.parse(text, AUTH_ROOTS).expressions
    except BadExpression:
        return
    for expression in expressions:
        for path, _ in expression.paths():
            steps = path.steps
            if steps[0] == "field" and len(steps) > 1 and steps[1] not in way.fields:
                words = say(f"未声明的字段 {steps[1]}", f"The field {steps[1]} is not declared")
                yield at, Problem("", words)


def _saved(step: TokenStep) -> set[str]:
    return set(step.save["object"]["save"]["object"])


def _step(place: str, step: TokenStep, way: Auth, connector: Connector, names: set[str]) -> Found:
    text = {"type": "string"}
    sources: dict[str, Schema] = {
        "settings": connector.settings,
        "field": {"type": "object", "properties": dict.fromkeys(way.fields, text)},
        "token": {"type": "object", "properties": dict.fromkeys(sorted(names | {"refresh"}), text)},
    }
    yield from check_request(f"{place}/request", step.request, sources, connector)
    yield from check_envelope(f"{place}/envelope", step.envelope)
    yield from check_rules(f"{place}/errors", step.errors)
    for wrong in mapping.check_mapping(step.save, None, None, ANSWER):
        yield f"{place}/save", wrong
    if step.sign is not None:
        yield from _sign(f"{place}/sign", step.sign, way, connector, names)


def _sign(place: str, how: Sign, way: Auth, connector: Connector, names: set[str]) -> Found:
    owners: dict[str, Any] = {
        "field": frozenset(way.fields),
        "settings": frozenset(connector.settings.get("properties", {})),
        "token": frozenset(names),
    }
    every = {**owners, "request": frozenset(signing.REQUEST)}
    steps = [*how.first, *how.then]
    yield from _recipe(f"{place}/sign/steps", recipes.check(steps, every))
    made = {str(step["as"]): None for step in how.first if "as" in step}
    for text in _of(how.before):
        yield from _recipe(f"{place}/before", recipes.check_text(text, {**owners, **made}))
    made = {str(step["as"]): None for step in steps if "as" in step}
    for text in _of(how.put):
        yield from _recipe(f"{place}/sign/put", recipes.check_text(text, {**every, **made}))


def _recipe(place: str, found: Sequence[tuple[str, Mapping[str, str]]]) -> Found:
    for pointer, words in found:
        yield place + pointer, Problem("", dict(words))


def _consent(place: str, way: Auth) -> Found:
    assert way.authorize is not None
    for text in (way.authorize.url, *way.authorize.params.values()):
        yield from check_text(f"{place}/authorize", text, frozenset({"field", "settings"}))
        yield from _fields_read(f"{place}/authorize", text, way)
    if "client_id" not in way.fields:
        words = say("oauth2_code 需要字段 client_id", "oauth2_code needs a field client_id")
        yield f"{place}/fields", Problem("", words)
