"""Rules about requests that are not HTTP: they name an operation, and give it what it takes."""

from collections.abc import Iterator

from connectors.engine import mapping, urls
from connectors.engine.connector import Connector, RequestTemplate
from connectors.engine.findings import Finding, Say, say
from connectors.engine.yaml_lines import Lines
from connectors.transports import operations


def findings(connector: Connector, manifest: Lines) -> list[Finding]:
    """Return every request of another transport that its transport does not know."""
    known = {"", *connector.http.bases}
    found = [
        Finding("C01", say(f"没有名为 {name} 的地址", f"There is no base {name}"), "manifest.yaml",
                manifest.line("/http/transports"), "/http/transports")
        for name in connector.http.transports
        if name not in known
    ]  # fmt: skip
    for place, request in _requests(connector):
        found += [
            Finding("C01", words, "manifest.yaml", manifest.line(place + at), place + at)
            for at, words in _wrong(connector, request)
        ]
    return found


def _requests(connector: Connector) -> Iterator[tuple[str, RequestTemplate]]:
    for key, action in connector.actions.items():
        yield f"/actions/{key}/request", action.request
    for key, step in connector.lifecycle.items():
        yield f"/lifecycle/{key}/request", step.request
    for key, trigger in connector.triggers.items():
        if trigger.reconcile is not None:
            part = "poll" if trigger.reconcile.every else "reconcile"
            yield f"/triggers/{key}/{part}/list/request", trigger.reconcile.request


def _wrong(connector: Connector, request: RequestTemplate) -> Iterator[tuple[str, Say]]:
    transport = urls.transport_of(connector, request.base)
    if transport == urls.HTTP:
        return
    schema = operations.schema_of(transport, request.path)
    if schema is None or request.method != "POST":
        known = "、".join(sorted(operations.OPERATIONS[transport]))
        yield (
            "/path",
            say(
                f"{transport} 只有这些操作，用 POST：{known}",
                f"{transport} has these operations, with POST: {known.replace('、', ', ')}",
            ),
        )
        return
    if request.form is not None or request.raw is not None or request.query:
        yield "", say("这里只能用 json", "Only json goes along here")
        return
    roots = frozenset({"input", "settings", "effect_key", "look", "organization", "installation",
                       "hook", "state", "item", "index"})  # fmt: skip
    for one in mapping.check_mapping(request.json or {"object": {}}, None, schema, roots):
        yield f"/json{one.target}", one.say
