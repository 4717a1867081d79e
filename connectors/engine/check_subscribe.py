"""Rules about a trigger's `subscribe`: its requests compile, and its sample is read as ours."""

from collections.abc import Iterator

from connectors.engine import mapping, subscribing
from connectors.engine.check_manifest import (
    ANSWER,
    check_envelope,
    check_request,
    check_rules,
)
from connectors.engine.connector import Connector, Subscribe
from connectors.engine.findings import Finding, Problem, say
from connectors.engine.schemas import Schema
from connectors.engine.yaml_lines import Lines
from kernel import documents

_TEXT = {"type": "string"}
_HOOK: Schema = {
    "type": "object",
    "properties": dict.fromkeys(("url", "secret", "id", "topic", "page"), _TEXT),
}


def findings(connector: Connector, manifest: Lines) -> list[Finding]:
    """Return every mistake in how webhooks are ordered; what triggers share only once."""
    found: list[Finding] = []
    is_shared_done = False
    for key, trigger in connector.triggers.items():
        if trigger.subscribe is None:
            continue
        place = f"/triggers/{key}/subscribe"
        if "subscribe" not in manifest.value["triggers"][key]:
            place = "/defaults/trigger/subscribe"
            if is_shared_done:
                continue
            is_shared_done = True
        for at, problem in _problems(place, connector, trigger.subscribe):
            line = manifest.line(at + problem.target)
            found.append(Finding("C01", problem.say, "manifest.yaml", line, at + problem.target))
    return found


def _problems(place: str, connector: Connector, plan: Subscribe) -> Iterator[tuple[str, Problem]]:
    sources = {"settings": connector.settings, "input": plan.input, "hook": _HOOK}
    steps = {"create": plan.create, "delete": plan.delete, "list": plan.list, "renew": plan.renew}
    for name, request in steps.items():
        if request is not None:
            yield from check_request(f"{place}/{name}/request", request, sources, connector)
    for document, roots, name in (
        (plan.save, ANSWER, "create/save"),
        (plan.page, ANSWER | {"hook"}, "list"),
        (plan.match, frozenset({"item", "index"}), "match"),
    ):
        if document is not None:
            for wrong in mapping.check_mapping(document, None, None, roots):
                yield f"{place}/{name}", wrong
    yield from check_envelope(f"{place}/envelope", plan.envelope)
    yield from check_rules(f"{place}/errors", plan.errors)
    if plan.match is not None and subscribing.listed(plan, plan.sample) is None:
        text = say("match 读不出样例的编号和地址", "match reads no id and address in the sample")
        yield f"{place}/match", Problem("", text)
    asked = documents.dump([plan.create.json, plan.create.form, plan.create.query]).decode()
    if "hook.url" not in asked:
        text = say("create 里要用 ${hook.url}", "create must send ${hook.url}")
        yield f"{place}/create/request", Problem("", text)
