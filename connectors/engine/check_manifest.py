"""Rules about a manifest beyond its contract: templates, hosts, and samples that fit."""

import re
from collections.abc import Iterator, Mapping

from catalog import event_types
from connectors.engine import (
    call_budgets,
    check_parts,
    check_repeats,
    deliveries,
    mapping,
    schemas,
    templates,
    triggers,
    urls,
)
from connectors.engine.auth import CannotBuild
from connectors.engine.connector import (
    Connector,
    Envelope,
    ErrorRule,
    RequestTemplate,
    Trigger,
)
from connectors.engine.findings import EngineError, Finding, Problem, say
from connectors.engine.schemas import Schema
from connectors.engine.tokens import BadExpression
from connectors.engine.yaml_lines import Lines

_TEXT = {"type": "string"}
_IN_PATH = re.compile(r"[A-Za-z0-9/:@!$&'()*+,;=._~%-]")
_FACTS: dict[str, Schema] = {
    "effect_key": _TEXT,
    "organization": {"type": "object", "properties": {"id": _TEXT, "name": _TEXT}},
    "installation": {"type": "object", "properties": {"id": _TEXT}},
    "hook": {"type": "object", "properties": {"url": _TEXT}},
    "state": {"type": "object", "additionalProperties": True},
}
ANSWER = frozenset({"body", "data", "header", "status"})


def findings(connector: Connector, manifest: Lines) -> list[Finding]:
    """Return every template that does not compile or reads what is not there."""
    found = [
        Finding("C01", problem.say, "manifest.yaml", manifest.line(place + problem.target), place)
        for place, problem in _problems(connector)
    ]
    return found + [
        Finding("C01", sentence, "manifest.yaml", manifest.line(place), place)
        for place, sentence in deliveries.findings(connector, manifest.value)
    ]


def _problems(connector: Connector) -> Iterator[tuple[str, Problem]]:
    settings = {"settings": connector.settings}
    yield from check_text("/http/base", connector.http.base, frozenset({"settings"}))
    yield from check_envelope("/http/envelope", connector.http.envelope)
    yield from check_rules("/http/errors", connector.http.errors)
    for name, text in connector.http.bases.items():
        yield from check_text(f"/http/bases/{name}", text, frozenset({"settings"}))
    for one in call_budgets.problems(connector.http.budgets, connector.actions):
        yield f"/http/budgets{one.target}", Problem("", one.say)
    for key, action in connector.actions.items():
        sources: dict[str, Schema] = {**settings, "input": action.input, "effect_key": _TEXT}
        if action.is_in_parts:
            sources["look"] = check_parts.look_schema(action)
        place = f"/actions/{key}"
        yield from check_request(f"{place}/request", action.request, sources, connector)
        yield from check_envelope(f"{place}/envelope", action.envelope)
        yield from check_rules(f"{place}/errors", action.errors)
        if action.result is not None:
            target = action.output
            roots = ANSWER | {"item", "index"} | ({"look"} if action.pages else frozenset())
            wrong = mapping.check_mapping(action.result, None, target, roots)
            yield from ((f"{place}/result", one) for one in wrong)
        yield from check_repeats.problems(f"{place}/idempotency", action, connector)
        yield from check_parts.problems(place, action)
    for key, step in connector.lifecycle.items():
        place = f"/lifecycle/{key}"
        yield from check_request(
            f"{place}/request", step.request, {**_FACTS, **settings}, connector
        )
        yield from check_envelope(f"{place}/envelope", step.envelope)
        wrong = mapping.check_mapping(step.save, None, None, ANSWER)
        yield from ((f"{place}/save", one) for one in wrong)


def check_request(
    place: str, request: RequestTemplate, sources: Mapping[str, Schema], connector: Connector
) -> Iterator[tuple[str, Problem]]:
    """Return what is wrong with a request's templates over some sources."""
    roots = frozenset(sources) | {"item", "index"}
    for part, document in (
        ("path", request.path),
        ("method", request.method),
        ("query", request.query),
        ("headers", {"object": dict(request.headers)}),
        ("json", request.json),
        ("form", request.form),
        ("raw", request.raw.text if request.raw else None),
    ):
        for problem in mapping.check_mapping(document, sources, None, roots):
            yield f"{place}/{part}", problem
    yield from _check_path(f"{place}/path", request.path)
    if request.auth not in (None, "none") and connector.auth_by_id(request.auth) is None:
        text = say(f"没有名为 {request.auth} 的登录方式", f"There is no auth {request.auth}")
        yield f"{place}/auth", Problem("", text)
    if request.base is not None and request.base not in connector.http.bases:
        text = say(f"没有名为 {request.base} 的地址", f"There is no base {request.base}")
        yield f"{place}/base", Problem("", text)


def _check_path(place: str, text: str) -> Iterator[tuple[str, Problem]]:
    """Return what a path holds that no web address may: only `${…}` is encoded for its author."""
    try:
        pieces = templates.parse(text).pieces
    except BadExpression:
        return  # told already
    plain = "".join(piece for piece in pieces if isinstance(piece, str))
    bad = sorted({letter for letter in plain if not _IN_PATH.fullmatch(letter)})
    if bad:
        shown = " ".join(f"%{byte:02X}" for letter in bad for byte in letter.encode())
        yield (
            place,
            Problem(
                "",
                say(
                    f"路径里不能直接写“{''.join(bad)}”，请写成 {shown}",
                    f"A path may not hold “{''.join(bad)}” as it is; write {shown}",
                ),
                text,
            ),
        )


def check_text(
    place: str, text: str | None, roots: frozenset[str]
) -> Iterator[tuple[str, Problem]]:
    if text is None:
        return
    try:
        templates.parse(text, roots)
    except BadExpression as bad:
        yield place, Problem("", bad.say, text)


def check_envelope(place: str, envelope: Envelope) -> Iterator[tuple[str, Problem]]:
    """Return what is wrong with how an app wraps its answers."""
    for text in (envelope.ok, envelope.data, envelope.error):
        yield from check_text(place, text, ANSWER)


def check_rules(place: str, rules: tuple[ErrorRule, ...]) -> Iterator[tuple[str, Problem]]:
    """Return what is wrong with error rules."""
    for position, rule in enumerate(rules):
        after = rule.after if isinstance(rule.after, str) else None
        yield from check_text(f"{place}/{position}/after", after, ANSWER)
        test = rule.when.get("test")
        yield from check_text(f"{place}/{position}/when", test, ANSWER)
        for name in rule.when:
            if name.startswith("body."):
                yield from check_text(f"{place}/{position}/when", "${" + name + "}", ANSWER)


def hosts(connector: Connector, manifest: Lines) -> list[Finding]:
    """Return addresses that are neither fixed nor a declared setting."""
    found: list[Finding] = []

    def refuse(at: str, zh: str, en: str) -> None:
        found.append(Finding("C09", say(zh, en), "manifest.yaml", manifest.line(at), at))

    properties = connector.settings.get("properties", {})
    for name in connector.settings_hosts:
        if schemas.kinds(properties.get(name)) != {"string"}:
            refuse(
                "/connector/settings_hosts",
                f"settings_hosts 里的 {name} 须是一个文本设置",
                f"{name} in settings_hosts must be a text setting",
            )
    for at, text in _addresses(connector):
        head = text.partition("}")[0]
        if any(text.startswith("${settings." + name + "}") for name in connector.settings_hosts):
            continue
        if "${" in text:
            refuse(
                at,
                f"主机不能来自 {head}}}；请写固定的主机，或在 settings_hosts 里声明这个设置",
                f"The host may not come from {head}}}; fix it or declare it in settings_hosts",
            )
            continue
        try:
            base = urls.parse_base(text, urls.transport_of(connector, _base_name(at)))
        except CannotBuild as no:
            refuse(at, no.say["zh"], no.say["en"])
            continue
        if not urls.is_allowed(connector, base, {}):
            refuse(
                at,
                f"{base.host} 不在 connector.hosts 里（只允许 https 的 443 端口）",
                f"{base.host} is not in connector.hosts (https on port 443 only)",
            )
    return found


def _base_name(at: str) -> str | None:
    return at.removeprefix("/http/bases/") if at.startswith("/http/bases/") else None


def _addresses(connector: Connector) -> Iterator[tuple[str, str]]:
    """Return every address that is called, with its place."""
    yield "/http/base", connector.http.base
    for name, text in connector.http.bases.items():
        yield f"/http/bases/{name}", text
    for position, auth in enumerate(connector.auth):
        if auth.authorize:
            yield f"/auth/{position}/authorize/url", auth.authorize.url
        for part, steps in (("token", auth.steps), ("refresh", auth.refresh)):
            for step in steps:
                if step.request.url:
                    yield f"/auth/{position}/{part}/url", step.request.url


def canonical(trigger: Trigger) -> event_types.EventType | None:
    """Return the hub's own event type a trigger emits, if it is one."""
    return event_types.built_in().get((trigger.event, trigger.version))


def schema_of(trigger: Trigger) -> Schema | None:
    """Return the schema of a trigger's data: its own, else the hub's for that event type."""
    if trigger.schema is not None:
        return trigger.schema
    known = canonical(trigger)
    return known.schema if known is not None else None


def samples(connector: Connector, manifest: Lines) -> list[Finding]:
    """Return samples that do not fit their schema."""
    found: list[Finding] = []

    def refuse(at: str, wrong: list[Problem]) -> None:
        found.extend(
            Finding(
                "C11", one.say, "manifest.yaml", manifest.line(at + one.target), at + one.target
            )
            for one in wrong
        )

    for key, action in connector.actions.items():
        for side, schema in (("input", action.input), ("output", action.output)):
            at = f"/actions/{key}/sample/{side}"
            refuse(at, schemas.problems(schema, action.sample.get(side)))
    for key, trigger in connector.triggers.items():
        at = f"/triggers/{key}/sample"
        if not trigger.sample:
            refuse(at, [Problem("", say("触发器缺少样例", "The trigger has no sample"))])
            continue
        refuse(at, _sample_problems(connector, trigger))
    return found


def _sample_problems(connector: Connector, trigger: Trigger) -> list[Problem]:
    if deliveries.uses_recipe(trigger):
        return deliveries.sample_problems(trigger, schema_of(trigger))
    headers, raw = triggers.sample_delivery(connector, trigger.key)
    try:
        fired = triggers.read(trigger, headers, raw)
    except EngineError as no:
        return [Problem("", no.say)]
    schema = schema_of(trigger)
    wrong: list[Problem] = []
    for one in fired:
        if not triggers.matches(trigger, one.type):
            text = say(
                f"样例的类型读作 {one.type}，触发器写的是 {trigger.event}：请改 event 或 type_from",
                f"The sample's type reads as {one.type}, but the trigger says {trigger.event}: "
                "correct event or type_from",
            )
            wrong.append(Problem("/body", text))
        if schema is not None:
            wrong += schemas.problems(schema, one.data, f"/body{trigger.data or ''}")
    return wrong
